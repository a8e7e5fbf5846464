"""Facts that this project returned on a real H200: they fit the schemas, judge what was there, and name no serial number."""

from __future__ import annotations

import json
import re
import statistics

import jsonschema
import pytest
from ansible.module_utils.plumbline.benchmark import counters as vllm_metrics
from ansible.module_utils.plumbline.benchmark import result as vllm_bench
from ansible.module_utils.plumbline.controller.report.data import load
from ansible.module_utils.plumbline.controller.report.findings.roofline import roofline_findings
from ansible.module_utils.plumbline.controller.report.records.layouts import layouts
from ansible.module_utils.plumbline.serving import log as vllm_log
from project import ROOT
from report_runs import put, write

CAPTURES = ROOT / "tests/captures/h200"


def read(name):
    return json.loads((CAPTURES / ("plumbline.%s.json" % name)).read_text())


def seen(fact):
    return {item["check"]: (item["status"], item["seen"]) for item in fact["reasons"]}


FACTS = ["health.node.check", "health.fleet.check", "clocks.node.check"]
SERVED = ["startup.qwen7b", "startup.qwen32b", "benchmark.qwen7b", "benchmark.qwen32b", "startup.qwen7b.again", "benchmark.qwen7b.again"]


@pytest.mark.parametrize("name", FACTS + SERVED)
def test_fact_fits_its_schemas_and_carries_no_identity(name):
    fact = read(name)
    for schema in ("fact", fact["schema"].split(".")[1].split("/")[0]):
        jsonschema.validate(fact, json.loads((ROOT / ("docs/schema/%s.schema.json" % schema)).read_text()))
    assert not re.search(r"GPU-[0-9a-f]{8}|serial", json.dumps(fact), re.I)


def test_health_of_the_h200():
    said = seen(read("health.node.check"))
    assert said["gpu.product"] == ("healthy", "NVIDIA H200")
    assert said["gpu.ecc"][0] == said["gpu.remap"][0] == said["gpu.pcie"][0] == said["kernel_log.xid"][0] == "healthy"
    assert said["gpu.nvlink"] == ("skipped", "nvidia-smi nvlink -s printed nothing"), "never a pass"
    assert said["clock.sync"][0] == "degraded"


def test_clocks_in_check_mode_say_what_they_would_do():
    fact = read("clocks.node.check")
    assert fact["status"] == "skipped"
    assert "would lock 1 GPUs at 1980 MHz" in fact["reasons"][0]["seen"]


def test_window_saw_the_power_cap_under_load():
    window = read("clock-window.matmul")
    (gpu,) = window["context"]["gpus"].values()
    assert gpu["sm_mhz"]["max"] < gpu["before_sm_mhz"] and gpu["reasons_seen"] == {"sw_power_cap": 24}
    assert gpu["throttle_us"]["sw_power_cap"] == pytest.approx(window["context"]["window_s"] * 1e6, rel=0.02)
    assert window["context"]["status"] == "degraded"


NCCL = ["all_reduce", "forced_socket", "ib_refused", "sendrecv"]


@pytest.mark.parametrize("name", NCCL)
def test_nccl_fact_fits_its_schemas_and_keeps_no_environment(name):
    fact = read("nccl_tests." + name)
    for schema in ("fact", "collective"):
        jsonschema.validate(fact, json.loads((ROOT / ("docs/schema/%s.schema.json" % schema)).read_text()))
    assert set(fact["context"]["environment"]) <= {"NCCL_NVLS_ENABLE", "NCCL_DEBUG", "NCCL_DEBUG_SUBSYS", "NCCL_NET", "NCCL_IB_DISABLE"}


def test_one_gpu_has_no_network_to_judge_and_the_fallback_is_named():
    fact = read("nccl_tests.all_reduce")
    assert fact["context"]["transport"]["verdict"] == "Socket"
    assert "NET/IB : No device found." in fact["context"]["transport"]["evidence"]
    assert seen(fact)["collective.transport"][0] == "skipped", "told, not judged: nothing crosses a wire"
    assert seen(fact)["collective.values"] == ("healthy", "106 results checked, none wrong")
    assert seen(fact)["collective.baseline"][0] == "skipped"


