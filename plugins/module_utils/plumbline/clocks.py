"""GPU clock locks: what ``nvidia-smi`` answers, what proves a lock, what to do next.

NVML has no getter for a lock, and application clocks prove nothing: an unlocked idle H200 shows ``clocks.sm`` 345
beside ``clocks.applications.graphics`` 1980. So a lock is believed only on evidence: the echo of the tool for each
GPU, ``clocks.sm`` at the target while idle, and a record of our own lock for this boot.
"""

from __future__ import annotations

import json
import os
import re
import tempfile

from ansible.module_utils.plumbline import nvidia
from ansible.module_utils.plumbline.fact import reason

QUERY = (
    "index",
    "pci.bus_id",
    "uuid",
    "driver_version",
    "persistence_mode",
    "clocks.current.sm",
    "clocks.max.sm",
    "clocks.current.memory",
    "clocks.applications.graphics",
    "utilization.gpu",
)

# GPU clocks move in steps of 15 MHz (supported_graphics_clock in the H200 capture): half a step is the same clock.
STEP_MHZ = 15
TOLERANCE_MHZ = 7.5
RECORD = "gpu_clocks.json"

ECHO = re.compile(
    r'GPU clocks set to "\(gpuClkMin (?P<min>\d+), gpuClkMax (?P<max>\d+)\)"'
    r" for GPU (?P<bus>[0-9A-Fa-f]+:[0-9A-Fa-f:.]+)"
)


def parse_gpus(text):
    """Parse the CSV of :data:`QUERY`; return per-GPU dictionaries. Raises ``nvidia.NvidiaError``.

    Clocks are in MHz, utilisation in percent, None where the driver gives no value.
    """
    gpus = []
    for row in nvidia.parse_csv(text):
        try:
            gpus.append(
                {
                    "index": int(row["index"]),
                    "bus_id": nvidia.normal_bus_id(row["pci.bus_id"]),
                    "uuid": nvidia.value_or_none(row["uuid"]),
                    "driver": nvidia.value_or_none(row["driver_version"]),
                    "persistence": nvidia.value_or_none(row["persistence_mode"]),
                    "sm_mhz": nvidia.number(row["clocks.current.sm"]),
                    "sm_max_mhz": nvidia.number(row["clocks.max.sm"]),
                    "memory_mhz": nvidia.number(row["clocks.current.memory"]),
                    "applications_mhz": nvidia.number(row["clocks.applications.graphics"]),
                    "utilisation_percent": nvidia.number(row.get("utilization.gpu")),
                }
            )
        except (KeyError, ValueError) as error:
            raise nvidia.NvidiaError("nvidia-smi printed a GPU that cannot be read (%s): %r" % (error, row)) from error
    return gpus


def read_gpus(tool, timeout_s=60):
    """Return the GPUs as ``nvidia-smi`` shows them now; raises ``nvidia.NvidiaError``."""
    code, stdout, stderr = nvidia.run(tool, ["--query-gpu=" + ",".join(QUERY), "--format=csv"], timeout_s)
    if code != 0:
        said = " ".join((stderr.strip() or stdout.strip() or "no message").split())
        raise nvidia.NvidiaError("nvidia-smi --query-gpu ended with %d: %s" % (code, said[:300]))
    return parse_gpus(stdout)


def parse_echo(text):
    """Return ``{bus id: (min MHz, max MHz)}`` of what ``nvidia-smi -lgc`` says it has set."""
    return {
        nvidia.normal_bus_id(match.group("bus")): (int(match.group("min")), int(match.group("max")))
        for match in ECHO.finditer(text)
    }


def at_target(gpu, mhz):
    """Return whether the SM clock is at ``mhz``; None without a reading."""
    return None if gpu["sm_mhz"] is None else abs(gpu["sm_mhz"] - mhz) <= TOLERANCE_MHZ


# -- the record of our own lock ---------------------------------------------------------------------------------


def read_record(directory):
    """Return the record of our last lock, or None. A damaged one is none: the lock is then made again."""
    try:
        with open(os.path.join(directory, RECORD), encoding="utf-8") as stream:
            record = json.load(stream)
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def write_record(directory, record):
    """Keep ``record`` below ``directory`` (on ``/run``: a reboot resets the lock and drops the record)."""
    os.makedirs(directory, mode=0o755, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=directory, prefix=".gpu_clocks-")
    with os.fdopen(handle, "w", encoding="utf-8") as stream:
        json.dump(record, stream, sort_keys=True)
    os.replace(temporary, os.path.join(directory, RECORD))


def drop_record(directory):
    """Remove the record; nothing happens when there is none."""
    try:
        os.unlink(os.path.join(directory, RECORD))
    except FileNotFoundError:
        pass


def make_record(gpus, mhz, mode, boot_id):
    """Return what a lock that we made looks like in the record."""
    return {
        "boot_id": boot_id,
        "driver": gpus[0]["driver"] if gpus else None,
        "mhz": mhz,
        "mode": mode,
        "gpus": sorted(gpu["uuid"] or gpu["bus_id"] for gpu in gpus),
    }


