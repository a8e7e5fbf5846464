"""The server log parser, on logs of real servers."""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.module_utils.plumbline import vllm_log

CAPTURES = Path(__file__).parent.parent / "captures"


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
