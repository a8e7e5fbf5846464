"""NVLink, fabric, PCIe, InfiniBand, devices, and what each finding takes."""

from __future__ import annotations

import json
import shutil

import pytest
from ansible.module_utils.plumbline.core.fact import Measurement, reason
from ansible.module_utils.plumbline.health import azure as health_azure
from ansible.module_utils.plumbline.health import checks as health
from ansible.module_utils.plumbline.health import expect as health_expect
from ansible.module_utils.plumbline.health import infiniband as health_ib
from ansible.module_utils.plumbline.health import nvlink as health_nvlink
from ansible.module_utils.plumbline.health import remedy as health_remedy
from ansible.module_utils.plumbline.machine import nvidia
from ansible.module_utils.testing import patch_module_args
from health_nodes import (
    ADDRESSES,
    CAPTURES,
    COMPOSED,
    H100,
    H200,
    NVLINK_E,
    NVLINK_S,
    ROOT,
    SKUS,
    XML,
    node,
    reasons,
    smi_xml,
    statuses,
    sysfs,
    write,
)
from jsonschema import Draft202012Validator


@pytest.fixture
def root(tmp_path):
    """A folder with the sysfs of a healthy node."""
    sysfs(tmp_path)
    return tmp_path


def test_nvlink_is_read_by_gpu_and_link():
    gpus = health_nvlink.parse_status(NVLINK_S)
    assert [len(gpu["links"]) for gpu in gpus] == [18] * 8 and gpus[3]["links"][17] == 26.562
    errors = health_nvlink.parse_errors(NVLINK_E)
    assert errors[7]["counters"][17] == {"Replay Errors": 0, "Recovery Errors": 0, "CRC Errors": 0}
    inactive = "GPU 6: NVIDIA H100 80GB HBM3 (UUID: GPU-a)\nNVML: Unable to retrieve NVLink information as all links are inactive\n"
    assert health_nvlink.parse_status(inactive)[0]["all_inactive"] is True


@pytest.mark.parametrize(
    ("status", "errors", "expected"),
    [
        (NVLINK_S.replace("\t Link 17: 26.562 GB/s\n", "", 1), NVLINK_E, {"gpu.nvlink": "failed"}),
        (NVLINK_S[: NVLINK_S.index("GPU 7")], NVLINK_E, {"gpu.nvlink": "incomplete"}),
        (NVLINK_S, NVLINK_E.replace("Link 3: CRC Errors: 0", "Link 3: CRC Errors: 12", 1), {"gpu.nvlink_errors": "degraded"}),
        (NVLINK_S, NVLINK_E[: NVLINK_E.index("GPU 7")], {"gpu.nvlink_errors": "incomplete"}),
        (NVLINK_S, "", {"gpu.nvlink_errors": "incomplete"}),
    ],
)
def test_broken_nvlink(root, status, errors, expected):
    assert statuses(node(root, nvlink_s=status, nvlink_e=errors)) == expected


def test_nvlink_where_none_is_expected():
    gpu = {"gpu": {"smi": nvidia.parse_xml(XML), "nvlink": {"status": [], "errors": [], "said": []}}}
    assert [item["status"] for item in health_nvlink.check_nvlink(gpu, {})] == ["skipped"]
    assert [item["status"] for item in health_nvlink.check_nvlink(gpu, {"gpu_nvlink_count": 0})] == ["skipped"]
    assert [item["status"] for item in health_nvlink.check_nvlink(gpu, {"gpu_nvlink_count": 18})] == ["incomplete"] * 2
    assert health_nvlink.check_nvlink({"gpu": {"smi": None}}, {"gpu_nvlink_count": 18}) == []


def test_tool_that_fails_says_so(tmp_path):
    tool = tmp_path / "mock-nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'Unable to determine the device handle'; exit 9\n")
    tool.chmod(0o755)
    seen = health_nvlink.collect(str(tool), 5)
    assert seen["status"] is None and "ended with 9: Unable to determine" in seen["said"][0]


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
def test_broken_gpu(root, old, new, expected):
    xml = smi_xml()
    assert old in xml
    assert statuses(node(root, xml=xml.replace(old, new, 1))) == expected


