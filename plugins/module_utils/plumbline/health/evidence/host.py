"""How a node's kernel is set: the memory that may be locked, huge pages, frequency governors, and whether it is a virtual machine."""

from __future__ import annotations

import glob
import os
import re

from ...core.files import read_text
from .azure import AZURE_ASSET_TAG

CAP_IPC_LOCK = 14  # linux/capability.h: lifts RLIMIT_MEMLOCK, and ib_umem_get asks for it too
WHOLE_USERS = ["0", "0", "4294967295"]  # /proc/self/uid_map of who is in no user namespace (user_namespaces(7))
# DMI product names and vendors of virtual machines, for processors whose flags do not tell (systemd-detect-virt knows the same).
VIRTUAL = re.compile(r"virtual machine|^kvm|^qemu|^amazon ec2|^google|^openstack|^vmware|^xen|^bochs", re.IGNORECASE)


def host(root="/"):
    """Return ``{"virtual", "memory_lock", "huge_pages", "governors"}`` of this node; see the functions."""
    return {
        "virtual": virtual(root),
        "memory_lock": memory_lock(root),
        "huge_pages": huge_pages(root),
        "governors": governors(root),
    }


def virtual(root="/"):
    """Return whether this is a virtual machine, None where neither the processor's flags nor DMI tell."""
    dmi = os.path.join(root, "sys/class/dmi/id")
    if read_text(os.path.join(dmi, "chassis_asset_tag")) == AZURE_ASSET_TAG:
        return True
    if any(VIRTUAL.search(read_text(os.path.join(dmi, name)) or "") for name in ("product_name", "sys_vendor")):
        return True
    flags = re.search(r"^flags\s*:(.*)$", read_text(os.path.join(root, "proc/cpuinfo")) or "", re.MULTILINE)
    return "hypervisor" in flags.group(1).split() if flags else None


def memory_lock(root="/"):
    """Return ``{"limit_bytes": int, None for no limit, "lifted": bool}`` of this very process; None where ``/proc`` does not tell.

    It is what a program gets that is started as this module is, over SSH and by the same user. ``lifted`` says that it holds
    CAP_IPC_LOCK outside of any user namespace, so that no limit holds it.
    """
    folder = os.path.join(root, "proc/self")
    found = re.search(r"^Max locked memory\s+(\d+|unlimited)\s", read_text(os.path.join(folder, "limits")) or "", re.MULTILINE)
    if not found:
        return None
    held = re.search(r"^CapEff:\s*([0-9a-f]+)$", read_text(os.path.join(folder, "status")) or "", re.MULTILINE)
    whole = (read_text(os.path.join(folder, "uid_map")) or "").split() == WHOLE_USERS
    return {
        "limit_bytes": None if found.group(1) == "unlimited" else int(found.group(1)),
        "lifted": bool(held and whole and int(held.group(1), 16) >> CAP_IPC_LOCK & 1),
    }


def huge_pages(root="/"):
    """Return the mode of transparent huge pages (``always``, ``madvise`` or ``never``), None where the kernel has none."""
    chosen = re.search(r"\[(\w+)\]", read_text(os.path.join(root, "sys/kernel/mm/transparent_hugepage/enabled")) or "")
    return chosen.group(1) if chosen else None


def governors(root="/"):
    """Return the frequency governors of all processors, each once; empty where the kernel does not set the frequency (most VMs)."""
    places = glob.glob(os.path.join(glob.escape(root), "sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor"))
    return sorted({text for text in map(read_text, places) if text})
