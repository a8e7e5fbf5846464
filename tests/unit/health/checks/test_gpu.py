"""GPUs, on what a real H200 printed and on what a broken one would have printed."""

from __future__ import annotations

import pytest
from ansible.module_utils.plumbline.health.account import gpu_measured
from ansible.module_utils.plumbline.health.checks.gpu import check_gpu
from ansible.module_utils.plumbline.machine import nvidia
from health_nodes import CAPTURES, XML, node, smi_xml, statuses

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


def test_healthy_capture_passes_every_check():
    found = verdicts(evidence(), {"gpu_count": 1, "gpu_product": "H200", "gpu_persistence": True})
    assert set(found.values()) == {"healthy"}
    assert set(found) == {
        "gpu.count", "gpu.driver", "gpu.product", "gpu.ecc", "gpu.remap", "gpu.recovery_action", "gpu.throttle", "gpu.persistence",
        "gpu.pcie", "gpu.inforom",
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


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("<state>Completed<", "<state>In Progress<", {"gpu.fabric": "failed"}),
        ("<status>Success<", "<status>System is not in ready state<", {"gpu.fabric": "failed"}),
        ("<summary>Healthy<", "<summary>Limited Capacity<", {"gpu.fabric": "degraded"}),
        ("<current_link_width>16x<", "<current_link_width>8x<", {"gpu.pcie": "failed"}),
        ("<device_current_link_gen>5<", "<device_current_link_gen>3<", {"gpu.pcie": "failed"}),
        ("<current_link_width>16x<", "<current_link_width>N/A<", {"gpu.pcie": "incomplete"}),
        ("<unrepairable_memory>No<", "<unrepairable_memory>Yes<", {"gpu.remap": "failed"}),
        ("<tpc_repair_pending>No<", "<tpc_repair_pending>Yes<", {"gpu.remap": "failed"}),
        ("<sram_correctable>0<", "<sram_correctable>10001<", {"gpu.ecc": "failed"}),
    ],
)
def test_broken_gpu_of_an_nd_h100_v5(root, old, new, expected):
    xml = smi_xml()
    assert old in xml
    assert statuses(node(root, xml=xml.replace(old, new, 1))) == expected


def test_real_h200_capture_has_no_fabric_state_and_does_not_pass_where_one_is_expected():
    found = verdicts(evidence(), {"gpu_count": 1, "gpu_fabric": True, "gpu_pcie_gen": 5, "gpu_pcie_width": 16})
    assert found["gpu.fabric"] == "incomplete" and found["gpu.pcie"] == "healthy"
    assert (CAPTURES / "h200/nvidia-smi.nvlink_e.txt").read_text() == ""


def machine_of_two(root, files):
    """Write what a machine with GPUs at 0000:00:06.0 and 0000:00:07.0 shows, with the device files ``files``; return the root as text."""
    for minor, address in enumerate((BUS, "0000:00:07.0")):
        for path, text in (
            ("sys/bus/pci/devices/%s/vendor" % address, "0x10de\n"),
            ("sys/bus/pci/devices/%s/class" % address, "0x030200\n"),
            ("proc/driver/nvidia/gpus/%s/information" % address, "Model: \t\t NVIDIA H200\nDevice Minor: \t %d\n" % minor),
        ):
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text)
    (root / "dev").mkdir()
    for name in files:
        (root / "dev" / name).write_text("")
    return str(root)


def test_another_nodes_gpu_on_one_machine_is_not_lost(tmp_path):
    # Two lab nodes of two H200s each said "failed: on the PCI bus, but not with the driver" of each other's GPUs.
    present = nvidia.presence("/usr/bin/nvidia-smi", machine_of_two(tmp_path, ["nvidia0", "nvidiactl"]))
    assert present["pci"] == [BUS] and present["others"] == ["0000:00:07.0"]
    shared = dict(evidence()["gpu"], presence=present)
    assert verdicts({"gpu": shared}, {"gpu_count": 1})["gpu.count"] == "healthy"
    assert "not this node's, since it has no device file of them: 0000:00:07.0" in seen({"gpu": shared}, "gpu.count")


@pytest.mark.parametrize("files", [["nvidia0", "nvidia1"], []], ids=["its own", "none at all"])
def test_a_lost_gpu_stays_lost(tmp_path, files):
    present = nvidia.presence("/usr/bin/nvidia-smi", machine_of_two(tmp_path, files))
    assert present["pci"] == [BUS, "0000:00:07.0"] and present["others"] == []
    assert verdicts({"gpu": dict(evidence()["gpu"], presence=present)})["gpu.count"] == "failed"


def test_a_gpu_that_the_driver_could_not_start_stays_lost(tmp_path):
    # After "RmInitAdapter failed" the driver has no entry of it, so nobody says that it is another node's.
    root = machine_of_two(tmp_path, ["nvidia0"])
    (tmp_path / "proc/driver/nvidia/gpus/0000:00:07.0/information").unlink()
    present = nvidia.presence("/usr/bin/nvidia-smi", root)
    assert present["pci"] == [BUS, "0000:00:07.0"]
    assert verdicts({"gpu": dict(evidence()["gpu"], presence=present)}, {"gpu_count": 1})["gpu.count"] == "failed"
