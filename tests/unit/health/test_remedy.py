"""What each finding takes, and what Azure has to be told."""

from __future__ import annotations

import pytest
from ansible.module_utils.plumbline.core.fact import reason
from ansible.module_utils.plumbline.health import account
from ansible.module_utils.plumbline.health import remedy as health_remedy
from ansible.module_utils.plumbline.health.verdict import assess
from health_nodes import ADDRESSES, H100, node, smi_xml


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
    told, remediation = health_remedy.remediation(assess(evidence, H100), account.physical_host(evidence))
    assert remediation["class"] == "replace" and remediation["physical_host"] == "PHYSHOST000001"
    classes = {item["check"]: item["class"] for item in remediation["findings"]}
    assert (classes["gpu.count"], classes["kernel_log.xid"]) == ("replace", "reset_gpu")
    assert remediation["fault_codes"] == ["NHC2009", "NHC2012"]
    remedy = next(item for item in told if item["check"] == "gpu.count")["remedy"]
    assert remedy.startswith("[replace]") and "PHYSHOST000001" in remedy and "NHC2009" in remedy
    healthy = health_remedy.remediation(assess(node(root), H100), None)[1]
    assert healthy == {"class": "none", "findings": [], "fault_codes": [], "physical_host": None}


def test_every_failing_gpu_ib_and_nhc_check_has_a_class():
    names = "gpu gpu.count gpu.ecc gpu.remap gpu.nvlink gpu.fabric gpu.pcie ib.state ib.ethernet nvme.count nhc.check_hw_ib"
    for check in names.split():
        kind, _code = health_remedy.classify(reason(check, "failed", "x"))
        assert kind in health_remedy.CLASSES and kind != "none", check
