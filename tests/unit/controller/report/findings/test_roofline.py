"""The floor of a token: its arithmetic on real numbers, and that nothing is claimed without them."""

from __future__ import annotations

import json

import pytest
from ansible.module_utils.plumbline.controller.report.data import load
from ansible.module_utils.plumbline.controller.report.findings.collect import findings
from ansible.module_utils.plumbline.controller.report.findings.roofline import floor_ms, roofline_findings
from ansible.module_utils.plumbline.controller.report.records.collect import collect
from project import ROOT, SCHEMAS
from report_runs import benchmark, put, whole_run

H200 = json.loads((ROOT / "tests/captures/h200/vllm-0.25.0.bench_serve.qwen2.5-7b-c1.json").read_text())
# Qwen2.5-7B in bfloat16: 7.616 billion parameters without the 0.545 billion of the input table; 28 layers x 4 KV heads x 128 x 2 x 2.
WEIGHTS, KV = 14_141_238_272, 57_344


@pytest.fixture
def roofline(records):
    def compute(context=None, measured=None, name="tp1", drop=()):
        files = {path: content for path, content in whole_run().items() if "/benchmark." not in path}
        one = benchmark(name)
        one["context"].update(
            {"gpu_name": "NVIDIA H200", "hbm_read_gbps": 4322, "hbm_read_source": "measured", "read_per_token_bytes": WEIGHTS,
             "kv_bytes_per_token": KV}
        )  # fmt: skip
        one["context"].update(context or {})
        one["measured"].update({"input_len_tokens": 57, "output_len_tokens": 512}, **(measured or {}))
        for key in drop:
            del one["context"][key]
        put(files, "node1", one)
        found = roofline_findings(records(files).layouts)
        return next((item for item in found if item["id"] in ("layouts.roofline", "layouts.roofline." + name)), None)

    return compute


def tpot(ms):
    summary = {"throughput_tok_s": {"n": 1, "mean": 1000 / ms}, "tpot_ms": {"n": 1, "mean": ms, "median": ms}}
    return {"summary": summary, "runs": [{"num_prompts": 1, "completed": 1, "failed": 0}]}


def test_a_real_7b_on_an_h200_decodes_at_seven_tenths_of_its_memory(roofline):
    item = roofline(measured=tpot(H200["median_tpot_ms"]))
    floor = (WEIGHTS + KV * (57 + 256)) / 4322e9 * 1e3
    assert item["level"] == "estimate" and item["values"]["floor_ms"] == pytest.approx(floor)
    assert item["values"]["ratio"] == pytest.approx(0.70, abs=0.005)
    for part in ("14.1 GB of weights", "57,344 B a token × 313 tokens", "TP 1", "4,322 GB/s", "NVIDIA H200: measured"):
        assert part in item["arithmetic"], part
    assert "4.68 ms a token" in item["claim"] and "70" in item["claim"]


def test_ranks_share_the_weights_and_stages_add_up(roofline):
    assert floor_ms(WEIGHTS, 2, 4322) == floor_ms(WEIGHTS, 1, 4322) / 2
    tensor, pipeline = roofline(name="tp2_within", measured=tpot(4.0)), roofline(name="pp2_across", measured=tpot(4.0))
    assert pipeline["values"]["floor_ms"] == pytest.approx(2 * tensor["values"]["floor_ms"])
    assert "The 2 stages of a token follow each other" in pipeline["arithmetic"] and "stages" not in tensor["arithmetic"]


def test_without_the_cache_of_a_token_the_weights_alone_are_the_floor(roofline):
    item = roofline(measured=tpot(4.68), drop=["kv_bytes_per_token"])
    assert item["values"]["floor_ms"] == pytest.approx(floor_ms(WEIGHTS, 1, 4322)) and "KV (" not in item["arithmetic"]


def test_faster_than_the_memory_is_a_warning(roofline):
    assert roofline(measured=tpot(3.0))["level"] == "warning"


def test_a_gpu_whose_rate_nobody_measured_has_no_baseline(roofline):
    item = roofline({"gpu_name": "NVIDIA B200", "hbm_read_gbps": None})
    assert item["level"] == "no data" and item["claim"].startswith("No baseline")
    assert "NVIDIA B200" in item["missing"] and "serve_benchmark_hbm_read_gbps" in item["missing"]


def test_a_model_of_unknown_size_says_why(roofline):
    item = roofline({"model_bytes_unknown": "quantization_config in config.json"}, drop=["read_per_token_bytes"])
    assert item["level"] == "no data" and "quantization_config" in item["missing"]


def test_without_a_gpu_there_is_one_sentence_for_all(roofline):
    item = roofline({"clocks": {"status": "skipped", "seen": "no GPU"}})
    assert item["id"] == "layouts.roofline" and item["level"] == "no data" and item["missing"] == "a GPU" and "tp1" in item["claim"]


def test_several_requests_at_a_time_are_not_bound_by_one_token(roofline):
    assert roofline(measured={"concurrency": 4}) is None


def test_a_drafter_is_no_memory_that_is_too_fast(roofline):
    assert roofline(measured=tpot(2.0))["level"] == "warning"
    why = {"tokens_per_step_unknown": "--speculative-config: a drafter has weights and a cache of its own"}
    item = roofline(why, measured=tpot(2.0))
    assert item["level"] == "no data" and "--speculative-config" in item["missing"]


@pytest.mark.parametrize(("context", "said"), [
    ({"extra_args": "--quantization fp8"}, "--quantization fp8"), ({"quantization": "awq_marlin"}, "quantization=awq_marlin"),
    ({"extra_args": """--speculative-config '{"method": "eagle3"}'"""}, "a drafter"),
    ({"extra_args": "--cpu_offload_gb=10"}, "host's memory"),
])  # fmt: skip
def test_bytes_of_earlier_facts_are_doubted_by_what_the_server_was_given(roofline, context, said):
    item = roofline(context, measured=tpot(2.0))
    assert item["level"] == "no data" and said in item["missing"]
    assert roofline({"extra_args": "--max-num-seqs 8 'unclosed"}, measured=tpot(4.68))["level"] == "estimate"


def test_answers_in_bursts_tell_nothing_of_reading(roofline):
    measured = tpot(0.01)
    measured["runs"] = [{"num_prompts": 5, "completed": 5, "failed": 0, "burst_requests": bursts} for bursts in (5, 4)]
    item = roofline(measured=measured)
    assert item["level"] == "no data" and "9 of 10 answers came in one burst" in item["missing"]
    measured["runs"] = [{"num_prompts": 20, "completed": 20, "failed": 0, "burst_requests": 1}]
    assert roofline(measured=dict(tpot(4.68), runs=measured["runs"]))["level"] == "estimate"


def test_a_run_that_measured_its_gpus_takes_their_rate_and_no_other_cards():
    """Four H100s read 3143 GB/s each, where the table has 3125 of another one."""
    records = collect(load(str(ROOT / "docs/reference/h100x4/one_node"), str(SCHEMAS)))
    (item,) = [item for item in findings(records) if item["id"] == "layouts.roofline.a_tp4"]
    assert "/ 3,143 GB/s" in item["arithmetic"] and "measured in this run, the slowest of 4 GPUs" in item["arithmetic"]
    assert item["values"]["ratio"] == pytest.approx(0.708, abs=5e-4)