def test_real_h200_capture_has_no_fabric_state_and_does_not_pass_where_one_is_expected():
    presence = {"pci": ["0000:00:06.0"], "driver": True, "tool": "x"}
    evidence = {"gpu": {"presence": presence, "smi": nvidia.parse_xml(XML), "error": None}}
    expect = {"gpu_count": 1, "gpu_fabric": True, "gpu_pcie_gen": 5, "gpu_pcie_width": 16}
    found = {item["check"]: item for item in health.check_gpu(evidence, expect)}
    assert found["gpu.fabric"]["status"] == "incomplete" and found["gpu.pcie"]["status"] == "healthy"
    assert (CAPTURES / "h200/nvidia-smi.nvlink_e.txt").read_text() == ""


@pytest.mark.parametrize(
    ("path", "text", "expected", "words"),
    [
        ("sys/class/infiniband/mlx5_ib4/ports/1/state", "1: DOWN", {"ib.state": "failed"}, "mlx5_ib4 is 1: DOWN"),
        ("sys/class/infiniband/mlx5_ib4/ports/1/rate", "200 Gb/sec (4X HDR)", {"ib.state": "failed"}, "mlx5_ib4 at 200 Gbit/s"),
        ("sys/class/infiniband/mlx5_ib4/ports/1/rate", "unknown", {"ib.state": "incomplete"}, "mlx5_ib4"),
        ("sys/class/infiniband/mlx5_ib4/ports/1/counters/link_downed", "1", {"ib.flaps": "degraded"}, "mlx5_ib4 lost its link 1"),
        ("sys/class/net/ib4/carrier_changes", "6", {"ib.flaps": "degraded"}, "carrier_changes 6"),
        ("sys/class/net/ib4/carrier_changes", "12", {"ib.flaps": "failed"}, "5 times"),
    ],
)
def test_broken_ib_port(root, path, text, expected, words):
    write(root, path, text)
    evidence = node(root)
    assert statuses(evidence) == expected
    assert words in str(reasons(evidence))


def test_missing_ib_device_interface_and_disk(root):
    for path in ("sys/class/infiniband/mlx5_ib6", "sys/class/net/ib6", "sys/block/nvme0n1"):
        shutil.rmtree(root / path)
    evidence = node(root)
    assert statuses(evidence) == {"ib.state": "failed", "net.interfaces": "failed", "nvme.count": "failed"}
    assert "missing: mlx5_ib6" in reasons(evidence)["ib.state"][0]["seen"]
    assert "missing: ib6" in reasons(evidence)["net.interfaces"][0]["seen"]


def test_ib_without_expectation_or_ports(tmp_path):
    assert [item["status"] for item in health_ib.check_ib({"ib": []}, {})] == ["skipped"]
    assert [item["status"] for item in health_ib.check_ib({"ib": []}, {"ib_ports": []})] == ["skipped"]
    sysfs(tmp_path)
    found = health_ib.check_ib({"ib": health_ib.collect(str(tmp_path))}, {})
    assert [(item["check"], item["status"]) for item in found] == [("ib.state", "healthy"), ("ib.flaps", "healthy")]
    assert health_ib.collect(str(tmp_path / "nothing")) == []


def test_h200_wants_its_accelerated_network(root):
    found = health_ib.check_ib({"ib": health_ib.collect(str(root))}, H200)
    assert {item["check"]: item["status"] for item in found} == {"ib.state": "healthy", "ib.flaps": "healthy", "ib.ethernet": "failed"}


def test_xids_lost_with_the_ring_buffer_are_incomplete(root):
    evidence = node(root)
    evidence["kernel_log"].update(source="ring buffer", complete=False)
    assert statuses(evidence) == {"kernel_log": "incomplete"}


