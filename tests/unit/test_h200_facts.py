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
