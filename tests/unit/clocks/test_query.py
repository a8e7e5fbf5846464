"""What nvidia-smi prints about clocks, on the captures of a real H200."""

from __future__ import annotations

import pytest
from ansible.module_utils.plumbline.clocks import query as clocks_query
from ansible.module_utils.plumbline.machine import nvidia
from clocks_mock import ROOT, MockGpus

CAPTURES = ROOT / "tests" / "captures" / "h200"


def test_capture_is_read():
    gpu = clocks_query.parse_gpus((CAPTURES / "nvidia-smi.query.csv").read_text())[0]
    assert gpu["bus_id"] == "0000:00:06.0" and gpu["driver"] == "580.159.04" and gpu["persistence"] == "Enabled"
    # The trap: application clocks at the top, the real clock is not.
    assert (gpu["sm_mhz"], gpu["sm_max_mhz"], gpu["applications_mhz"]) == (345, 1980, 1980)
    assert gpu["reasons"] == ["gpu_idle"]
    assert (gpu["temperature_c"], gpu["power_w"], gpu["power_limit_w"]) == (34, 87.76, 700.0)
    # The capture did not ask for these: no value, not 0.
    assert gpu["utilisation_percent"] is None and gpu["throttle_us"]["sw_power_cap"] is None
    assert "uuid" not in clocks_query.without_identity(gpu)


def test_fields_are_those_of_the_capture_or_documented():
    header = (CAPTURES / "nvidia-smi.query.csv").read_text().splitlines()[0]
    known = {name.split(" [")[0] for name in header.split(", ")}
    assert {clocks_query.FIELDS[key][0] for key in clocks_query.REQUIRED} <= known


def test_xml_has_the_counters_under_other_names():
    counters = nvidia.parse_xml((CAPTURES / "nvidia-smi.q.xml").read_text())["gpus"][0]["throttle_us"]
    assert {clocks_query.XML_COUNTERS[name] for name in counters if name in clocks_query.XML_COUNTERS} == set(clocks_query.COUNTERS)


def test_masks():
    assert clocks_query.parse_reasons("0x0000000000000000") == []
    assert clocks_query.parse_reasons("0x00000000000000EC") == [
        "sw_power_cap", "hw_slowdown", "sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown",
    ]  # fmt: skip
    assert clocks_query.parse_reasons("0x0000000000000201") == ["gpu_idle", "unknown_0x200"]
    for nothing in ("[N/A]", "", None, "Active"):
        assert clocks_query.parse_reasons(nothing) is None


@pytest.mark.parametrize(
    "text",
    [
        "",
        "index, uuid\n0, GPU-1\n",
        "index, pci.bus_id\n0, [GPU is lost]\n",
        "index, pci.bus_id\nUnable to determine the device handle for GPU 0000:01:00.0\n",
    ],
)
def test_what_is_no_gpu_is_an_error(text):
    with pytest.raises(nvidia.NvidiaError):
        clocks_query.parse_gpus(text)


def test_a_refused_field_is_left_out_and_named_once(tmp_path):
    mock = MockGpus(tmp_path)
    mock.mood(unknown=["power.draw", "clocks_event_reasons.active"])
    reader = clocks_query.Reader(str(mock.tool))
    first = reader.read()
    assert reader.missing == ["power.draw"] and first[0]["power_w"] is None and first[0]["reasons"] == ["gpu_idle"]
    (tmp_path / "calls").unlink()
    reader.read()
    assert len((tmp_path / "calls").read_text().splitlines()) == 1, "the names are known now"


@pytest.mark.parametrize("lost", ["pci.bus_id", "clocks.max.sm", "driver_version"])
def test_a_required_field_is_an_error_that_names_it(tmp_path, lost):
    mock = MockGpus(tmp_path)
    mock.mood(unknown=[lost])
    with pytest.raises(nvidia.NvidiaError, match=lost):
        clocks_query.Reader(str(mock.tool)).read()