def test_physical_host_from_the_kvp_pool_or_the_log(root):
    assert health_azure.host_values(str(root))["PhysicalHostName"] == "PHYSHOST000001"
    evidence = dict(node(root), host={})
    assert health.physical_host(evidence) == "PHYSHOST000001"
    assert health.physical_host(dict(evidence, nhc={"skipped": ("x", None)})) is None
    assert health_azure.host_values(str(root / "nothing")) == {}


# -- what it takes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("check", "seen", "expected"),
    [
        ("disk.free", "/: 0 bytes free", ("none", None)),
        ("gpu", "8 on the PCI bus, but nvidia-smi did not answer", ("reboot", "NHC2015")),
        ("gpu.count", "7 GPUs answer; on the PCI bus, but not with the driver: 0008:00:00.0", ("reboot", "NHC2009")),
        ("gpu.count", "7 GPUs answer; missing from the PCI bus: 0008:00:00.0", ("replace", "NHC2009")),
        ("gpu.remap", "0001:00:00.0 has a remap pending: reset the GPU", ("reset_gpu", "NHC2007")),
        ("gpu.remap", "0001:00:00.0 has failed to remap a row: replace the node", ("replace", "NHC2007")),
        ("gpu.recovery_action", "0001:00:00.0 asks for: Reboot", ("reboot", "NHC2001")),
        ("gpu.recovery_action", "0001:00:00.0 asks for: Reset", ("reset_gpu", "NHC2001")),
        ("kernel_log.xid", "XID 94 at 0001:00:00; the last: NVRM", ("reset_gpu", "NHC2012")),
        ("kernel_log.xid", "XID 64 at 0001:00:00, XID 79 at 0002:00:00; the last: NVRM", ("replace", "NHC2007")),
        ("kernel_log.xid", "XID 79 at 0001:00:00; the last: NVRM", ("reboot", "NHC2013")),
        ("nhc.check_gpu_bw", "P2P failed. FaultCode: NHC2020", ("replace", "NHC2020")),
        ("nhc.check_nvlink_status", "GPU 0. FaultCode: NHC2016", ("reset_gpu", "NHC2016")),
        ("ib.state", "missing: mlx5_ib3", ("reboot", "NHC2002")),
        ("ib.flaps", "mlx5_ib3 lost its link 9 times", ("replace", "NHC2005")),
    ],
)
def test_class_and_fault_code(check, seen, expected):
    assert health_remedy.classify(reason(check, "failed", seen)) == expected
    assert health_remedy.classify(reason(check, "degraded", seen)) == ("none", None)


def test_replace_names_the_physical_host_and_the_fault_code(root):
    seven = ADDRESSES[:7]
    evidence = node(root, xml=smi_xml(seven), pci=seven, kernel=["NVRM: Xid (PCI:0001:00:00): 94, Contained: memory error"])
    told, remediation = health_remedy.remediation(health.assess(evidence, H100), health.physical_host(evidence))
    assert remediation["class"] == "replace" and remediation["physical_host"] == "PHYSHOST000001"
    classes = {item["check"]: item["class"] for item in remediation["findings"]}
    assert (classes["gpu.count"], classes["kernel_log.xid"]) == ("replace", "reset_gpu")
    assert remediation["fault_codes"] == ["NHC2009", "NHC2012"]
    remedy = next(item for item in told if item["check"] == "gpu.count")["remedy"]
    assert remedy.startswith("[replace]") and "PHYSHOST000001" in remedy and "NHC2009" in remedy
    healthy = health_remedy.remediation(health.assess(node(root), H100), None)[1]
    assert healthy == {"class": "none", "findings": [], "fault_codes": [], "physical_host": None}


def test_every_failing_gpu_ib_and_nhc_check_has_a_class():
    names = "gpu gpu.count gpu.ecc gpu.remap gpu.nvlink gpu.fabric gpu.pcie ib.state ib.ethernet nvme.count nhc.check_hw_ib"
    for check in names.split():
        kind, _code = health_remedy.classify(reason(check, "failed", "x"))
        assert kind in health_remedy.CLASSES and kind != "none", check


