"""Facts that this project returned on a real H200: they fit the schemas, judge what was there, and name no serial number."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import pytest

ROOT = Path(__file__).resolve().parent.parent.parent
CAPTURES = ROOT / "tests/captures/h200"


def read(name):
    return json.loads((CAPTURES / ("plumbline.%s.json" % name)).read_text())


def seen(fact):
    return {item["check"]: (item["status"], item["seen"]) for item in fact["reasons"]}


@pytest.mark.parametrize("name", ["health.node.check", "health.fleet.check", "clocks.node.check"])
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