def test_sweep_holds_the_models_messages_and_the_fit_is_of_the_copy():
    measured = read("nccl_tests.all_reduce")["measured"]
    assert {item["size_bytes"] for item in measured["messages"]} == {16384, 57 * 16384}
    assert {item["size_bytes"] for item in measured["messages"]} <= {row["size_bytes"] for row in measured["sweep"]}
    assert measured["sweep"][0]["size_bytes"] == 8 and measured["sweep"][-1]["size_bytes"] == 16 * 2**30
    # One rank: bus bandwidth is 0 by definition (n - 1 = 0), algorithm bandwidth is a copy in the card's memory.
    assert all(row["busbw_gbps"] == 0 for row in measured["sweep"])
    assert 1500 < measured["fit"]["beta_gbps"] < 2500 and measured["fit"]["residual_rel_median"] < 0.1
    assert measured["point"]["size_bytes"] == 8 * 2**30 and measured["point"]["in_place"]["n"] == 20


def test_expected_infiniband_makes_the_fallback_an_error():
    fact = read("nccl_tests.ib_refused")
    assert fact["status"] == "failed"
    assert "Failed to initialize any NET plugin" in seen(fact)["collective.run"][1]


def test_forced_socket_is_a_control_and_says_so():
    fact = read("nccl_tests.forced_socket")
    assert fact["context"]["control"] and seen(fact)["collective.transport"][0] == "healthy"


MODELS = pytest.mark.parametrize("model", ["7b", "32b"])


def summary(model):
    return read("benchmark.qwen%s" % model)["measured"]["summary"]


@MODELS
def test_startup_parser_finds_the_facts_numbers_in_the_log(model):
    fact = read("startup.qwen%s" % model)
    measured, context = vllm_log.startup((CAPTURES / ("vllm-0.25.0.serve.qwen2.5-%s.plumbline.log" % model)).read_text())
    assert len(measured) >= 9 and {key: fact["measured"][key] for key in measured} == measured
    assert {key: fact["context"][key] for key in context} == context
    # The rest is the module's own clock and the arithmetic on config.json.
    assert set(fact["measured"]) - set(measured) == {"ready_s", "weight_bytes", "read_per_token_bytes", "kv_bytes_per_token"}
    assert context["compile_cache_hit"] is False and context["load_format"] == "dummy"


@pytest.mark.parametrize(
    ("model", "each", "parameters"), [("7b", 28 * 2 * 4 * 128 * 2, 7_615_616_512), ("32b", 64 * 2 * 8 * 128 * 2, 32_763_876_352)]
)
def test_memory_is_what_arithmetic_says(model, each, parameters):
    fact = read("startup.qwen%s" % model)
    measured = fact["measured"]
    assert fact["status"] == "healthy" and seen(fact)["serve.kv_arithmetic"][0] == "healthy"
    assert measured["kv_bytes_per_token"] == each and measured["weight_bytes"] == 2 * parameters
    assert measured["kv_cache_gib"] * 2**30 / each == pytest.approx(measured["kv_cache_tokens"], rel=1e-4)
    # vLLM counts what its allocator took, so a little more than the weights.
    assert 0 <= measured["model_gib"] - measured["weight_bytes"] / 2**30 < 0.15


@pytest.mark.parametrize(
    ("model", "percent"),
    [
        ("7b", {"throughput_tok_s": -0.0059, "tpot_ms": -0.0098, "e2e_ms": 0.0059, "ttft_ms": 2.79}),
        ("32b", {"throughput_tok_s": 0.0012, "tpot_ms": 0.0023, "e2e_ms": -0.0012, "ttft_ms": -1.12}),
    ],
)
def test_the_bare_client_on_the_same_server_agrees(model, percent):
    names = sorted(CAPTURES.glob("vllm-0.25.0.bench_serve.qwen2.5-%s-c1.bare-*.json" % model))
    bare = [json.loads(name.read_text()) for name in names]
    assert len(bare) == 3 and all(vllm_bench.problems(result, 5, 512) == [] for result in bare)
    runs = [vllm_bench.run(result, 512) for result in bare]
    ours = summary(model)
    off = {key: 100 * (ours[key]["mean"] / statistics.mean(run[key] for run in runs) - 1) for key in percent}
    assert abs(off["throughput_tok_s"]) < 2 and abs(off["tpot_ms"]) < 2
    assert {key: round(value, 2 if key == "ttft_ms" else 4) for key, value in off.items()} == percent
    # A TTFT varies by some percent from request to request, so only its interval can be asked.
    for key in ("throughput_tok_s", "tpot_ms", "e2e_ms", "ttft_ms"):
        assert ours[key]["ci95_low"] < statistics.mean(run[key] for run in runs) < ours[key]["ci95_high"], key


