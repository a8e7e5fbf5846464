"""GPU clock locks: what ``nvidia-smi`` answers, what proves a lock, what to do next.

NVML has no getter for a lock, and application clocks prove nothing: an unlocked idle H200 shows ``clocks.sm`` 345
beside ``clocks.applications.graphics`` 1980. So a lock is believed only on evidence: the echo of the tool for each
GPU, ``clocks.sm`` at the target while nothing uses the GPU, and a record of our own lock (``clocks.record``). What
happens under load is watched by ``clocks.window``.
"""

from __future__ import annotations

import re

from ..core.fact import reason
from ..machine import nvidia
from . import record as clocks_record

# GPU clocks move in steps of 15 MHz (supported_graphics_clock in the H200 capture): half a step is the same clock.
STEP_MHZ = 15
TOLERANCE_MHZ = 7.5

# A process that holds the GPU keeps its clocks up, locked or not, so such a GPU proves nothing. An idle H200 shows
# 0 MiB used (capture); drivers that count their own reserve show some hundred.
IN_USE_MIB = 1024

ECHO = re.compile(
    r'GPU clocks set to "\(gpuClkMin (?P<min>\d+), gpuClkMax (?P<max>\d+)\)"'
    r" for GPU (?P<bus>[0-9A-Fa-f]+:[0-9A-Fa-f:.]*[0-9A-Fa-f])"
)
UNSUPPORTED = re.compile(r"not supported for GPU (?P<bus>[0-9A-Fa-f]+:[0-9A-Fa-f:.]*[0-9A-Fa-f])", re.IGNORECASE)
PERMISSION = re.compile(r"permission|insufficient privileges|must be root", re.IGNORECASE)

# The states that held clocks down while nothing ran: a lock cannot be judged, or not trusted, then.
IDLE_THROTTLE = {
    "hw_slowdown": "failed",
    "hw_thermal_slowdown": "failed",
    "hw_power_brake_slowdown": "failed",
    "sw_thermal_slowdown": "degraded",
    "sw_power_cap": "degraded",
}


def parse_echo(text):
    """Return ``{bus id: (min MHz, max MHz)}`` of what ``nvidia-smi -lgc`` says it has set."""
    return {nvidia.normal_bus_id(match.group("bus")): (int(match.group("min")), int(match.group("max"))) for match in ECHO.finditer(text)}


def words(stdout, stderr):
    """Return what the tool said on one line of at most 300 characters."""
    return " ".join((stderr.strip() + " " + stdout.strip()).split())[:300] or "no message"


def at_target(gpu, mhz):
    """Return whether the SM clock is at ``mhz``; None without a reading."""
    return None if gpu["sm_mhz"] is None else abs(gpu["sm_mhz"] - mhz) <= TOLERANCE_MHZ


def is_quiet(gpu):
    """Return whether nothing uses the GPU, so that its clock tells of a lock.

    None without a reading of utilisation (MIG, or a driver that has none): not proven.
    """
    if gpu["utilisation_percent"] is None:
        return None
    return gpu["utilisation_percent"] == 0 and (gpu["memory_used_mib"] or 0) < IN_USE_MIB


def is_low(gpu):
    """Return whether the SM clock fell as that of an idle unlocked GPU does: 345 of 1980 MHz in the H200 capture."""
    return gpu["sm_mhz"] is not None and gpu["sm_max_mhz"] is not None and gpu["sm_mhz"] < gpu["sm_max_mhz"] / 2


def doubts_of_lock(record, gpus, mhz, mode, nhc_logs=None):
    """Return why it is not certain that our lock still holds; empty when record and clocks agree that it does."""
    found = clocks_record.problems(record, gpus, nhc_logs)
    if found:
        return found
    if (record["mhz"], record["mode"]) != (mhz, mode):
        found.append("locked at %s MHz, mode %s, by us" % (record["mhz"], record["mode"]))
    off = ["%s at %s MHz" % (gpu["bus_id"], gpu["sm_mhz"]) for gpu in gpus if at_target(gpu, mhz) is not True]
    if off:
        found.append("not at %d MHz: %s" % (mhz, ", ".join(off)))
    busy = [gpu["bus_id"] for gpu in gpus if not is_quiet(gpu)]
    if busy:
        found.append("in use, which keeps clocks up without a lock too: %s" % ", ".join(busy))
    return found


def is_unlocked(record, gpus):
    """Return whether no lock provably holds: none of ours in this boot, and every unused GPU well below its top clock."""
    return bool(gpus) and not clocks_record.is_ours(record) and all(is_quiet(gpu) and is_low(gpu) for gpu in gpus)


# -- verdicts ---------------------------------------------------------------------------------------------------