def test_whole_fact_fits_the_schema(root):
    chosen = health_expect.choose("Standard_ND96isr_H100_v5", SKUS, None)
    evidence = node(root, kernel=["NVRM: Xid (PCI:0001:00:00): 31, pid=9, MMU Fault"])
    measurement = Measurement("health", "node")
    measurement.reasons, remediation = health_remedy.remediation(health.assess(evidence, H100), health.physical_host(evidence))
    measurement.measured = health.measured(evidence)
    measurement.context = dict(health.context(evidence, chosen), remediation=remediation)
    fact = measurement.fact()
    for name in ("fact", "health"):
        Draft202012Validator(json.loads((ROOT / ("docs/schema/%s.schema.json" % name)).read_text())).validate(fact)
    assert fact["status"] == "degraded"
    measured = fact["measured"]
    assert measured["gpu_count"] == 8 and measured["xids_count"] == {"31": 1} and measured["nvme_count"] == 8
    assert measured["gpus"][ADDRESSES[0]]["nvlink_active_count"] == 18 and measured["gpus"][ADDRESSES[0]]["pcie_gen"] == 5
    assert measured["nhc"]["nccl_allreduce_gbps"] == 477.8 and measured["ib_ports"]["mlx5_ib0"]["rate_gbit_s"] == 400
    assert fact["context"]["ib_firmware"] == ["28.39.3004"]


def test_module_reads_a_whole_node_in_one_call(root, capsys):
    """Everything but the hardware: the module with a stand-in for nvidia-smi and one for NHC, and a recorded sysfs."""
    import node_health

    (root / "smi.xml").write_text(smi_xml())
    tool = root / "mock-nvidia-smi"
    tool.write_text(
        '#!/bin/sh\ncase "$*" in\n"-q -x") cat %s/smi.xml;;\n"nvlink -s") cat %s;;\n"nvlink -e") cat %s;;\n*) exit 2;;\nesac\n'
        % (root, COMPOSED / "nvidia-smi.nvlink_s.h100.txt", COMPOSED / "nvidia-smi.nvlink_e.h100.txt")
    )
    script = root / "mock-run-health-checks.sh"
    script.write_text(
        '#!/bin/sh\nwhile [ $# -gt 0 ]; do [ "$1" = -o ] && log=$2; shift; done\ncat %s > "$log"\n' % (COMPOSED / "nhc.nd96isr_h100_v5.log")
    )
    write(root, "conf/nd96isr_h100_v5.conf", "".join(" * || %s\n" % command for command in H100["nhc_checks"]))
    for path in (tool, script):
        path.chmod(0o755)
    for address in ADDRESSES:
        write(root, "sys/bus/pci/devices/%s/vendor" % address, "0x10de")
        write(root, "sys/bus/pci/devices/%s/class" % address, "0x030200")
    arguments = {
        "sku": "Standard_ND96isr_H100_v5", "skus": SKUS, "paths": [str(root)], "nvidia_smi": str(tool), "root": str(root),
        "nhc_script": str(script), "nhc_log_dir": str(root / "log"),
    }  # fmt: skip
    with patch_module_args(arguments), pytest.raises(SystemExit):
        node_health.main()
    fact = json.loads(capsys.readouterr().out)["fact"]
    for name in ("fact", "health"):
        Draft202012Validator(json.loads((ROOT / ("docs/schema/%s.schema.json" % name)).read_text())).validate(fact)
    checks = {item["check"]: item["status"] for item in fact["reasons"]}
    about_hardware = {name: status for name, status in checks.items() if name.split(".")[0] in ("gpu", "ib", "net", "nvme", "nhc")}
    assert len(about_hardware) > 30 and set(about_hardware.values()) == {"healthy"}
    assert fact["context"]["nhc"]["log"].startswith(str(root / "log")) and fact["context"]["physical_host"] == "PHYSHOST000001"
    # This machine is no ND H100 v5, and the fact says so: nobody compared the clocks, and its memory is not 1.8 TiB.
    assert checks["clock.skew"] == "incomplete" and fact["status"] == "failed"
