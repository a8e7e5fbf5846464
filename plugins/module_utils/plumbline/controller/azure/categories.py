"""Which of Azure's categories a failed check of ours is, for Guest Health Reporting; or why it is none.

Categories: learn.microsoft.com, azure-impact-reporting/guest-health-impact-categories (September 2025). What a fault code of Azure NHC
is: azurehpc-health-checks, ``triggerGHR/config/nhc_fault_dictionary.cfg``. Every category of theirs that is Unhealthy takes the node out.
"""

from __future__ import annotations

import re

from ...health import remedy

PREFIX = "Resource.Hpc.Unhealthy."

# Those that speak of one GPU: only with these Azure takes its serial number and place.
OF_A_GPU = (
    "HpcMissingGpu",
    "HpcGpuDcgmDiagFailure",
    "HpcRowRemapFailure",
    "HpcInforomCorruption",
    "XID95UncontainedECCError",
    "XID94ContainedECCError",
    "XID79FallenOffBus",
    "XID48DoubleBitECC",
    "UnhealthyGPUNvidiasmi",
    "NvLink",
    "HpcDcgmiThermalReport",
    "ECCPageRetirementTableFull",
    "DBEOverLimit",
    "GpuXIDError",
    "AmdGpuResetFailed",
    "EROTFailure",
    "GPUMemoryBWFailure",
)
OF_THE_NODE = (
    "MissingIB",
    "IBPerformance",
    "IBPortDown",
    "IBPortFlapping",
    "CPUPerformance",
)
# They say least, so any other comes before them.
GENERAL = ("HpcGenericFailure", "ManualInvestigation")
CATEGORIES = OF_A_GPU + OF_THE_NODE + GENERAL

BY_CODE = {
    "NHC2001": "HpcGenericFailure",
    "NHC2002": "MissingIB",
    "NHC2003": "IBPerformance",
    "NHC2004": "IBPortDown",
    "NHC2005": "IBPortFlapping",
    "NHC2006": "HpcGpuDcgmDiagFailure",
    "NHC2007": "HpcRowRemapFailure",
    "NHC2008": "HpcInforomCorruption",
    "NHC2009": "HpcMissingGpu",
    "NHC2010": "ManualInvestigation",
    "NHC2011": "XID95UncontainedECCError",
    "NHC2012": "XID94ContainedECCError",
    "NHC2013": "XID79FallenOffBus",
    "NHC2014": "XID48DoubleBitECC",
    "NHC2015": "UnhealthyGPUNvidiasmi",
    "NHC2016": "NvLink",
    "NHC2017": "HpcDcgmiThermalReport",
    "NHC2018": "ECCPageRetirementTableFull",
    "NHC2019": "DBEOverLimit",
    "NHC2020": "HpcGpuDcgmDiagFailure",
    "NHC2021": "GPUMemoryBWFailure",
    "NHC2022": "CPUPerformance",
    # NHC2023 (NVMe disks) is NHC's alone: neither the dictionary nor the categories know it. The general one is for such.
    "NHC2023": "HpcGenericFailure",
}

# An XID that is not 48, 79, 94 or 95 has a category of its own, where its fault code has none that is more exact.
XID_CHECKS = ("kernel_log.xid", "nhc.check_gpu_xid")
XID_CODES = ("NHC2001", "NHC2019", "NHC2020")

