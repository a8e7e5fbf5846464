"""A prediction as a fact: it fits its schema, has its number or its reason, and never judges a node."""

from __future__ import annotations

import json

import pytest
from ansible.module_utils.plumbline.controller.report.data import RUN_DEFAULTS, Schemas, entry
from ansible.module_utils.plumbline.controller.report.prediction.fact import facts
from ansible.module_utils.plumbline.controller.report.verdicts import node_verdicts
from ansible.module_utils.plumbline.core.fact import headline, reason
from ansible.module_utils.plumbline.serving.asked import asked
from project import SCHEMAS
from report_runs import whole_run

GIVEN = {"hosts": ["node1", "node2"], "concurrency": 1, "input_len": 57, "output_len": 512, "hbm_read_gbps": 0,
         "hbm_read_known": {"NVIDIA H200": {"hbm_read_gbps": 4322, "source": "measured on an H200"}}}  # fmt: skip
CONFIG = {
    "architectures": ["Qwen2ForCausalLM"], "hidden_size": 8192, "intermediate_size": 29568, "num_attention_heads": 64,
    "num_hidden_layers": 80, "num_key_value_heads": 8, "vocab_size": 152064, "torch_dtype": "float16",
}  # fmt: skip


@pytest.fixture
def model(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(CONFIG))
    return str(tmp_path)


def gpus(count=8, name="NVIDIA H200", total_mib=143771):
    return [{"index": index, "name": name, "total_mib": total_mib, "used_mib": 0, "uuid": None} for index in range(count)]


def layout(tp=2, pp=1, nodes=1, executor="mp", **more):
    return {"name": "tp%d_pp%d" % (tp, pp), "tp": tp, "pp": pp, "nodes": nodes, "executor": executor, **more}


def made(model, of=None, there=None, dtype="float16", data=None, given=(), **more):
    """Return the one fact of a layout, after it was checked against the schemas."""
    (fact,) = facts([asked(of or layout(), model, gpus() if there is None else there, dtype, 2048, **more)], data, {**GIVEN, **dict(given)})
    assert Schemas(str(SCHEMAS)).problems("prediction", fact) == []
    return fact


def so_far(*entries):
    """Return a run's data as it is loaded while the run goes on."""
    return {"run": dict(RUN_DEFAULTS), "selection": None, "incidents": [], "facts": list(entries), "problems": []}


def test_two_h200s_are_told_what_they_measured_within_a_percent(model):
    fact = made(model)
    assert fact["status"] == "healthy" and fact["measured"]["fits"] is True
    assert fact["measured"]["tpot_ms"] == pytest.approx(21.105, rel=0.01)  # tests/captures/h200x2/served
    assert fact["measured"]["decode_tok_s"] == pytest.approx(1e3 / fact["measured"]["tpot_ms"])
    assert headline(fact) == "prediction.tpot: fits; TPOT 21.3 ms (20.6 to 22.0), 47.0 tok/s (45.4 to 48.6) while decoding"
    assert fact["context"]["read_source"] == "measured on an H200" and "published" in fact["context"]["all_reduce_source"]


def test_what_this_run_measured_goes_before_what_is_known(model):
    slow = {"schema": "plumbline.gpu_baseline/1", "measured": {"gpus": [{"read_gbps": 4000}]}, "context": {}}
    data = so_far(entry("node1", "gpu_baseline", "gpus", slow, []))
    assert made(model, data=data)["measured"]["read_gbps"] == 4000
    # A GPU of a node that the layout does not take.
    data = so_far(entry("node2", "gpu_baseline", "gpus", slow, []))
    assert made(model, data=data)["measured"]["read_gbps"] == 4322
    assert made(model, of=layout(2, 2, nodes=2), data=data)["measured"]["read_gbps"] == 4000
    assert made(model, given={"hbm_read_gbps": 4100.0})["measured"]["read_gbps"] == 4100


def test_under_ray_the_range_has_no_end(model):
    fact = made(model, of=layout(executor="ray"))
    assert fact["measured"]["tpot_high_ms"] is None
    assert "at least 21.3 ms" in headline(fact) and "what it costs under Ray" in headline(fact)


def test_what_does_not_fit_is_not_predicted_and_says_what_lacks(model):
    fact = made(model, of=layout(tp=1))
    assert (fact["status"], fact["measured"]) == ("degraded", {"fits": False})
    assert "prediction.fit: weights 135.4" in headline(fact) and "too few" in headline(fact)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"there": []}, "no GPU: the model is of GPUs"),
        ({"there": gpus(name="NVIDIA A100-SXM4-80GB", total_mib=81920)}, "NVIDIA A100-SXM4-80GB: what a layer costs"),
        ({"there": gpus(2) + gpus(2, name="NVIDIA H100 80GB HBM3")}, "which GPU it is was not said"),
        ({"dtype": "float32", "of": layout(tp=4)}, "weights in float32"),
        ({"of": layout(extra_args=["--enforce-eager"])}, "--enforce-eager: no CUDA graphs"),
        ({"of": layout(extra_args=["-O0"])}, "other graphs or other compiled code"),
        ({"extra_args": ["-cc.mode=0"]}, "other graphs or other compiled code"),
        ({"extra_args": ["--quantization", "fp8"]}, "weights of another size"),
        ({"extra_args": ["--kv-cache-dtype", "fp8"]}, "a KV cache in fp8"),
        ({"of": layout(extra_args=["--speculative-config", '{"method": "ngram"}'])}, "a drafter"),
        ({"given": {"concurrency": 16}}, "16 requests at a time"),
        ({"of": layout(tp=4, nodes=2)}, "no all-reduce of 4 ranks over 2 nodes was measured"),
        ({"given": {"hbm_read_known": {}}}, "no rate at which this GPU reads its memory"),
    ],
)
def test_what_is_not_covered_is_skipped_with_words(model, change, words):
    fact = made(model, **change)
    assert fact["status"] == "skipped" and "tpot_ms" not in fact["measured"]
    assert "no prediction: " in headline(fact) and words in headline(fact)


def test_a_driver_without_an_answer_and_a_node_without_the_model_say_so(model, tmp_path):
    (fact,) = facts([asked(layout(), model, None, "float16", 2048)], None, GIVEN)
    assert "which GPU it is was not said" in headline(fact)
    fact = made(str(tmp_path / "nothing"))
    assert fact["status"] == "skipped" and "the model is not there yet" in headline(fact)


def test_another_model_has_its_reason(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({**CONFIG, "architectures": ["MixtralForCausalLM"], "num_local_experts": 8}))
    assert "MixtralForCausalLM" in headline(made(str(tmp_path)))


def test_without_its_custom_kernel_the_layout_takes_nccl(model):
    fact = made(model, extra_args=["--disable-custom-all-reduce"])
    assert fact["measured"]["all_reduce_us"] == 7.1 and "NCCL" in fact["context"]["all_reduce_source"]


def test_no_prediction_is_a_verdict_on_its_node():
    bad = {"schema": "plumbline.prediction/1", "status": "degraded", "reasons": [reason("prediction.fit", "degraded", "too few")]}
    loaded = [entry("node1", "prediction", "tp1", bad, [])]
    run = {**whole_run()["run.json"], "hosts": ["node1"], "check": False, "tags": [], "skip_tags": [], "phases": []}
    found = node_verdicts({"run": run, "selection": None, "incidents": [], "facts": loaded, "problems": []})
    assert "degraded" not in found["node1"]["phases"].values()
    assert not [item for item in found["node1"]["reasons"] if item["check"].startswith("prediction")]
