"""What a finding takes: nothing, a GPU reset, a reboot, or another node; and what Azure has to be told.

Fault codes are Azure's (azurehpc-health-checks, ``triggerGHR/config/nhc_fault_dictionary.cfg``). What an XID takes is
NVIDIA's and stands in ``checks.xids``.
"""

from __future__ import annotations

from .checks import xids
from .evidence import nhc_faults
from .evidence.nhc_log import NO_FAULT, fault_codes

CLASSES = xids.CLASSES  # from least to most

# Check: (class, fault code) of a failed finding. What is not here (a full disk, a clock, a NIC's setting) is mended on the node.
BY_CHECK = {
    "gpu": ("reboot", "NHC2015"),
    "gpu.count": ("reboot", "NHC2009"),
    "gpu.ecc": ("reset_gpu", "NHC2019"),
    "gpu.remap": ("reset_gpu", "NHC2007"),
    "gpu.recovery_action": ("reset_gpu", "NHC2001"),
    "gpu.inforom": ("replace", "NHC2008"),
    "gpu.throttle": ("replace", "NHC2017"),
    "gpu.nvlink": ("reset_gpu", "NHC2016"),
    "gpu.fabric": ("reboot", "NHC2016"),
    "gpu.pcie": ("reboot", "NHC2020"),
    "gpu.topology": ("reset_gpu", "NHC2016"),
    "numa.nodes": ("replace", "NHC2010"),
    "numa.gpus": ("replace", "NHC2010"),
    "numa.ib": ("replace", "NHC2010"),
    "ib.state": ("reboot", "NHC2004"),
    "ib.ethernet": ("reboot", "NHC2001"),
    "ib.flaps": ("replace", "NHC2005"),
    "nvme.count": ("reboot", "NHC2023"),
    "cpu.count": ("replace", "NHC2001"),
    "memory.total": ("replace", "NHC2001"),
    "kernel_log.io_error": ("replace", "NHC2001"),
    "kernel_log.mce": ("replace", "NHC2001"),
    "kernel_log.filesystem": ("reboot", None),
    "kernel_log.kernel_bug": ("reboot", None),
    "kernel_log.pcie": ("reboot", "NHC2020"),
    "kernel_log.gpu_lost": ("reboot", "NHC2013"),
    "kernel_log.gpu_init": ("reboot", "NHC2015"),
    "kernel_log.gpu_reset": ("reset_gpu", "NHC2001"),
    "kernel_log.sxid": ("reboot", "NHC2016"),
    "kernel_log.nic": ("reboot", "NHC2001"),
    "nhc.nccl_allreduce_gbps": ("replace", "NHC2010"),
    "nhc.ib_write_gbit_s": ("replace", "NHC2003"),
    "nhc.h2d_gbps": ("reboot", "NHC2020"),
    "nhc.d2h_gbps": ("reboot", "NHC2020"),
    "nhc.p2p_gbps": ("reset_gpu", "NHC2020"),
}
# Words in what was seen that make it worse than the check's usual class.
WORSE = (
    ("gpu.count", "missing from the PCI bus", "replace", "NHC2009"),
    ("gpu.remap", "failed to remap", "replace", "NHC2007"),
    ("gpu.remap", "cannot be repaired", "replace", "NHC2007"),
    ("gpu.ecc", "SRAM", "replace", "NHC2019"),
    ("gpu.recovery_action", "Reboot", "reboot", "NHC2001"),
    ("gpu.recovery_action", "Replace", "replace", "NHC2001"),
    ("ib.state", "missing", "reboot", "NHC2002"),
    ("ib.state", "Gbit/s", "replace", "NHC2003"),
)
# Faults that Azure NHC names and that a reset or a reboot may mend; every other one takes another node.
BY_FAULT = {"NHC2007": "reset_gpu", "NHC2015": "reboot", "NHC2016": "reset_gpu"}

REMEDY = {
    "reset_gpu": "nvidia-smi --gpu-reset -i <address>, with nothing running on it; if it comes back, replace the node",
    "reboot": "reboot the node; if it comes back, replace it",
}


def worst_class(classes):
    """Return the class that takes most; ``none`` without one."""
    return max(classes, key=CLASSES.index, default="none")


def classify(item):
    """Return ``(class, fault code)`` of one reason; only what failed takes anything."""
    if item["status"] != "failed":
        return "none", None
    check, seen = item["check"], item["seen"]
    if check == "kernel_log.xid":
        return xids.classify(seen)
    if check.startswith("nhc.") and check not in BY_CHECK:
        quoted = nhc_faults.quoted_xids(check, seen)
        if quoted:
            return classify(dict(item, check="kernel_log.xid", seen=quoted))
        codes = sorted(set(fault_codes(seen)) - {NO_FAULT})
        found = nhc_faults.by_words(check, seen) or [(BY_FAULT.get(code, "replace"), code) for code in codes]
        return max(found, key=lambda pair: CLASSES.index(pair[0]), default=("reboot", None))
    found = [BY_CHECK.get(check, ("none", None))]
    found += [(kind, code) for name, words, kind, code in WORSE if name == check and words in seen]
    return max(found, key=lambda pair: (CLASSES.index(pair[0]), found.index(pair)))


def remediation(reasons, physical_host):
    """Return the node's remediation, and the reasons with it written into their remedies.

    The result has ``class``, ``findings`` (``{"check", "class", "fault_code"}``, failed ones only), ``fault_codes`` and
    ``physical_host`` (None: the host did not tell).
    """
    told, findings = [], []
    host = physical_host or "unknown: no PhysicalHostName in Hyper-V's KVP pool"
    for item in reasons:
        kind, code = classify(item)
        if item["status"] == "failed":
            findings.append({"check": item["check"], "class": kind, "fault_code": code})
        if kind == "replace":
            text = "replace the node: report it to Azure with physical host %s and fault code %s" % (host, code)
            own = item["remedy"]
            item = dict(item, remedy="[replace] %s%s" % (text, " (%s)" % own if own else ""))
        elif kind != "none":
            also = "; then with physical host %s and fault code %s" % (host, code) if code else ""
            own = " (%s)" % item["remedy"] if item["remedy"] else ""
            kept = "; the kernel log keeps this finding until the next boot" if item["check"].startswith("kernel_log.") else ""
            item = dict(item, remedy="[%s] %s%s%s%s" % (kind, REMEDY[kind], also, kept, own))
        told.append(item)
    return told, {
        "class": worst_class(item["class"] for item in findings),
        "findings": findings,
        "fault_codes": sorted({item["fault_code"] for item in findings if item["fault_code"] and item["class"] != "none"}),
        "physical_host": physical_host,
    }