def is_locked(record, gpus, mhz, mode, boot_id):
    """Return whether our lock provably still holds.

    Both are needed: the record (only it knows the mode), and every SM clock at the target (Azure NHC unlocks the
    clocks behind our back, and an unlocked GPU drops when idle). A GPU under load may be at the target without a
    lock, so a busy GPU proves nothing.
    """
    return (
        bool(gpus)
        and record == make_record(gpus, mhz, mode, boot_id)
        and all(at_target(gpu, mhz) is True and gpu["utilisation_percent"] == 0 for gpu in gpus)
    )


def is_unlocked(record, gpus, boot_id):
    """Return whether no lock provably holds: none of ours in this boot, and every idle GPU below its top clock."""
    ours = record is not None and record.get("boot_id") == boot_id
    return (
        bool(gpus)
        and not ours
        and all(
            gpu["utilisation_percent"] == 0
            and gpu["sm_mhz"] is not None
            and gpu["sm_max_mhz"] is not None
            # An idle unlocked GPU falls to its lowest clock: 345 of 1980 MHz in the H200 capture.
            and gpu["sm_mhz"] < gpu["sm_max_mhz"] / 2
            for gpu in gpus
        )
    )


# -- verdicts ---------------------------------------------------------------------------------------------------

ROOT_REMEDY = "run as root (become: true) on the machine that owns the GPU, not in a container or on a vGPU"


def judge_lock(code, stdout, stderr, gpus, mhz):
    """Judge what ``nvidia-smi -lgc`` answered, GPU by GPU; return reasons."""
    said = " ".join((stderr.strip() or stdout.strip() or "no message").split())[:300]
    if code != 0:
        return [
            reason("clocks.lock", "failed", "nvidia-smi -lgc ended with %d: %s" % (code, said), "exit 0", ROOT_REMEDY)
        ]
    echo = parse_echo(stdout)
    wanted = "(gpuClkMin %d, gpuClkMax %d) for every GPU" % (mhz, mhz)
    clamped = ["%s at (%d, %d)" % ((bus,) + pair) for bus, pair in sorted(echo.items()) if pair != (mhz, mhz)]
    silent = [gpu["bus_id"] for gpu in gpus if gpu["bus_id"] not in echo]
    found = []
    if clamped:
        top = sorted({gpu["sm_max_mhz"] for gpu in gpus if gpu["sm_max_mhz"] is not None})
        remedy = "choose gpu_clocks_mhz among nvidia-smi -q -d SUPPORTED_CLOCKS (at most %s MHz here)" % (
            "/".join("%d" % item for item in top) or "?"
        )
        found.append(
            reason("clocks.lock", "failed", "the driver set other clocks: %s" % ", ".join(clamped), wanted, remedy)
        )
    if silent:
        text = "no word from the driver about %s; it said: %s" % (", ".join(silent), said)
        found.append(
            reason("clocks.lock", "incomplete", text, wanted, "run nvidia-smi -lgc %d,%d by hand" % (mhz, mhz))
        )
    if not found:
        found.append(reason("clocks.lock", "healthy", "the driver set %d MHz on %d GPUs" % (mhz, len(gpus)), wanted))
    return found


def judge_clocks(gpus, mhz):
    """Judge the SM clocks that were read after a lock: they must be at the target, idle or not."""
    threshold = "%d MHz ± %g" % (mhz, TOLERANCE_MHZ)
    blind = [gpu["bus_id"] for gpu in gpus if gpu["sm_mhz"] is None]
    off = ["%s at %d MHz" % (gpu["bus_id"], gpu["sm_mhz"]) for gpu in gpus if at_target(gpu, mhz) is False]
    if off:
        return reason(
            "clocks.sm",
            "failed",
            ", ".join(off),
            threshold,
            "look for throttling (nvidia-smi -q -d PERFORMANCE) and persistence mode, then lock again",
        )
    if blind:
        return reason(
            "clocks.sm", "incomplete", "no SM clock from %s" % ", ".join(blind), threshold, "look at nvidia-smi -q"
        )
    return reason("clocks.sm", "healthy", "%d MHz on %d GPUs" % (mhz, len(gpus)), threshold)


def judge_unlock(code, stdout, stderr):
    """Judge what ``nvidia-smi -rgc`` answered; it gives no proof but its exit code."""
    if code == 0:
        return reason("clocks.unlock", "healthy", "the driver reset the clocks", "exit 0")
    said = " ".join((stderr.strip() or stdout.strip() or "no message").split())[:300]
    return reason("clocks.unlock", "failed", "nvidia-smi -rgc ended with %d: %s" % (code, said), "exit 0", ROOT_REMEDY)


def measured(before, after, echo=None):
    """Return the numbers of the fact: per GPU, the clocks before and after in MHz and what the driver echoed."""
    later = {gpu["bus_id"]: gpu for gpu in after}
    gpus = {}
    for gpu in before:
        numbers = {
            "sm_max_mhz": gpu["sm_max_mhz"],
            "sm_before_mhz": gpu["sm_mhz"],
            "sm_after_mhz": later.get(gpu["bus_id"], {}).get("sm_mhz"),
            "memory_mhz": gpu["memory_mhz"],
            "utilisation_percent": gpu["utilisation_percent"],
        }
        if echo is not None:
            low, high = echo.get(gpu["bus_id"], (None, None))
            numbers.update(echo_min_mhz=low, echo_max_mhz=high)
        gpus[gpu["bus_id"]] = numbers
    return {"gpu_count": len(gpus), "gpus": gpus}
