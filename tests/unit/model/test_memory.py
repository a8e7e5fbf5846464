"""The arithmetic of weights and KV cache, against published parameter counts and against what servers printed."""

from __future__ import annotations

import pytest
from ansible.module_utils.plumbline.core.fact import Measurement
from ansible.module_utils.plumbline.model import memory as model_memory
from ansible.module_utils.plumbline.serving import log as vllm_log
from project import CAPTURES

GIB = 2**30
# nvidia-smi's memory.total: H100 80 GB, H200 (tests/captures/h200/nvidia-smi.q.xml).
H100, H200 = 81559 * 2**20, 143771 * 2**20


def config(name, layers, hidden, heads, kv_heads, intermediate, vocab, **more):
    return {
        "architectures": [name + "ForCausalLM"],
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "intermediate_size": intermediate,
        "vocab_size": vocab,
        "tie_word_embeddings": False,
        "torch_dtype": "bfloat16",
        **more,
    }


def qwen(*sizes, **more):
    # Qwen2 writes a window and does not use it.
    return config("Qwen2", *sizes, sliding_window=131072, use_sliding_window=False, **more)


QWEN_05B = qwen(24, 896, 14, 2, 4864, 151936, tie_word_embeddings=True)
QWEN_7B = qwen(28, 3584, 28, 4, 18944, 152064)
QWEN_32B = qwen(64, 5120, 40, 8, 27648, 152064)
QWEN_72B = qwen(80, 8192, 64, 8, 29568, 152064)
LLAMA_8B = config("Llama", 32, 4096, 32, 8, 14336, 128256)
MISTRAL_7B = config("Mistral", 32, 4096, 32, 8, 14336, 32768, sliding_window=None)
QWEN3_8B = config("Qwen3", 36, 4096, 32, 8, 12288, 151936, head_dim=128, attention_bias=False)
TINY = qwen(4, 128, 4, 2, 256, 1024)


@pytest.mark.parametrize(
    ("model", "billions"),
    [
        (QWEN_05B, 0.494),
        (QWEN_7B, 7.616),
        (QWEN_32B, 32.764),
        (QWEN_72B, 72.706),
        (LLAMA_8B, 8.030),
        (MISTRAL_7B, 7.248),
        (QWEN3_8B, 8.191),
    ],
)
def test_parameters_are_the_published_ones(model, billions):
    weights = model_memory.weight_bytes(model)
    assert weights["parameters"] / 1e9 == pytest.approx(billions, abs=0.0006)
    assert weights["total_bytes"] == 2 * weights["parameters"]


def test_a_token_reads_all_but_the_input_table_unless_it_is_the_output_layer_too():
    untied, tied = model_memory.weight_bytes(QWEN_7B), model_memory.weight_bytes(QWEN_05B)
    assert untied["total_bytes"] - untied["read_per_token_bytes"] == untied["embedding_bytes"] == 152064 * 3584 * 2
    assert tied["read_per_token_bytes"] == tied["total_bytes"] > tied["embedding_bytes"]


def test_an_h200_did_not_read_faster_than_its_memory():
    # Measured there with 7B: 4.68 ms a token; a plain copy read 4322 GB/s.
    rate_gbps = model_memory.weight_bytes(QWEN_7B)["read_per_token_bytes"] / 4.68e-3 / 1e9
    assert 0.5 * 4322 < rate_gbps < 4322


def test_dtype_of_weights_and_cache():
    assert model_memory.weight_bytes(TINY, "float32")["total_bytes"] == 2 * model_memory.weight_bytes(TINY)["total_bytes"]
    assert model_memory.weight_bytes({**TINY, "torch_dtype": "float32"}) == model_memory.weight_bytes(TINY), "auto serves it in 16 bits"
    assert model_memory.weight_bytes({**{k: v for k, v in TINY.items() if k != "torch_dtype"}, "dtype": "bfloat16"})
    assert model_memory.kv_bytes_per_token(QWEN_72B) == 327680
    assert model_memory.kv_bytes_per_token(QWEN_72B, "fp8") == 163840
    assert model_memory.kv_bytes_per_token(TINY, "auto", "float32") == 2048