NO_GPU, NO_GPU_REMEDY = "nvidia-smi shows no GPU", "see the gpu checks of node_health"
ROOT_REMEDY = "run as root (become: true; CAP_SYS_ADMIN inside a container) on the machine that owns the GPU, not on a vGPU"


def refusal(check, option, code, stdout, stderr):
    """Return the reason for a tool that refused, named as permission, unsupported or other; None when it did not.

    ``nvidia-smi`` treats an unsupported GPU as a warning and exits 0: its words are believed, not its exit code.
    """
    said = words(stdout, stderr)
    without = UNSUPPORTED.findall(stdout + stderr)
    if PERMISSION.search(said) and code != 0:
        seen, remedy = "permission denied (exit %d): %s" % (code, said), ROOT_REMEDY
    elif without:
        seen = "not supported on %s (exit %d): %s" % (", ".join(map(nvidia.normal_bus_id, without)), code, said)
        remedy = "this GPU or virtual machine cannot lock clocks: set gpu_clocks_state to reported"
    elif code != 0:
        seen, remedy = "exit %d: %s" % (code, said), "run nvidia-smi %s by hand; see the gpu checks of node_health" % option
    else:
        return None
    return reason(check, "failed", "nvidia-smi %s: %s" % (option, seen), "exit 0 and no GPU left out", remedy)


def judge_lock(code, stdout, stderr, gpus, mhz):
    """Judge what ``nvidia-smi -lgc`` answered, GPU by GPU; return reasons, all of the check ``clocks.lock``."""
    refused = refusal("clocks.lock", "-lgc", code, stdout, stderr)
    if refused:
        return [refused]
    echo = parse_echo(stdout)
    wanted = "(gpuClkMin %d, gpuClkMax %d) for every GPU" % (mhz, mhz)
    clamped = ["%s at (%d, %d)" % ((bus,) + pair) for bus, pair in sorted(echo.items()) if pair != (mhz, mhz)]
    silent = [gpu["bus_id"] for gpu in gpus if gpu["bus_id"] not in echo]
    found = []
    if clamped:
        text = "clamped, the driver set other clocks: %s" % ", ".join(clamped)
        found.append(reason("clocks.lock", "failed", text, wanted, choose_other(gpus)))
    if silent:
        text = "no echo from the driver for %s; it said: %s" % (", ".join(silent), words(stdout, stderr))
        remedy = "run nvidia-smi -lgc %d,%d by hand and read what it says about these GPUs" % (mhz, mhz)
        found.append(reason("clocks.lock", "failed", text, wanted, remedy))
    if not found:
        found.append(reason("clocks.lock", "healthy", "the driver set %d MHz on %d GPUs" % (mhz, len(gpus)), wanted))
    return found


def choose_other(gpus):
    """Return the remedy for a clock that these GPUs do not have."""
    top = sorted({gpu["sm_max_mhz"] for gpu in gpus if gpu["sm_max_mhz"] is not None})
    most = "/".join("%d" % item for item in top) or "?"
    return "choose gpu_clocks_mhz among nvidia-smi -q -d SUPPORTED_CLOCKS (at most %s MHz here)" % most


def judge_wish(gpus, mhz):
    """Return a ``failed`` reason for a clock above the highest of a GPU, which the driver would clamp; else None."""
    low = ["%s up to %d MHz" % (gpu["bus_id"], gpu["sm_max_mhz"]) for gpu in gpus if (gpu["sm_max_mhz"] or mhz) < mhz]
    if not low:
        return None
    return reason("clocks.max", "failed", ", ".join(low), "clocks.max.sm of at least %d MHz" % mhz, choose_other(gpus))


def judge_clocks(gpus, mhz):
    """Judge the SM clocks that were read after a lock: they must be at the target, idle or not."""
    threshold = "%d MHz ± %g" % (mhz, TOLERANCE_MHZ)
    blind = [gpu["bus_id"] for gpu in gpus if gpu["sm_mhz"] is None]
    off = ["%s at %d MHz" % (gpu["bus_id"], gpu["sm_mhz"]) for gpu in gpus if at_target(gpu, mhz) is False]
    if not gpus:
        return reason("clocks.sm", "incomplete", NO_GPU, threshold, NO_GPU_REMEDY)
    if off:
        held = sorted({name for gpu in gpus for name in gpu["reasons"] or [] if name in IDLE_THROTTLE})
        remedy = "look for throttling (nvidia-smi -q -d PERFORMANCE) and persistence mode, then lock again"
        seen = ", ".join(off) + (" (held down by %s)" % ", ".join(held) if held else "")
        return reason("clocks.sm", "failed", seen, threshold, remedy)
    if blind:
        return reason("clocks.sm", "incomplete", "no SM clock from %s" % ", ".join(blind), threshold, "look at nvidia-smi -q")
    return reason("clocks.sm", "healthy", "%d MHz on %d GPUs" % (mhz, len(gpus)), threshold)