# A check's beginning, and its category where no fault code tells: measurements that Azure's NHC has no check for.
BY_BEGINNING = (
    ("dcgm", "HpcGpuDcgmDiagFailure"),
    ("gpu_baseline.read", "GPUMemoryBWFailure"),
    ("gpu_baseline.values", "ManualInvestigation"),  # wrong results: no category of theirs is about these
    ("gpu_baseline.hash", "ManualInvestigation"),
    ("gpu_baseline.fleet", "ManualInvestigation"),
    ("gpu_baseline.matrix", "ManualInvestigation"),  # slow at an equal clock
    ("gpu_baseline.peers.values", "ManualInvestigation"),
    ("ib_counters.link_downed", "IBPortFlapping"),
    ("ib_counters.ports", "MissingIB"),  # a port that was there before
    ("ib_counters.symbol_error", "IBPerformance"),
    ("ib_counters.local_link_integrity_errors", "IBPerformance"),
    ("ib_counters.excessive_buffer_overrun_errors", "IBPerformance"),
    ("pairwise.node.", "IBPerformance"),  # of one port, by ib_write_bw
    ("pairwise.node", "ManualInvestigation"),  # the node is behind every slow pair; over which wire is not said
    ("collective.values", "ManualInvestigation"),  # wrong sums within one node
    ("collective.baseline", "ManualInvestigation"),  # as Azure's own dictionary has NHC's all-reduce
)
# A check's beginning, and why it is no matter of Azure's.
WITHOUT = (
    ("clock.", "the clock is set right on the node"),
    ("clocks.", "the lock of the GPU clocks is made on the node; what holds a GPU down is told by gpu.throttle"),
    ("collective.", "it is a matter of software and settings, or of several nodes together"),
    ("cpu.", "what else runs on the processors, and how they are set, is mended on the node"),
    ("disk.", "a disk is emptied or mounted anew on the node"),
    ("fleet", "software that differs between nodes is mended on the node"),
    ("gpu_baseline", "what else ran, the clocks, or the program that measures: look at the node first"),
    ("ib_counters", "it does not take a node out"),
    ("gpu.choice", "the GPUs to use are chosen on the node"),
    ("gpu.driver", "the driver is installed on the node"),
    ("gpu.persistence", "it is a setting of the node"),
    ("gpu.product", "the size or sku_name may be wrong; if it is the machine, choose a category yourself"),
    ("gpu.nvlink_errors", "errors that were corrected; a link that is down is told by gpu.nvlink"),
    ("gpu.", "it is a setting of the node"),
    ("host.", "it is a setting of the node"),
    ("ib.", "it is a matter of the driver and settings of the node"),
    ("image.", "the image is yours"),
    ("kernel_log.", "it may be the kernel's own fault; if it comes back after a reboot, choose a category yourself"),
    ("kernel_log", "the kernel's log could not be read"),
    ("link.", "two nodes measured it together, and it does not say which of them it was"),
    ("memory.", "memory is used, or set, on the node"),
    ("model", "the model and its transfer are software"),
    ("hub.", "the hub and what it gives are software"),
    ("blob.", "the storage account and what it gives are software"),
    ("net", "the virtual network is none of the hardware that Azure HPC takes back"),
    ("nic", "the virtual network is none of the hardware that Azure HPC takes back"),
    ("nhc", "NHC itself could not run or be read, or it named no fault code"),
    ("pairwise.", "it says nothing about one node"),
    ("processes.", "processes that hang are ended by a reboot; if they come back, look at what they wait for"),
    ("pci", "it is a setting of the machine below, which a guest cannot judge"),
    ("services", "services are started and stopped on the node"),
    ("startup", "a server that does not start is software"),
    ("benchmark", "how fast a server is, is no fault of one part"),
    ("serve", "serving is software"),
    ("prediction", "what was foretold is no fault of any part"),
    ("ray", "serving is software"),
    ("vllm", "serving is software"),
    ("sku", "the size or sku_name is not known"),
    ("evidence", "something was not measured"),
    ("selection", "too few nodes were left; each one's own verdict says why"),
    ("task", "a task failed; its message says at what"),
    ("unreachable", "a node that does not answer tells nothing; Azure's own resource health knows whether it runs"),
    ("fact.", "the fact is broken"),
    ("check_mode", "nothing was measured"),
)


def category(check, seen):
    """Return ``(category, None)`` of a failed check in Azure's words, or ``(None, why)`` where it has none."""
    _kind, code = remedy.classify({"check": check, "status": "failed", "seen": seen})
    if code in XID_CODES and check in XID_CHECKS:
        return PREFIX + "GpuXIDError", None
    if code in BY_CODE:
        return PREFIX + BY_CODE[code], None
    for beginning, name in BY_BEGINNING:
        if check.startswith(beginning):
            return PREFIX + name, None
    return None, next((why for beginning, why in WITHOUT if check.startswith(beginning)), "no category is known for it")


def rank(name):
    """Return how little a category says: one of a part 0, a general one 1."""
    return int(name.removeprefix(PREFIX) in GENERAL)


def of_a_gpu(name):
    """Return whether a category is about a GPU, so that its serial number and place belong to it."""
    return name.removeprefix(PREFIX) in OF_A_GPU


def gpus_behind(check, seen):
    """Return the PCI addresses of the GPUs for which a finding has its category: of several that it names, those that take most."""
    if check is None:
        return gpu_addresses(seen)
    behind = r"(?=\bXID \d+\b)" if check in XID_CHECKS else r"(?=\b[0-9a-fA-F]{4,8}:[0-9a-fA-F]{2}:[0-9a-fA-F]{2}\.[0-7])"
    name = category(check, seen)[0]
    for part in re.split(behind, seen.split("; the last: ")[0]):
        if category(check, part)[0] == name and gpu_addresses(part):
            return gpu_addresses(part)
    return gpu_addresses(seen)


def gpu_addresses(seen):
    """Return the PCI addresses that a finding names, in the form of sysfs and once each; those of the kernel's log lack the function."""
    found = []
    for domain, rest, function in re.findall(r"\b([0-9a-fA-F]{4,8}):([0-9a-fA-F]{2}:[0-9a-fA-F]{2})(\.[0-7])?(?![0-9a-fA-F])", seen):
        address = "%04x:%s%s" % (int(domain, 16), rest.lower(), function or ".0")
        if address not in found:
            found.append(address)
    return found
