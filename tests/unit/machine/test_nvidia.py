"""What nvidia-smi prints, on the real output of an H200, and what is no answer."""

from __future__ import annotations

import pytest
from ansible.module_utils.plumbline.machine import nvidia
from project import H200

XML = (H200 / "nvidia-smi.q.xml").read_text()
BUS = "0000:00:06.0"


def test_capture_is_read():
    read = nvidia.parse_xml(XML)
    gpu = read["gpus"][0]
    assert (read["driver"], read["cuda"], read["attached"]) == ("580.159.04", "13.0", 1)
    assert gpu["bus_id"] == BUS
    assert gpu["product"] == "NVIDIA H200"
    assert (gpu["sm_mhz"], gpu["sm_max_mhz"], gpu["memory_mhz"]) == (345, 1980, 3201)
    assert gpu["recovery_action"] == "None"
    assert (gpu["remap_pending"], gpu["remap_failure"]) == (False, False)
    assert (gpu["ecc_mode"], gpu["ecc_volatile_uncorrected"], gpu["ecc_aggregate_uncorrected"]) == ("Enabled", 0, 0)
    assert gpu["throttle"]["gpu_idle"] is True and gpu["throttle"]["hw_slowdown"] is False
    assert gpu["throttle_us"]["hw_therm_slowdown"] == 0
    assert gpu["power_w"] == 81.89


@pytest.mark.parametrize("text", ["", "No devices were found\n", "<html></html>", XML[:5000]])
def test_what_is_no_answer_is_refused(text):
    with pytest.raises(nvidia.NvidiaError, match="nvidia-smi -q -x printed"):
        nvidia.parse_xml(text)


def test_csv():
    rows = nvidia.parse_csv((H200 / "nvidia-smi.query.csv").read_text())
    assert rows[0]["clocks.current.sm"] == "345 MHz"
    assert nvidia.number(rows[0]["power.draw"]) == 87.76
    assert nvidia.value_or_none(rows[0]["retired_pages.pending"]) is None
    remapped = nvidia.parse_csv((H200 / "nvidia-smi.remapped.csv").read_text())
    assert nvidia.yes(remapped[0]["remapped_rows.pending"]) is False
    with pytest.raises(nvidia.NvidiaError, match="columns"):
        nvidia.parse_csv("index, name\n0, NVIDIA H200\nUnable to determine the device handle for GPU 0001:00:00.0\n")
    with pytest.raises(nvidia.NvidiaError, match="nothing"):
        nvidia.parse_csv("\n")


def test_pci_bus(tmp_path):
    for address, vendor, kind in (
        ("0001:00:00.0", "0x10de", "0x030200"),
        ("0002:00:00.0", "0x10de", "0x068000"),  # an NVSwitch is no GPU
        ("0003:00:00.0", "0x15b3", "0x020700"),  # a ConnectX port
    ):
        place = tmp_path / "sys/bus/pci/devices" / address
        place.mkdir(parents=True)
        (place / "vendor").write_text(vendor + "\n")
        (place / "class").write_text(kind + "\n")
    assert nvidia.pci_gpus(str(tmp_path)) == ["0001:00:00.0"]


def test_tool_that_hangs_or_fails(tmp_path):
    hanging = tmp_path / "mock-nvidia-smi-hanging"
    hanging.write_text("#!/bin/sh\nexec sleep 30\n")
    failing = tmp_path / "mock-nvidia-smi-failing"
    failing.write_text("#!/bin/sh\necho 'Failed to initialize NVML: Driver/library version mismatch'; exit 18\n")
    for path in (hanging, failing):
        path.chmod(0o755)
    with pytest.raises(nvidia.NvidiaError, match="did not answer within 0.3 s"):
        nvidia.query_xml(str(hanging), timeout_s=0.3)
    with pytest.raises(nvidia.NvidiaError, match="ended with 18: Failed to initialize NVML"):
        nvidia.query_xml(str(failing))
    with pytest.raises(nvidia.NvidiaError, match="not installed"):
        nvidia.query_xml(None)
