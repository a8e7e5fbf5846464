"""The server log parser, on logs of real servers and on lines rendered from each version's own formats."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from ansible.module_utils.plumbline.serving import log as vllm_log
from project import CAPTURES


def read(name):
    return (CAPTURES / name).read_text()


def test_cold_start_on_h200():
    measured, context = vllm_log.startup(read("h200/vllm-0.25.0.serve.qwen2.5-7b.cold.log"))
    assert measured == {
        "model_gib": 14.29,
        "model_load_s": 1.788727,
        "compile_s": 22.17,
        "graph_capture_s": 4.0,
        "graph_capture_gib": 0.89,
        "engine_init_s": 42.49,
        "kv_cache_gib": 112.98,
        "kv_cache_tokens": 2115440,
        "max_concurrency": 1032.93,
    }
    assert context["vllm_version"] == "0.25.0"
    assert context["attention_backend"] == "FLASH_ATTN"
    assert context["async_scheduling"] is True


def test_warm_start_compiles_less_than_cold():
    warm, _ = vllm_log.startup(read("h200/vllm-0.25.0.serve.qwen2.5-7b.warm.log"))
    assert warm["compile_s"] < 5


def test_cpu_server():
    measured, context = vllm_log.startup(read("cpu/vllm-0.32.0.serve.tp1.log"))
    assert measured["kv_cache_tokens"] > 0
    assert measured["kv_cache_gib"] == 1.0
    assert measured["engine_init_s"] > 0
    assert context["vllm_version"].startswith("0.32.0")


@pytest.mark.parametrize(
    ("name", "cause"),
    [
        ("engine-init-failed", "ModuleNotFoundError: No module named 'flashinfer'"),
        ("qwen2.5-72b.kv-too-small", "ValueError: To serve at least one request with the model's max seq len (2048)"),
    ],
)
def test_root_cause_is_the_first_exception_and_not_its_echo(name, cause):
    assert vllm_log.root_cause(read("h200/vllm-0.25.0.serve.%s.log" % name)).startswith(cause)


def test_root_cause_of_a_healthy_log_is_empty():
    assert vllm_log.root_cause(read("h200/vllm-0.25.0.serve.qwen2.5-7b.cold.log")) == ""
    assert vllm_log.root_cause(read("cpu/vllm-0.32.0.serve.tp1.log")) == ""


def test_slowest_load_and_smallest_cache_of_several_workers_count():
    measured, _ = vllm_log.startup(
        "(Worker_TP0 pid=1) INFO 11-24 00:00:00 [a.py:1] Model loading took 8.5 GiB memory and 3.100000 seconds\n"
        "(RayWorkerWrapper pid=2, ip=10.0.0.5) INFO 11-24 00:00:00 [a.py:1] Model loading took 8.5 GiB and 31.250000 seconds\n"
        "(Worker_TP0 pid=1) INFO 11-24 00:00:00 [a.py:1] Available KV cache memory: 32.87 GiB\n"
        "(RayWorkerWrapper pid=2, ip=10.0.0.5) INFO 11-24 00:00:00 [a.py:1] Available KV cache memory: 30.10 GiB\n"
        "INFO 11-24 00:00:00 [a.py:1] GPU KV cache size: 430,800 tokens, Maximum concurrency for 2,048 tokens per request: 210.35x\n"
    )
    assert measured["model_load_s"] == 31.25
    assert measured["kv_cache_gib"] == 30.10
    assert measured["kv_cache_tokens"] == 430800
    assert measured["max_concurrency"] == 210.35


def test_root_cause_without_a_traceback():
    assert "unrecognized arguments" in vllm_log.root_cause("usage: vllm serve\nvllm: error: unrecognized arguments: --no-such-option\n")
    assert vllm_log.root_cause("") == ""


EXPECTED = {
    "0.17.1": (
        {
            "load_weights_s": 63.5, "model_gib": 17.34, "model_load_s": 66.2, "compile_s": 38.75, "graph_capture_s": 24.0,
            "graph_capture_gib": 1.38, "engine_init_s": 97.61, "kv_cache_gib": 48.81, "kv_cache_tokens": 1279552, "max_concurrency": 624.78,
        },
        {
            "nccl_version": "2.27.5", "attention_backend": "FLASH_ATTN", "async_scheduling": False, "compile_cache_hit": False,
            "custom_all_reduce": True,
        },
    ),
    "0.20.2": (
        {
            "load_weights_s": 12.5, "model_gib": 67.88, "model_load_s": 14.25, "compile_s": 6.4, "graph_capture_s": 10.0,
            "graph_capture_gib": 0.91, "engine_init_s": 44.2, "kv_cache_gib": 59.5, "kv_cache_tokens": 389936, "max_concurrency": 190.4,
        },
        {
            "nccl_version": "2.28.9", "attention_backend": "FLASHINFER", "async_scheduling": True, "compile_cache_hit": True,
            "custom_all_reduce": True,
        },
    ),
    "0.25.0": (
        {
            "load_weights_s": 41.25, "model_gib": 17.34, "model_load_s": 44.0, "compile_s": 22.17, "graph_capture_s": 21.0,
            "graph_capture_gib": 1.38, "engine_init_s": 88.4, "kv_cache_gib": 48.93, "kv_cache_tokens": 1282688, "max_concurrency": 626.31,
        },
        {
            "nccl_version": "2.28.9", "attention_backend": "FLASH_ATTN", "async_scheduling": True, "compile_cache_hit": False,
            "all_reduce_backends": ["PYNCCL"], "custom_all_reduce": False,
        },
    ),
    "0.29.0": (
        {
            "load_weights_s": 22.75, "model_gib": 17.02, "model_load_s": 23.25, "compile_s": 3.5, "graph_capture_s": 15.0,
            "graph_capture_gib": 1.05, "engine_init_s": 51.3, "kv_cache_gib": 49.6, "kv_cache_tokens": 1300224, "max_concurrency": 634.88,
        },
        {
            "nccl_version": "2.28.9", "attention_backend": "FLASH_ATTN", "compile_cache_hit": True,
            "all_reduce_backends": ["CUSTOM", "SYMM_MEM", "PYNCCL"], "custom_all_reduce": True,
        },
    ),
    "0.32.0": (
        {
            "load_weights_s": 12.5, "model_gib": 67.88, "model_load_s": 14.25, "compile_s": 24.67, "graph_capture_s": 9.0,
            "graph_capture_gib": 0.91, "engine_init_s": 61.0, "kv_cache_gib": 59.5, "kv_cache_tokens": 389936, "max_concurrency": 190.4,
        },
        {
            "nccl_version": "2.29.2", "attention_backend": "FLASH_ATTN", "compile_cache_hit": False,
            "all_reduce_backends": ["CUSTOM", "PYNCCL"], "custom_all_reduce": True,
        },
    ),
}  # fmt: skip
SAME = {
    "dtype": "float16", "kv_cache_dtype": "auto", "load_format": "auto", "enforce_eager": False, "prefix_caching": False,
    "chunked_prefill": True, "max_model_len": 2048,
}  # fmt: skip


def rendered(version):
    return json.loads(read("vllm_log/%s.lines.json" % version))


@pytest.mark.parametrize("version", sorted(EXPECTED))
def test_every_version_in_its_own_words(version):
    measured, context = vllm_log.startup("\n".join(line["sample"] for line in rendered(version)))
    assert measured == EXPECTED[version][0]
    assert context == {**SAME, "vllm_version": version, **EXPECTED[version][1]}


@pytest.mark.parametrize("version", sorted(EXPECTED))
def test_samples_fit_the_formats_of_their_version(version):
    for line in rendered(version):
        parts = re.split(r"%[-+#0]*\d*(?:\.\d+)?[sdf]", line["format"])
        assert re.fullmatch(".*".join(map(re.escape, parts)), vllm_log.bare(line["sample"])), line["format"]
        path, number = line["source"].split(":")
        assert "[%s:%s]" % (Path(path).name, number) in line["sample"]


@pytest.mark.parametrize("failure", json.loads((CAPTURES / "vllm_log/failures.json").read_text()), ids=lambda failure: failure["name"])
def test_root_cause_of_failures(failure):
    assert vllm_log.root_cause(failure["log"]).startswith(failure["cause"])


@pytest.mark.parametrize("version", sorted(EXPECTED))
def test_a_start_that_went_well_has_no_cause(version):
    assert vllm_log.root_cause("\n".join(line["sample"] for line in rendered(version))) == ""


def test_a_placement_group_that_came_is_no_cause():
    text = (
        "INFO 11-24 10:00:00 [ray_utils.py:267] Waiting for creating a placement group of specs for 10 seconds.\n"
        "(RayWorkerWrapper pid=1) INFO 11-24 10:00:09 [parallel_state.py:1200] world_size=2 rank=0 local_rank=0 backend=nccl\n"
    )
    assert vllm_log.root_cause(text) == ""


@pytest.mark.parametrize(
    "line",
    [
        "(EngineCore_DP0 pid=1) INFO 11-24 10:00:00 [a.py:1] said",
        "(Worker_PP1_TP0 pid=12) INFO 11-24 10:00:00 [a.py:1] said",
        "\x1b[36m(RayWorkerWrapper pid=2, ip=10.0.0.5)\x1b[0m INFO 11-24 10:00:00 [v1/worker/a.py:425] said [repeated 2x across cluster]",
        "(RayWorkerProc pid=2, ip=10.0.0.5) (Worker_TP4 pid=2) said\x1b[32m [repeated 15x across cluster] (Ray deduplicates logs)\x1b[0m",
        "[rank0]: said",
        "\x1b[32mINFO\x1b[0m 11-24 10:00:00 [a.py:1] said",
    ],
)
def test_bare_is_what_was_said(line):
    assert vllm_log.bare(line) == "said"


@pytest.mark.parametrize("tokens", ["1,300,224", "1.300.224", "1300224"])
def test_tokens_are_whole_whatever_separates_their_digits(tokens):
    assert vllm_log.startup("GPU + host KV cache size: %s tokens" % tokens)[0] == {"kv_cache_tokens": 1300224}


def test_other_backends_and_other_versions_are_not_taken():
    _, context = vllm_log.startup(
        "NCCL version 2.28.9+cuda13.0\nUsing Triton backend\n"
        "Using FLASHINFER backend for NVFP4 GEMM\nUsing backend FLASH_ATTN for vit attention\n"
    )
    assert context == {"compile_cache_hit": None}


@pytest.mark.parametrize(
    ("text", "hit"),
    [
        ("Directly load AOT compilation from path /c/model", True),
        ("Directly load the compiled graph(s) for compile range (1, 8192) from the cache, took 1.018 s", True),
        ("Compiling model again due to a load failure from /c/model, reason: torch changed", False),
        ("vLLM's torch.compile cache is disabled.", False),
        ("Using cache directory: /c for vLLM's torch.compile", None),
        ("", None),
    ],
)
def test_compile_cache(text, hit):
    assert vllm_log.startup(text)[1]["compile_cache_hit"] is hit


def test_compile_cache_of_real_starts():
    hits = {
        name: vllm_log.startup(read("h200/vllm-0.25.0.serve.%s.log" % name))[1]["compile_cache_hit"]
        for name in ("qwen2.5-7b.cold", "qwen2.5-7b.warm", "qwen2.5-72b")
    }
    assert hits == {"qwen2.5-7b.cold": False, "qwen2.5-7b.warm": True, "qwen2.5-72b": None}, "the last is eager: nothing is compiled"


def test_async_scheduling_that_is_only_said_where_it_is_off():
    against = "Async scheduling will be disabled because it is not supported with the `ray` distributed executor backend. "
    assert vllm_log.startup(against)[1]["async_scheduling"] is False
    assert "async_scheduling" not in vllm_log.startup("")[1]


def test_custom_all_reduce_that_a_worker_gave_up():
    config = "Initializing a V1 LLM engine (v0.20.2) with config: tensor_parallel_size=%d, disable_custom_all_reduce=False, "
    gave_up = "\nCustom allreduce is disabled because this process group spans across nodes."
    assert vllm_log.startup(config % 8)[1]["custom_all_reduce"] is True
    assert vllm_log.startup(config % 8 + gave_up)[1]["custom_all_reduce"] is False
    assert "custom_all_reduce" not in vllm_log.startup(config % 1)[1], "nothing to reduce"
