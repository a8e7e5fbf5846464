"""What an ERROR of NHC takes where its words say more than its fault code, or where it has none.

Azure's checks give one code to several faults (every XID is NHC2001), and LBNL's own checks know no codes
(azurehpc-health-checks ``customTests``; mej/nhc ``lbnl_hw.nhc``).
"""

from __future__ import annotations

import re

# check, words in the error, class, Azure's fault code
WORDS = (
    ("nhc.check_nvlink_status", "nvlinks inactive", "reset_gpu", "NHC2016"),
    ("nhc.check_nvlink_status", "Failed to get NVLINK status", "reboot", "NHC2016"),
    ("nhc.check_hw_ib", "No IB port", "reboot", "NHC2004"),
    ("nhc.check_hw_eth", "not detected", "reboot", "NHC2001"),
    ("nhc.check_hw_cpuinfo", "does not match expected", "replace", "NHC2001"),
    ("nhc.check_hw_physmem", "less than minimum", "replace", "NHC2001"),
    # Mended on the node, or in the conf: more than the size has, or swap that somebody switched on.
    ("nhc.check_hw_physmem", "greater than maximum", "none", None),
    ("nhc.check_hw_swap", "SWAP size", "none", None),
    ("nhc.check_gpu_ecc", "Row remap error", "replace", "NHC2007"),
    ("nhc.check_gpu_ecc", "Row remap uncorrectable error count is too high", "replace", "NHC2007"),
    ("nhc.check_ib_bw_gdr", "could not determine NUMA node", "reboot", "NHC2002"),
    ("nhc.check_gpu_bw", "No GPUs found", "reboot", "NHC2009"),
    ("nhc.check_gpu_bw", "with error code 124", "reboot", "NHC2015"),
    ("nhc.check_nccl_allreduce", "No GPUs found", "reboot", "NHC2009"),
)


def by_words(check, seen):
    """Return ``[(class, fault code), ...]`` of the words that an ERROR has; empty where its fault code says it all."""
    return [(kind, code) for name, words, kind, code in WORDS if name == check and words in seen]


def quoted_xids(check, seen):
    """Return the XIDs that ``check_gpu_xid`` quotes from the kernel's log, as ``XID 79, XID 94``; empty for any other error."""
    numbers = re.findall(r"\bXid \([^)]*\): (\d+)", seen) if check == "nhc.check_gpu_xid" else []
    return ", ".join("XID %s" % number for number in dict.fromkeys(numbers))
