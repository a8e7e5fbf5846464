"""What a benchmark's numbers do not show by themselves: cached prompts, bursts, queues; and what the server says of itself."""

from __future__ import annotations

import http.server
import json
import threading

import pytest
from ansible.module_utils.plumbline.benchmark import counters as vllm_metrics
from ansible.module_utils.plumbline.benchmark import judge as bench_judge
from ansible.module_utils.plumbline.core.fact import Measurement
from ansible.module_utils.plumbline.machine import hbm
from ansible.module_utils.plumbline.model import config as served_model
from ansible.module_utils.plumbline.serving import options as server_options
from project import CAPTURES

METRICS = (CAPTURES / "h200/vllm-0.25.0.metrics.counters.txt").read_text()


def judged(caching, hits, preemptions=0):
    measurement = Measurement("benchmark", "x")
    measurement.context["prefix_caching"] = caching
    grown = {"prefix_cache_queries_tokens": 100, "prefix_cache_hits_tokens": hits, "preemptions": preemptions}
    bench_judge.judge_prompts(measurement, grown)
    assert measurement.measured["server_counters"] == grown
    return {item["check"]: item for item in measurement.reasons}


@pytest.mark.parametrize("caching, hits, status", [
    (False, 0, "healthy"), (False, None, "healthy"), (True, 0, "healthy"), (None, 0, "healthy"),
    (True, 624, "degraded"), (None, 1, "degraded"), (True, None, "degraded"), (None, None, "skipped"),
])  # fmt: skip
def test_a_prompt_from_the_cache_is_no_measurement_of_a_prompt(caching, hits, status):
    item = judged(caching, hits)["benchmark.prompts"]
    assert item["status"] == status
    assert ("--no-enable-prefix-caching" in (item["remedy"] or "")) == (status == "degraded")
    if hits:
        assert "%d of the prompts' tokens" % hits in item["seen"]


def test_requests_that_were_begun_again_are_said():
    assert judged(False, 0, 3)["benchmark.preemptions"]["status"] == "degraded"
    assert "benchmark.preemptions" not in judged(False, 0)


def test_bursts_are_judged_by_the_share_of_answers():
    for bursts, status in ((0, "healthy"), (1, "healthy"), (2, "degraded")):
        measurement = Measurement("benchmark", "x")
        bench_judge.judge_bursts(measurement, [{"burst_requests": bursts, "completed": 10}, {"burst_requests": None, "completed": 90}])
        assert measurement.reasons[0]["status"] == status, bursts
    bench_judge.judge_bursts(measurement, [{"burst_requests": None, "completed": 10}])
    assert len(measurement.reasons) == 1, "what is not known is not judged"


def test_levels_above_the_servers_limit_are_called_a_queue():
    levels = [{"concurrency": level, "queued": level > 8, "preemptions": None, "completed": 1} for level in (8, 16, 64)]
    measurement = Measurement("benchmark", "x")
    bench_judge.judge_levels(measurement, levels, 8)
    assert [item["status"] for item in measurement.reasons] == ["skipped"] and "16, 64" in measurement.reasons[0]["seen"]


def test_prompts_of_another_length_fail():
    runs = [{"total_input_tokens": 287, "num_prompts": 5}]
    for asked, count in ((57, 0), (64, 1)):
        measurement = Measurement("benchmark", "x")
        bench_judge.check_input(measurement, asked, runs)
        assert len(measurement.reasons) == count
    assert "33 tokens off" in measurement.reasons[0]["seen"]


def test_counters_of_a_real_server():
    found = vllm_metrics.parse(METRICS)
    assert found == {"prefix_cache_queries_tokens": 7706, "prefix_cache_hits_tokens": 624, "preemptions": 0}
    two = METRICS + METRICS.replace('engine="0"', 'engine="1"')
    assert vllm_metrics.parse(two)["prefix_cache_queries_tokens"] == 2 * 7706
    assert vllm_metrics.parse("nothing of it") == dict.fromkeys(found)