@pytest.mark.parametrize(
    ("log", "model", "dtype"),
    [
        ("h200/vllm-0.25.0.serve.qwen2.5-7b.cold.log", QWEN_7B, "float16"),
        ("h200/vllm-0.25.0.serve.qwen2.5-7b.warm.log", QWEN_7B, "float16"),
        ("h200/vllm-0.25.0.serve.qwen2.5-72b.log", QWEN_72B, "float16"),
        ("cpu/vllm-0.32.0.serve.tp1.log", TINY, "bfloat16"),
    ],
)
def test_real_servers_agree(log, model, dtype):
    measured, context = vllm_log.startup((CAPTURES / log).read_text())
    check, status, seen, threshold, remedy = model_memory.check_kv(measured, model, dtype, kv_dtype=context["kv_cache_dtype"])
    assert (check, status, remedy) == ("serve.kv_arithmetic", "healthy", None)
    assert "%s tokens" % format(measured["kv_cache_tokens"], ",") in seen
    assert "%s bytes" % format(model_memory.kv_bytes_per_token(model), ",") in threshold
    if "model_gib" in measured:
        # What loading takes on top of the weights: rotary tables and the allocator's rounding.
        assert 0 <= measured["model_gib"] - model_memory.per_rank(model, dtype)["weight_bytes"] / GIB < 0.2


@pytest.mark.parametrize(("tp", "gib", "tokens", "weights_gib"), [(4, 32.87, 430800, 34.01), (8, 49.6, 1300000, None)])
def test_published_start_of_72b_agrees(tp, gib, tokens, weights_gib):
    reason = model_memory.check_kv({"kv_cache_gib": gib, "kv_cache_tokens": tokens}, QWEN_72B, "float16", tp)
    assert reason[1] == "healthy"
    if weights_gib:
        assert 0 <= weights_gib - model_memory.per_rank(QWEN_72B, "float16", tp)["weight_bytes"] / GIB < 0.2


@pytest.mark.parametrize(
    "how",
    [{"tp": 4}, {"tp": 8}, {"kv_dtype": "fp8"}, {"dtype": "float32"}, {"tp": 4, "pp": 2, "kv_dtype": "fp8"}],
)
def test_another_cache_than_the_layout_says_is_seen(how):
    reason = model_memory.check_kv({"kv_cache_gib": 112.98, "kv_cache_tokens": 2115440}, QWEN_32B, **how)
    measurement = Measurement("startup", "layout")
    measurement.add(*reason)
    assert measurement.fact()["status"] == "degraded"
    assert "57,346 bytes a token" in reason[2] and reason[4]


def test_nothing_printed_is_no_verdict():
    assert model_memory.check_kv({"kv_cache_gib": 1.0}, TINY) is None
    assert model_memory.check_kv({}, TINY) is None


def test_unequal_stages_bound_the_tokens_from_both_sides():
    # 80 layers in stages of 27, 27, 26: 13,824 and 13,312 bytes a token at TP8.
    for tokens, status in ((int(20 * GIB / 13824), "healthy"), (int(20 * GIB / 13312), "healthy"), (int(20 * GIB / 12800), "degraded")):
        assert model_memory.check_kv({"kv_cache_gib": 20.0, "kv_cache_tokens": tokens}, QWEN_72B, tp=8, pp=3)[1] == status


@pytest.mark.parametrize(
    ("layers", "pp", "stages"),
    [(80, 1, [80]), (80, 2, [40, 40]), (80, 3, [27, 27, 26]), (28, 3, [9, 10, 9]), (30, 4, [7, 8, 8, 7]), (5, 2, [3, 2]), (4, 4, [1] * 4)],
)
def test_layers_are_split_as_vllm_splits_them(layers, pp, stages):
    assert model_memory.pipeline_layers(layers, pp) == stages


def test_stages_hold_the_whole_model_once():
    whole = model_memory.weight_bytes(QWEN_7B)["total_bytes"]
    stages = model_memory.per_rank(QWEN_7B, pp=3)["stages"]
    assert sum(stage["weight_bytes"] for stage in stages) == whole, "152064 is a multiple of 64: nothing is padded"
    assert [stage["layers"] for stage in stages] == [9, 10, 9]
    # The last stage has the final norm besides its table.
    assert stages[2]["weight_bytes"] - stages[0]["weight_bytes"] == 3584 * 2


def test_tied_table_is_on_the_first_and_the_last_stage():
    whole = model_memory.weight_bytes(QWEN_05B)
    assert model_memory.per_rank(QWEN_05B)["weight_bytes"] == whole["total_bytes"]
    stages = model_memory.per_rank(QWEN_05B, pp=2)["stages"]
    assert sum(stage["weight_bytes"] for stage in stages) == whole["total_bytes"] + whole["embedding_bytes"]


def test_more_ranks_than_kv_heads_hold_copies():
    at8, at16 = (model_memory.per_rank(QWEN_72B, tp=tp) for tp in (8, 16))
    assert at8["kv_bytes_per_token"] == at16["kv_bytes_per_token"] == 327680 // 8
    assert at16["weight_bytes"] > at8["weight_bytes"] / 2