def test_the_servers_own_clock_agrees_with_the_clients():
    metrics = (CAPTURES / "vllm-0.25.0.metrics.qwen2.5-32b.txt").read_text()
    sums = {found["name"]: float(found["value"]) for found in vllm_metrics.SAMPLE.finditer(metrics)}
    # 2 requests of a discarded run, 5 x 2 of Plumbline, 3 x 5 of the bare client; one token proved the server ready.
    assert sums["vllm:request_generation_tokens_sum"] == 27 * 512 + 1
    assert sums["vllm:inter_token_latency_seconds_count"] == 27 * 511
    itl_ms = 1e3 * sums["vllm:inter_token_latency_seconds_sum"] / sums["vllm:inter_token_latency_seconds_count"]
    assert itl_ms == pytest.approx(summary("32b")["itl_ms"]["mean"], rel=1e-4)


@pytest.mark.parametrize(("model", "ratio", "rest_per_layer_ms"), [("7b", 0.695, 0.0513), ("32b", 0.821, 0.0504)], ids=["7b", "32b"])
def test_roofline_of_the_facts(model, ratio, rest_per_layer_ms, tmp_path):
    fact = read("benchmark.qwen%s" % model)
    files = {"run.json": {"hosts": ["this_machine"]}}
    put(files, "this_machine", fact)
    (item,) = roofline_findings(layouts(load(str(write(files, tmp_path)), str(ROOT / "docs/schema"))))
    assert item["level"] == "estimate" and item["values"]["ratio"] == pytest.approx(ratio, abs=0.0005)
    rest = item["values"]["tpot_ms"] - item["values"]["floor_ms"]
    assert rest / fact["context"]["model_layers"] == pytest.approx(rest_per_layer_ms, abs=5e-5)


def test_sweep_grows_with_the_requests_in_flight_and_each_reader_pays():
    levels = read("benchmark.qwen7b")["measured"]["sweep"]
    assert [level["concurrency"] for level in levels] == [1, 4, 16, 64, 256]
    assert [round(level["total_throughput_tok_s"]) for level in levels] == [211, 832, 3191, 11418, 23229]
    for key, sign in (("total_throughput_tok_s", 1), ("throughput_tok_s", -1), ("ttft_ms", 1), ("tpot_ms", 1), ("e2e_ms", 1)):
        values = [sign * level[key] for level in levels]
        assert values == sorted(set(values)), key
    for level in levels:
        assert level["completed"] == level["num_prompts"] == 4 * level["concurrency"] and level["failed"] == 0
        assert level["total_output_tokens"] == 512 * level["completed"] and not level["queued"]


def test_goodput_fell_with_the_time_to_the_first_token():
    measured = read("benchmark.qwen7b")["measured"]
    assert measured["slo"] == {"ttft_ms": 200, "tpot_ms": 25}
    assert [level["goodput_share"] for level in measured["sweep"]] == [1, 1, 1, 1, 4 / 1024]
    last = measured["sweep"][-1]
    assert last["request_goodput_per_s"] == pytest.approx(4 / last["duration_s"])
    assert last["ttft_p50_ms"] > 200 and last["tpot_p99_ms"] < 25
    assert all(level["ttft_p99_ms"] < 200 for level in measured["sweep"][:-1])


def test_power_capped_the_sweep_and_not_the_single_request():
    fact = read("benchmark.qwen7b")
    (single,), (sweep,) = (fact["context"][key]["gpus"].values() for key in ("clocks", "sweep_clocks"))
    assert single["throttle_us"]["sw_power_cap"] == 0 and single["sm_mhz"]["min"] == single["sm_mhz"]["max"] == 1980
    assert sweep["sm_mhz"]["min"] == 1515 and set(sweep["reasons_seen"]) == {"sw_power_cap"}
    # More than the level of 256 requests lasted: the discarded run at 256, or another level, had a part in it.
    assert sweep["throttle_us"]["sw_power_cap"] / 1e6 > fact["measured"]["sweep"][-1]["duration_s"]
    assert seen(fact)["clocks.throttle"][0] == "healthy"
    status, text = seen(fact)["sweep.clocks.throttle"]
    assert status == fact["status"] == "degraded" and "39.2 % of the time under load" in text
