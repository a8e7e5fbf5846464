"""GPU evidence and checks, on what a real H200 printed and on what a broken one would have printed."""

from __future__ import annotations

import pytest
from ansible.module_utils.plumbline.health.gpu import check_gpu, gpu_measured
from ansible.module_utils.plumbline.machine import nvidia
from project import H200

XML = (H200 / "nvidia-smi.q.xml").read_text()
BUS = "0000:00:06.0"


def evidence(xml=XML, pci=(BUS,), error=None, tool="/usr/bin/nvidia-smi"):
    """Return evidence as collected on a node whose nvidia-smi prints ``xml``."""
    smi = nvidia.parse_xml(xml) if xml is not None else None
    return {"gpu": {"presence": {"pci": list(pci), "driver": True, "tool": tool}, "smi": smi, "error": error}}


def verdicts(evidence, expect=None):
    """Return {check: status}."""
    return {item["check"]: item["status"] for item in check_gpu(evidence, expect or {})}


def seen(evidence, check, expect=None):
    """Return what one check saw."""
    return next(item for item in check_gpu(evidence, expect or {}) if item["check"] == check)["seen"]


def two_gpus():
    """Return the capture with a second GPU in PCI domain 0001."""
    start, end = XML.index("\t<gpu id="), XML.index("</gpu>") + len("</gpu>\n")
    second = XML[start:end].replace("00000000:00:06.0", "00000001:00:00.0")
    return XML[:end] + second + XML[end:].replace("<attached_gpus>1<", "<attached_gpus>2<")


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


def test_healthy_capture_passes_every_check():
    found = verdicts(evidence(), {"gpu_count": 1, "gpu_product": "H200", "gpu_persistence": True})
    assert set(found.values()) == {"healthy"}
    assert set(found) == {
        "gpu.count", "gpu.driver", "gpu.product", "gpu.ecc", "gpu.remap", "gpu.recovery_action", "gpu.throttle", "gpu.persistence",
        "gpu.pcie",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("old", "new", "check", "status"),
    [
        ("<dram_uncorrectable>0<", "<dram_uncorrectable>3<", "gpu.ecc", "failed"),
        ("<sram_threshold_exceeded>No<", "<sram_threshold_exceeded>Yes<", "gpu.ecc", "failed"),
        ("<current_ecc>Enabled<", "<current_ecc>Disabled<", "gpu.ecc", "failed"),
        ("<current_ecc>Enabled<", "<current_ecc>N/A<", "gpu.ecc", "incomplete"),
        ("<remapped_row_pending>No<", "<remapped_row_pending>Yes<", "gpu.remap", "failed"),
        ("<remapped_row_failure>No<", "<remapped_row_failure>Yes<", "gpu.remap", "failed"),
        ("<remapped_row_pending>No<", "<remapped_row_pending>N/A<", "gpu.remap", "incomplete"),
        ("<gpu_recovery_action>None<", "<gpu_recovery_action>Reset<", "gpu.recovery_action", "failed"),
        ("<gpu_recovery_action>None</gpu_recovery_action>", "", "gpu.recovery_action", "incomplete"),
        ("hw_thermal_slowdown>Not Active<", "hw_thermal_slowdown>Active<", "gpu.throttle", "failed"),
        ("reason_sw_power_cap>Not Active<", "reason_sw_power_cap>Active<", "gpu.throttle", "degraded"),
        ("<persistence_mode>Enabled<", "<persistence_mode>Disabled<", "gpu.persistence", "degraded"),
        ("<product_name>NVIDIA H200<", "<product_name>NVIDIA A100<", "gpu.product", "failed"),
        ("<driver_version>580.159.04<", "<driver_version>N/A<", "gpu.driver", "incomplete"),
    ],
)
def test_broken_gpu_is_not_passed(old, new, check, status):
    assert old in XML
    found = verdicts(evidence(XML.replace(old, new)), {"gpu_product": "H200", "gpu_persistence": True})
    assert found[check] == status
    assert all(value == "healthy" for name, value in found.items() if name != check)


def test_corrected_errors_have_a_limit_only_where_the_sku_has_one():
    many = evidence(XML.replace("<dram_correctable>0<", "<dram_correctable>101<", 1))
    assert verdicts(many)["gpu.ecc"] == "healthy"
    assert verdicts(many, {"gpu_ecc_corrected_max": 100})["gpu.ecc"] == "failed"


def test_no_gpu_is_skipped_and_has_no_number():
    nothing = {"gpu": {"presence": {"pci": [], "driver": False, "tool": None}, "smi": None, "error": None}}
    assert verdicts(nothing) == {"gpu": "skipped"}
    assert seen(nothing, "gpu") == "no GPU"
    assert gpu_measured(nothing["gpu"]) == {}
    assert verdicts(nothing, {"gpu_count": 8}) == {"gpu": "failed"}


def test_driver_that_does_not_answer():
    on_bus = evidence(xml=None, error="nvidia-smi did not answer within 60 s")
    assert verdicts(on_bus) == {"gpu": "failed"}
    assert "did not answer" in seen(on_bus, "gpu")
    # Only the tool is there, as on a GPU image without a GPU: nothing is known, so nothing passes.
    assert verdicts(evidence(xml=None, pci=(), error="ended with 9")) == {"gpu": "incomplete"}


def test_missing_gpu_is_named():
    lost = evidence(pci=(BUS, "0001:00:00.0"))
    assert verdicts(lost)["gpu.count"] == "failed"
    assert "0001:00:00.0" in seen(lost, "gpu.count")
    # Gone from the bus too: only the SKU knows that it should be there.
    assert verdicts(evidence(two_gpus(), pci=(BUS, "0001:00:00.0")), {"gpu_count": 2})["gpu.count"] == "healthy"
    gone = {"gpu_count": 2, "gpu_pci_domains": ["0000", "0001"]}
    assert verdicts(evidence(), gone)["gpu.count"] == "failed"
    assert "PCI domain 0001" in seen(evidence(), "gpu.count", gone)


def test_numbers_by_address():
    numbers = gpu_measured(evidence(two_gpus())["gpu"])
    assert numbers["gpu_count"] == 2
    assert set(numbers["gpus"]) == {BUS, "0001:00:00.0"}
    assert numbers["gpus"][BUS]["temperature_c"] == 34


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