def test_vocabulary_is_padded_to_a_multiple_of_64():
    padded = {**TINY, "vocab_size": 1025}
    assert model_memory.per_rank(padded)["weight_bytes"] - model_memory.per_rank(TINY)["weight_bytes"] == 2 * 64 * 128 * 2


def test_fit_says_it_with_the_numbers():
    said = model_memory.fit(QWEN_72B, "float16", 4, 1, H100, 0.9, 2048)
    assert said["fits"] and said["fits_without_overhead"]
    assert said["kv_cache_tokens"] == pytest.approx(430800, rel=0.01), "what vLLM 0.17 found there"
    assert said["sentence"] == (
        "weights 33.86 GiB of the 71.7 GiB a GPU gives (79.6 GiB x 0.9), 5.0 GiB estimated for activations, graphs and buffers; "
        "32.8 GiB left for KV = 430,236 tokens; one request of 2,048 needs 0.16 GiB"
    )


def test_fit_is_near_and_not_above_what_an_h200_had_left():
    said = model_memory.fit(QWEN_7B, "float16", 1, 1, H200, 0.92, 2048)
    assert 0.97 * 2115440 < said["kv_cache_tokens"] <= 2115440


@pytest.mark.parametrize(
    ("tp", "pp", "gpu", "utilization", "length", "fits", "certain"),
    [
        (1, 1, H200, 0.9, 2048, False, True),
        # It did start on one H200, eager, with 2.76 GiB: only the estimate speaks against it.
        (1, 1, H200, 0.992, 1024, False, False),
        (2, 1, H100, 0.9, 2048, False, False),
        (1, 2, H100, 0.9, 2048, False, False),
        (2, 2, H100, 0.9, 2048, True, False),
        (8, 1, H100, 0.9, 2**21, False, True),
    ],
)
def test_what_does_not_fit(tp, pp, gpu, utilization, length, fits, certain):
    said = model_memory.fit(QWEN_72B, "float16", tp, pp, gpu, utilization, length)
    assert said["fits"] is fits and said["fits_without_overhead"] is not certain
    assert ("nothing left for KV" in said["sentence"]) == (said["kv_cache_bytes"] == 0)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"architectures": ["MixtralForCausalLM"]}, "MixtralForCausalLM"),
        ({"architectures": None}, "architectures"),
        ({"quantization_config": {"quant_method": "fp8"}}, "quantization_config"),
        ({"use_sliding_window": True}, "sliding_window"),
        ({"layer_types": ["full_attention", "sliding_attention"]}, "sliding_attention"),
        ({"num_key_value_heads": None}, "num_key_value_heads"),
        ({"hidden_size": 130}, "hidden_size 130"),
        ({"torch_dtype": "float8_e4m3fn"}, "torch_dtype"),
        ({"torch_dtype": None}, "torch_dtype"),
        ({"num_hidden_layers": True}, "num_hidden_layers"),
    ],
)
def test_unknown_models_are_refused_by_name(change, said):
    with pytest.raises(model_memory.UnknownModel, match=said):
        model_memory.weight_bytes({**TINY, **change})


def test_unknown_cache_and_windowed_mistral_are_refused():
    with pytest.raises(model_memory.UnknownModel, match="nvfp4"):
        model_memory.kv_bytes_per_token(TINY, "nvfp4")
    with pytest.raises(model_memory.UnknownModel, match="int8"):
        model_memory.weight_bytes(TINY, "int8")
    with pytest.raises(model_memory.UnknownModel, match="4096"):
        model_memory.kv_bytes_per_token({**MISTRAL_7B, "sliding_window": 4096})


@pytest.mark.parametrize(
    ("model", "tp", "pp", "said"),
    [
        (QWEN_7B, 3, 1, "num_attention_heads 28"),
        (QWEN_7B, 14, 1, "no multiple of num_key_value_heads 4"),
        (TINY, 1, 5, "num_hidden_layers 4"),
    ],
)
def test_impossible_layouts_are_refused_with_the_number(model, tp, pp, said):
    with pytest.raises(model_memory.ImpossibleLayout, match=said):
        model_memory.per_rank(model, tp=tp, pp=pp)


def test_old_llama_has_as_many_kv_heads_as_heads():
    old = {key: value for key, value in LLAMA_8B.items() if key != "num_key_value_heads"}
    assert model_memory.kv_bytes_per_token(old) == 4 * model_memory.kv_bytes_per_token(LLAMA_8B)


def test_biases_and_norms_count():
    plain = model_memory.weight_bytes(LLAMA_8B)["parameters"]
    biased = model_memory.weight_bytes({**LLAMA_8B, "attention_bias": True, "mlp_bias": True})["parameters"]
    assert biased - plain == 32 * ((4096 + 2 * 1024) + 4096 + 2 * 14336 + 4096)
