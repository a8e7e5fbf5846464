"""What an Azure virtual machine knows of its host and its devices: evidence and the checks on it."""

from __future__ import annotations

import os
import re

from ..core.fact import reason

# struct kvp_record of the kernel's tools/hv/hv_kvp_daemon.c: a key of HV_KVP_EXCHANGE_MAX_KEY_SIZE bytes, a value of
# HV_KVP_EXCHANGE_MAX_VALUE_SIZE, both padded with zeros. Pool 3 is what the host tells the guest.
KEY_BYTES, VALUE_BYTES = 512, 2048
POOL = "var/lib/hyperv/.kvp_pool_3"


def host_values(root="/"):
    """Return what the host tells this guest, ``{key: value}``; empty elsewhere than on Hyper-V."""
    try:
        with open(os.path.join(root, POOL), "rb") as stream:
            data = stream.read()
    except OSError:
        return {}
    found = {}
    for start in range(0, len(data) - KEY_BYTES - VALUE_BYTES + 1, KEY_BYTES + VALUE_BYTES):
        key = data[start : start + KEY_BYTES].split(b"\0", 1)[0].decode(errors="replace")
        value = data[start + KEY_BYTES : start + KEY_BYTES + VALUE_BYTES].split(b"\0", 1)[0].decode(errors="replace")
        if key:
            found[key] = value
    return found


def devices(root="/"):
    """Return ``{"interfaces": [...], "nvme": [...]}``; None for what cannot be listed."""
    seen = {}
    for key, folder, pattern in (("interfaces", "sys/class/net", r".+"), ("nvme", "sys/block", r"nvme\d+n1")):
        try:
            names = os.listdir(os.path.join(root, folder))
            seen[key] = sorted(name for name in names if re.fullmatch(pattern, name))
        except OSError:
            seen[key] = None
    return seen


def check_devices(evidence, expect):
    """Network interfaces by name and NVMe disks by number, as NHC's ``check_hw_eth`` and ``check_nvme_count``."""
    seen, found = evidence["devices"], []
    wanted = expect.get("net_interfaces")
    if wanted:
        threshold = ", ".join(wanted)
        if seen["interfaces"] is None:
            found.append(reason("net.interfaces", "incomplete", "/sys/class/net is not readable", threshold, "look at ip link"))
        else:
            missing = [name for name in wanted if name not in seen["interfaces"]]
            text = "missing: %s" % ", ".join(missing) if missing else "%d there" % len(wanted)
            remedy = "docker0 comes with Docker; ib* with their IB port (ib.state); eth* with the virtual machine's NICs"
            status = "failed" if missing else "healthy"
            found.append(reason("net.interfaces", status, text, threshold, remedy if missing else None))
    count = expect.get("nvme_count")
    if count is not None:
        threshold = "%d NVMe disks" % count
        if seen["nvme"] is None:
            found.append(reason("nvme.count", "incomplete", "/sys/block is not readable", threshold, "look at lsblk"))
        else:
            good = len(seen["nvme"]) == count
            text = "%d: %s" % (len(seen["nvme"]), ", ".join(seen["nvme"]) or "none")
            remedy = None if good else "reboot; if it stays so, replace the node: report it to Azure (fault code NHC2023)"
            found.append(reason("nvme.count", "healthy" if good else "failed", text, threshold, remedy))
    return found