def test_a_counter_that_fell_was_another_servers():
    before, after = {"preemptions": 5}, {"preemptions": 3}
    full = dict.fromkeys(vllm_metrics.COUNTERS, 1)
    grown = vllm_metrics.difference(dict(full, **before), dict(full, **after))
    assert grown["preemptions"] is None and grown["prefix_cache_hits_tokens"] == 0


def test_counters_are_read_from_the_server_and_none_where_nobody_answers():
    class Answer(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200 if self.path == "/metrics" else 404)
            self.end_headers()
            self.wfile.write(METRICS.encode())

        def log_message(self, *_args):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = "http://127.0.0.1:%d" % server.server_port
        assert vllm_metrics.read(url)["prefix_cache_hits_tokens"] == 624
        server.shutdown()
    assert vllm_metrics.read(url, timeout_s=1) == dict.fromkeys(vllm_metrics.COUNTERS)


@pytest.mark.parametrize("log, limit, caching", [
    ("cpu/vllm-0.32.0.serve.tp1.log", 8, False), ("h200/vllm-0.25.0.serve.qwen2.5-7b.cold.log", None, True),
    ("h200/vllm-0.25.0.serve.qwen2.5-72b.log", 1, True),
])  # fmt: skip
def test_the_servers_log_says_its_limits(log, limit, caching):
    text = (CAPTURES / log).read_text()
    assert server_options.max_num_seqs(text) == limit and server_options.prefix_caching(text) is caching


def test_an_empty_log_says_nothing():
    assert server_options.max_num_seqs("") is None and server_options.prefix_caching("") is None


def test_read_rates_are_those_that_were_measured():
    known = {"NVIDIA H200": {"hbm_read_gbps": 4322, "source": "measured"}}
    assert hbm.context(["NVIDIA H200"], 0, known) == {"gpu_name": "NVIDIA H200", "hbm_read_gbps": 4322, "hbm_read_source": "measured"}
    assert hbm.context(["NVIDIA B200"], 0, known)["hbm_read_gbps"] is None
    assert hbm.context(["NVIDIA H200", "NVIDIA H100"], 0, known)["gpu_name"] is None
    assert hbm.context(["NVIDIA H200"], 4000.0, known)["hbm_read_gbps"] == 4000.0
    assert hbm.context([], 0, known) == dict.fromkeys(("gpu_name", "hbm_read_gbps", "hbm_read_source"))


def test_names_are_as_the_tool_prints_them(tmp_path):
    tool = tmp_path / "mock-nvidia-smi"
    tool.write_text("#!/bin/sh\n[ \"$1\" = --query-gpu=name ] && printf 'NVIDIA H200\\nNVIDIA H200\\n'\n")
    tool.chmod(0o755)
    assert hbm.gpu_names(str(tool)) == ["NVIDIA H200"]
    tool.write_text("#!/bin/sh\nexit 9\n")
    assert hbm.gpu_names(str(tool)) == []


QWEN_7B = {
    "model_type": "qwen2", "architectures": ["Qwen2ForCausalLM"], "hidden_size": 3584, "num_hidden_layers": 28, "num_attention_heads": 28,
    "num_key_value_heads": 4, "intermediate_size": 18944, "vocab_size": 152064, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
}  # fmt: skip


def test_bytes_of_a_token_are_those_of_the_type_that_is_served(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(QWEN_7B))
    found = served_model.context(str(tmp_path), "auto")
    assert found["model_layers"] == 28 and found["model_dtype"] == "bfloat16" and found["kv_bytes_per_token"] == 57344
    # 7.616 billion parameters (as published, 7.62) without the 0.545 of the input table, 2 bytes each.
    assert found["read_per_token_bytes"] == pytest.approx(2 * (7.6156e9 - 152064 * 3584), rel=1e-3)
    assert served_model.context(str(tmp_path), "float")["read_per_token_bytes"] == 2 * found["read_per_token_bytes"]


def test_a_model_that_is_not_understood_has_no_bytes_and_a_reason(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(dict(QWEN_7B, quantization_config={"quant_method": "fp8"})))
    found = served_model.context(str(tmp_path), "auto")
    assert "read_per_token_bytes" not in found and "quantization_config" in found["model_bytes_unknown"]
    assert served_model.context(str(tmp_path / "gone"), "auto") == {}