def judge_throttle(gpus, missing=()):
    """Judge the reasons that hold clocks down now, with nothing running; no reading is ``incomplete``."""
    threshold = "no slowdown, thermal or power reason on an idle GPU"
    if not gpus:
        return reason("clocks.throttle", "incomplete", NO_GPU, threshold, NO_GPU_REMEDY)
    blind = [gpu["bus_id"] for gpu in gpus if gpu["reasons"] is None]
    seen = {}
    for gpu in gpus:
        for name in gpu["reasons"] or []:
            if name in IDLE_THROTTLE or name.startswith("unknown_"):
                seen.setdefault(name, []).append(gpu["bus_id"])
    if seen:
        statuses = [IDLE_THROTTLE.get(name, "degraded") for name in seen]
        text = "; ".join("%s on %s" % (name, ", ".join(where)) for name, where in sorted(seen.items()))
        status = "failed" if "failed" in statuses else "degraded"
        remedy = "nvidia-smi -q -d PERFORMANCE,TEMPERATURE,POWER; cooling and power supply; replace the node if it stays"
        return reason("clocks.throttle", status, text, threshold, remedy)
    if blind:
        named = [name for name in missing if name.endswith("reasons.active")]
        text = "no reading from %s" % ", ".join(blind)
        text += " (this driver does not know %s)" % ", ".join(named) if named else ""
        remedy = "update the driver (535 or newer)" if named else "nvidia-smi -q -d PERFORMANCE; a vGPU or MIG instance may not tell it"
        return reason("clocks.throttle", "incomplete", text, threshold, remedy)
    return reason("clocks.throttle", "healthy", "none on %d GPUs" % len(gpus), threshold)


def judge_persistence(gpus):
    """A lock is a state of the loaded driver: without persistence mode it may go with the last process."""
    off = [gpu["bus_id"] for gpu in gpus if gpu["persistence"] == "Disabled"]
    if not off:
        return None
    remedy = "systemctl enable --now nvidia-persistenced, or nvidia-smi -pm 1"
    return reason("clocks.persistence", "degraded", "persistence mode is off: %s" % ", ".join(off), "Enabled", remedy)


def judge_unlock(code, stdout, stderr):
    """Judge what ``nvidia-smi -rgc`` answered; :func:`judge_unlocked_clocks` adds what was seen afterwards."""
    refused = refusal("clocks.unlock", "-rgc", code, stdout, stderr)
    return refused or reason("clocks.unlock", "healthy", "the driver reset the clocks", "exit 0")


def judge_unlocked_clocks(gpus):
    """Judge the SM clocks after a reset: an unused GPU falls to a low clock; a GPU in use cannot tell."""
    threshold = "below half of clocks.max.sm on a GPU that nothing uses"
    quiet = [gpu for gpu in gpus if is_quiet(gpu)]
    high = ["%s at %s MHz" % (gpu["bus_id"], gpu["sm_mhz"]) for gpu in quiet if not is_low(gpu)]
    if high:
        remedy = "nvidia-smi -q -d CLOCK a minute later; if it stays up, somebody else locks the clocks"
        return reason("clocks.sm", "incomplete", "did not fall: %s" % ", ".join(high), threshold, remedy)
    if len(quiet) < len(gpus):
        text = "%d of %d GPUs are in use, so their clocks cannot tell" % (len(gpus) - len(quiet), len(gpus))
        return reason("clocks.sm", "skipped", text, threshold)
    return reason("clocks.sm", "healthy", "%d GPUs at low clocks" % len(gpus), threshold)


def measured(before, after, echo=None):
    """Return the numbers of the fact, by PCI address: clocks before and after in MHz, the echo, throttle counters in µs."""
    later = {gpu["bus_id"]: gpu for gpu in after}
    gpus = {}
    for gpu in before:
        now = later.get(gpu["bus_id"], {})
        numbers = {
            "sm_max_mhz": gpu["sm_max_mhz"],
            "sm_before_mhz": gpu["sm_mhz"],
            "sm_after_mhz": now.get("sm_mhz"),
            "memory_mhz": gpu["memory_mhz"],
            "applications_mhz": gpu["applications_mhz"],
            "utilisation_percent": gpu["utilisation_percent"],
            "memory_used_mib": gpu["memory_used_mib"],
            "temperature_c": gpu["temperature_c"],
            "power_w": gpu["power_w"],
            "throttle_us": dict(now.get("throttle_us") or gpu["throttle_us"]),
            "reasons": now["reasons"] if "reasons" in now else gpu["reasons"],
        }
        if echo is not None:
            low, high = echo.get(gpu["bus_id"], (None, None))
            numbers.update(echo_min_mhz=low, echo_max_mhz=high)
        gpus[gpu["bus_id"]] = numbers
    return {"gpu_count": len(gpus), "gpus": gpus}
