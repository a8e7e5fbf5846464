"""Whether InfiniBand reaches the GPUs' memory: by a peer-memory module or DMA-BUF, and by no detour that ACS forces."""

from __future__ import annotations

from ...core.fact import reason
from .infiniband import has_infiniband

REMEDY = "modprobe nvidia-peermem (Azure's image does so in sku-customizations.service), or install the driver's open kernel modules"
ACS_REMEDY = "turn ACS off on these bridges (setpci -s <address> ECAP_ACS+0x6.w=0000), or in the firmware; it takes each boot"


def check_gpu_direct(evidence, expect):
    """GPUDirect RDMA and ACS, where a node has GPUs with a driver and InfiniBand ports; elsewhere there is nothing to reach."""
    missing = _missing(evidence, expect)
    return [_reach(evidence["gpu_direct"], missing), _acs(evidence["pci_acs"], evidence["host_settings"]["virtual"], missing)]


def _missing(evidence, expect):
    """Return what a node lacks to need any of it, None where it has all."""
    if not has_infiniband(evidence, expect):
        return "no InfiniBand port"
    if not evidence["gpu"]["presence"]["pci"]:
        return "no GPU"
    return None if evidence["gpu"]["presence"]["driver"] else "the NVIDIA driver is not loaded"


def _reach(seen, missing):
    """Judge the way to the GPUs' memory. Without one the data take the way over the host's memory: slower, and not wrong."""
    check, threshold = "ib.gpu_direct", "nvidia_peermem, or DMA-BUF (open driver, kernel 5.12 or its symbol)"
    if missing:
        return reason(check, "skipped", missing, threshold)
    text = "%s; %s driver on kernel %s" % (
        ", ".join(seen["modules"]) or "no peer-memory module",
        seen["driver"] or "unknown",
        seen["kernel"],
    )
    if seen["modules"] or seen["dma_buf"]:
        return reason(check, "healthy", text + (": DMA-BUF" if not seen["modules"] else ""), threshold)
    if seen["dma_buf"] is None:
        return reason(check, "incomplete", text, threshold, "look at /proc/driver/nvidia/version and lsmod")
    return reason(check, "degraded", text + ": data go by the host's memory", threshold, REMEDY)


def _acs(seen, virtual, missing):
    """Judge ACS, which sends what a GPU and an adapter say to each other up to the root and back (NCCL, troubleshooting)."""
    check, threshold = "pci.acs", "no redirection by ACS above GPUs and InfiniBand adapters"
    if virtual:
        return reason(check, "skipped", "not applicable in a virtual machine: the host's bridges are not seen here", threshold)
    if missing:
        return reason(check, "skipped", missing, threshold)
    if seen["redirecting"]:
        text = "redirected at %s" % ", ".join(seen["redirecting"][:8])
        return reason(check, "degraded", text, threshold, ACS_REMEDY)
    if seen["unreadable"]:
        text = "cannot be read: %s" % ", ".join(seen["unreadable"][:8])
        return reason(check, "skipped", text + " (others than root, and most containers, see the first 64 bytes only)", threshold)
    return reason(check, "healthy", "off on %d bridges" % seen["bridges"], threshold)
