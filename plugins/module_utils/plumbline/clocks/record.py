"""The record of our own clock lock, and when it stops being worth anything.

NVML has no getter for a lock, so what was locked is written to ``/run`` (a reboot drops both). The record alone proves
nothing: it is void after a reboot, a reload of the driver, a change of GPUs, and once Azure NHC has run (its bandwidth
check ends with ``nvidia-smi -rgc``); and even a good record is believed only where the clocks agree with it.
"""

from __future__ import annotations

import glob
import hashlib
import json
import os
import time

from ..core.files import read_text, write_atomically

RECORD = "gpu_clocks.json"
STATE_DIR = "/run/plumbline"

# Where Azure NHC leaves its log: beside its script by default (run-health-checks.sh, -o), and where node_health puts it.
NHC_LOGS = (
    "/opt/azurehpc/health.log",
    "/opt/azurehpc/test/azurehpc-health-checks/health.log",
    "/var/log/plumbline/nhc/run-*/nhc.log",
    "/var/lib/plumbline/nhc/run-*/nhc.log",
)


def read(directory):
    """Return the record of our last lock, or None. A damaged one is none: the lock is then made again."""
    try:
        with open(os.path.join(directory, RECORD), encoding="utf-8") as stream:
            record = json.load(stream)
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) and isinstance(record.get("gpus"), dict) else None


def write(directory, record):
    """Keep ``record`` below ``directory``."""
    # It names no secret, and the node assertions and the collectives' user read it without root.
    write_atomically(os.path.join(directory, RECORD), json.dumps(record, sort_keys=True))


def drop(directory):
    """Remove the record; nothing happens when there is none."""
    try:
        os.unlink(os.path.join(directory, RECORD))
    except FileNotFoundError:
        pass


def boot_id(root="/"):
    """Return the kernel's id of this boot, or None."""
    return read_text(os.path.join(root, "proc/sys/kernel/random/boot_id"))


def driver_load(root="/"):
    """Return what changes when the driver is loaded anew: the inode number of its module in sysfs; None without one.

    The kernel hands out kernfs inode numbers in a cycle, so a module that is loaded again gets another one.
    """
    try:
        return os.stat(os.path.join(root, "sys/module/nvidia")).st_ino
    except OSError:
        return None


def identity(gpu):
    """Return a short digest that tells one GPU from another, without its UUID."""
    return hashlib.sha256((gpu.get("uuid") or gpu["bus_id"]).encode()).hexdigest()[:16]


def make(gpus, mhz, mode, echo, nhc_logs=NHC_LOGS):
    """Return the record of a lock that was just made; ``echo`` is ``{bus id: (min, max)}`` as the driver said."""
    return {
        "boot_id": boot_id(),
        "driver": gpus[0]["driver"] if gpus else None,
        "driver_load": driver_load(),
        "mhz": mhz,
        "mode": mode,
        "locked_at": time.time(),
        "nhc_logs": list(nhc_logs),
        "gpus": {gpu["bus_id"]: {"id": identity(gpu), "echo_mhz": list(echo.get(gpu["bus_id"], (None, None)))} for gpu in gpus},
    }


def newest_nhc_log(patterns):
    """Return ``(path, time of its last change)`` of the newest log that ``patterns`` match; None without one."""
    found = []
    for pattern in patterns:
        for path in glob.glob(pattern):
            try:
                found.append((os.stat(path).st_mtime, path))
            except OSError:
                continue  # removed while we looked
    return (max(found)[1], max(found)[0]) if found else None


def stamp(seconds):
    """Return a time as people read it, UTC."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def problems(record, gpus, nhc_logs=None):
    """Return why ``record`` does not speak for ``gpus`` any more; empty when it does.

    Without ``nhc_logs`` the patterns that were known when the lock was made are used.
    """
    if record is None:
        return ["there is no record of a lock"]
    if record.get("boot_id") != boot_id():
        return ["the record is of an earlier boot"]
    found = []
    if gpus and record.get("driver") != gpus[0]["driver"]:
        found.append("the driver was %s then and is %s now" % (record.get("driver"), gpus[0]["driver"]))
    if record.get("driver_load") != driver_load():
        found.append("the driver was loaded again since")
    known = {bus: item.get("id") for bus, item in record["gpus"].items() if isinstance(item, dict)}
    other = sorted(set(known) ^ {gpu["bus_id"] for gpu in gpus})
    other += [gpu["bus_id"] for gpu in gpus if known.get(gpu["bus_id"], identity(gpu)) != identity(gpu)]
    if other:
        found.append("other GPUs than then: %s" % ", ".join(other))
    log = newest_nhc_log(nhc_logs or record.get("nhc_logs") or NHC_LOGS)
    locked_at = record.get("locked_at")
    if not isinstance(locked_at, (int, float)):
        found.append("the record does not say when it was made")
    elif log is not None and log[1] > locked_at:
        found.append("Azure NHC, which unlocks, wrote %s at %s, after the lock of %s" % (log[0], stamp(log[1]), stamp(locked_at)))
    return found


def is_ours(record):
    """Return whether we locked in this boot: then something may still be locked."""
    return record is not None and record.get("boot_id") == boot_id()
