"""What a clock window says about a measurement: numbers per GPU, and verdicts.

Decisions, and where they come from:

- Throttled (a power, thermal or slowdown reason while measuring) is ``degraded``: the numbers are real, but not those of
  the clocks that were asked for. The driver's counters (µs per reason) decide where it has them, the sampled reasons
  where it has none (``hw_slowdown`` has no counter). A power cap is part of normal life at 700 W: it counts from
  :data:`POWER_CAP_SHARE` of the time under load, below which it can change a mean rate by no more than that share.
- A clock off the target of a lock, without a reason that holds it down, is ``failed``: the lock was not there, so the
  measurement is not the one that was asked for. NVML reports a reason whenever something else than the lock holds a
  clock down (nvmlClocksEventReasons). Samples and reasons are read in one call, but a power cap comes and goes in
  milliseconds: half of the off-target samples must show a reason, or the counters half of that time.
- No record of a lock that was asked for, a GPU that stopped answering meanwhile: ``incomplete``, since nothing was proven.
- What the sampler lacks (a sample under load, counters, reasons, a driver that answers) is ``skipped`` and says what was
  expected: the clocks were not judged, the measurement's own verdict stands, and no node goes out of service for it.
- A GPU that nothing used (the layout is smaller than the node, or runs on CPUs) neither passes nor spoils.
"""

from __future__ import annotations

import statistics

from ..core.counters import difference
from ..core.fact import reason
from . import lock as clocks

# The counters that stand for being throttled; sync_boost and the clock settings are wishes of the user.
AT_THE_LIMIT = "; at their power limit, which a full load takes a healthy GPU to"
HELD_DOWN = ("sw_power_cap", "sw_thermal_slowdown", "hw_thermal_slowdown", "hw_power_brake_slowdown", "hw_slowdown")
POWER_CAP_SHARE = 0.01

RELOCK = "run playbooks/clocks.yml and measure again; find what unlocked them (Azure NHC ends with nvidia-smi -rgc)"
NOT_JUDGED = "clocks were not judged"
COOLING = "nvidia-smi -q -d PERFORMANCE,TEMPERATURE,POWER on %s; compare with other nodes; a lower gpu_clocks_mhz avoids a power cap"


def is_loaded(gpu):
    """Return whether a sample is one under load: by utilisation, or where there is none (MIG) by not being idle."""
    if gpu["utilisation_percent"] is not None:
        return gpu["utilisation_percent"] > 0
    return gpu["reasons"] is not None and "gpu_idle" not in gpu["reasons"]


def spread(values):
    """Return min, median and max; None without a value."""
    values = [item for item in values if item is not None]
    if not values:
        return None
    return {"min": min(values), "median": statistics.median(values), "max": max(values)}


def is_off(value, target):
    """Return whether a clock under load is off its target: by more than one step of 15 MHz."""
    return abs(value - target) > clocks.STEP_MHZ


def is_held(gpu):
    """Return whether the driver named a reason that held this sample's clock down."""
    return any(name in HELD_DOWN or name.startswith("unknown_") for name in gpu["reasons"] or [])


def by_gpu(window):
    """Return ``{PCI address: (before, samples, after)}``; before and after are None where the GPU did not answer."""
    first = {gpu["bus_id"]: gpu for gpu in window.before}
    last = {gpu["bus_id"]: gpu for gpu in window.after}
    seen = {bus: [] for bus in list(first) + list(last)}
    for gpus in window.samples:
        for gpu in gpus:
            seen.setdefault(gpu["bus_id"], []).append(gpu)
    return {bus: (first.get(bus), seen[bus], last.get(bus)) for bus in sorted(seen)}


def numbers(window):
    """Return ``{PCI address: numbers}``: what the window saw of each GPU."""
    return {bus: _numbers(window, *samples) for bus, samples in by_gpu(window).items()}


def _numbers(window, before, samples, after):
    """Return the numbers of one GPU; ``before`` and ``after`` are None where it did not answer."""
    loaded = [gpu for gpu in samples if is_loaded(gpu)]
    named = {}
    for gpu in loaded:
        for name in gpu["reasons"] or []:
            named[name] = named.get(name, 0) + 1
    everything = [gpu for gpu in [before] + samples + [after] if gpu]
    sm = spread([gpu["sm_mhz"] for gpu in loaded])
    target = window.expected_mhz
    return {
        "in_use": bool(loaded) or any((gpu["memory_used_mib"] or 0) >= clocks.IN_USE_MIB for gpu in everything),
        "loaded_samples": len(loaded),
        "off_target_samples": len(_off(loaded, target)) if target else None,
        "at_target": not is_off(sm["median"], target) if target and sm else None,
        "before_sm_mhz": before and before["sm_mhz"],
        "sm_mhz": sm,
        "after_sm_mhz": after and after["sm_mhz"],
        "memory_mhz": spread([gpu["memory_mhz"] for gpu in loaded]),
        "throttle_us": difference(before["throttle_us"], after["throttle_us"]) if before and after else {},
        "reasons_seen": named,
        "reasons_known": all(gpu["reasons"] is not None for gpu in loaded),
        "power_w": spread([gpu["power_w"] for gpu in loaded]),
        "power_limit_w": everything[-1]["power_limit_w"] if everything else None,
        "temperature_c": spread([gpu["temperature_c"] for gpu in loaded]),
        "utilisation_percent": spread([gpu["utilisation_percent"] for gpu in loaded]),
    }


def _off(loaded, target):
    """Return the samples under load whose clock is off the target."""
    return [gpu for gpu in loaded if gpu["sm_mhz"] is not None and is_off(gpu["sm_mhz"], target)]


def loaded_us(window, item):
    """Return for how long a GPU was under load, in µs: its share of the samples, or the whole window without samples."""
    share = item["loaded_samples"] / len(window.samples) if window.samples and item["loaded_samples"] else 1
    return max(1, window.duration_s * 1e6 * share)


def judge(window):
    """Return the reasons of a closed window over GPUs."""
    table = numbers(window)
    found = [_judge_reading(window)]
    if table:
        used = {bus: item for bus, item in table.items() if item["in_use"]}
        found += [_judge_load(window, used), _judge_lock(window, table), _judge_under_load(window, used)]
        found += [_judge_throttle(window, used), _judge_counters(window, used)]
    return [item for item in found if item is not None]


def _judge_reading(window):
    """Every GPU must have answered before and after, and nearly always in between."""
    threshold = "every GPU answers before, during and after"
    remedy = "see the gpu checks of node_health; run nvidia-smi by hand"
    first, last = ({gpu["bus_id"] for gpu in gpus} for gpus in (window.before, window.after))
    if not first or not last:
        when, status = ("before", "skipped") if not first else ("after", "incomplete")
        text = "no answer %s the measurement: %s" % (when, window.error or "nvidia-smi shows no GPU")
        return reason("clocks.window", status, text + ("; %s" % NOT_JUDGED if not first else ""), threshold, remedy)
    if first != last:
        text = "answered before or after, not both: %s" % ", ".join(sorted(first ^ last))
        return reason("clocks.window", "incomplete", text, threshold, remedy)
    if window.errors:
        text = "%d readings failed beside %d samples: %s" % (window.errors, len(window.samples), window.error)
        return reason("clocks.window", "degraded" if window.samples else "skipped", text, threshold, remedy)
    text = "%d samples of %d GPUs in %.1f s" % (len(window.samples), len(first), window.duration_s)
    return reason("clocks.window", "healthy", text, threshold)


def _judge_load(window, used):
    """A GPU in use must have been seen at work; where no GPU is in use, the numbers do not depend on clocks."""
    if not used:
        return reason("clocks.load", "skipped", "no GPU was used", None)
    blind = [bus for bus, item in used.items() if not item["loaded_samples"]]
    if blind:
        remedy = "the measurement's own verdict stands; to judge clocks let it last longer (more runs, more tokens) or lower interval_s"
        text = "0 samples under load, expected 1 or more, of %d of %d GPUs in use (%s) beside %d samples in %.1f s: %s" % (
            len(blind),
            len(used),
            ", ".join(blind),
            len(window.samples),
            window.duration_s,
            "their %s" % NOT_JUDGED,
        )
        return reason("clocks.load", "skipped", text, "a sample under load from each GPU in use", remedy)
    return None


def _held(item, window):
    """Return ``{reason: µs, or None where only samples tell}`` of what held a GPU's clocks down, and counts."""
    held = {}
    for name in HELD_DOWN:
        grown = item["throttle_us"].get(name)
        if grown is not None:
            if grown > 0 and (name != "sw_power_cap" or grown >= POWER_CAP_SHARE * loaded_us(window, item)):
                held[name] = grown
        elif item["reasons_seen"].get(name):
            held[name] = None
    held.update({name: None for name in item["reasons_seen"] if name.startswith("unknown_")})
    return held


def _only_power(held):
    """Return whether nothing but the GPU's own power limit held its clocks down."""
    return set(held) == {"sw_power_cap"}


def _explained(window, item, off):
    """Return whether what the driver names accounts for the samples ``off`` the target; see the module's text."""
    named = sum(1 for gpu in off if is_held(gpu))
    held = sum(item["throttle_us"].get(name) or 0 for name in HELD_DOWN)
    return named * 2 >= len(off) or held * 2 >= loaded_us(window, item) * len(off) / item["loaded_samples"]


def _judge_lock(window, table):
    """Was the lock there before and after? Its record must still speak for it, and each clock be at the target."""
    target = window.expected_mhz
    if target is None:
        return reason("clocks.lock", "skipped", "no lock was asked for", None)
    threshold = "a lock at %d MHz before and after the measurement" % target
    lost = [
        "%s at %d MHz %s" % (gpu["bus_id"], gpu["sm_mhz"], when)
        for when, gpus in (("before", window.before), ("after", window.after))
        for gpu in gpus
        if clocks.at_target(gpu, target) is False and not is_held(gpu)
    ]
    if lost:
        text = "not locked: %s" % ", ".join(lost)
        text += "; %s" % "; ".join(window.record_problems) if window.record_problems else ""
        return reason("clocks.lock", "failed", text, threshold, RELOCK)
    if not window.before or not window.after:
        return reason("clocks.lock", "skipped", "not every reading was answered: the lock was not judged", threshold)
    if window.record_problems:
        text = "%s; the clocks are at the target, which those of a GPU in use are without a lock too" % "; ".join(window.record_problems)
        return reason("clocks.lock", "incomplete", text, threshold, RELOCK)
    return reason("clocks.lock", "healthy", "recorded, and %d GPUs at %d MHz before and after" % (len(table), target), threshold)


def _judge_under_load(window, used):
    """Under load each GPU must run at the target, unless something that the driver names held it down."""
    target = window.expected_mhz
    watched = {bus: item for bus, item in used.items() if item["sm_mhz"]}
    if target is None or not watched:
        return None
    threshold = "%d MHz ± %d under load" % (target, clocks.STEP_MHZ)
    off = {bus: item for bus, item in watched.items() if item["off_target_samples"]}
    if not off:
        return reason("clocks.sm", "healthy", "%d GPUs at %d MHz in every sample" % (len(watched), target), threshold)
    parts = [
        "%s min %d, median %g, max %d MHz, off in %d of %d samples"
        % (bus, item["sm_mhz"]["min"], item["sm_mhz"]["median"], item["sm_mhz"]["max"], item["off_target_samples"], item["loaded_samples"])
        for bus, item in off.items()
    ]  # fmt: skip
    samples = by_gpu(window)
    unexplained = any(
        not _explained(window, item, _off([gpu for gpu in samples[bus][1] if is_loaded(gpu)], target)) for bus, item in off.items()
    )
    if not unexplained and window.full_load and all(_only_power(_held(item, window)) for item in off.values()):
        return reason("clocks.sm", "healthy", "; ".join(parts) + AT_THE_LIMIT, threshold)
    status = "failed" if unexplained else "degraded"
    return reason("clocks.sm", status, "; ".join(parts), threshold, RELOCK if unexplained else COOLING % window.node)


def _judge_throttle(window, used):
    """Say for how long which reason held clocks down."""
    threshold = "no thermal or slowdown reason; sw_power_cap below %g %% of the time under load" % (POWER_CAP_SHARE * 100)
    parts, power = [], True
    for bus, item in used.items():
        held = _held(item, window)
        if held:
            power = power and _only_power(held)
            told = [
                "%s %d us (%.1f %% of the time under load)" % (name, grown, 100 * grown / loaded_us(window, item))
                if grown is not None
                else "%s in %d of %d samples" % (name, item["reasons_seen"][name], item["loaded_samples"])
                for name, grown in sorted(held.items())
            ]
            parts.append("%s: %s" % (bus, ", ".join(told)))
    if parts:
        text = "throttled in a window of %.1f s: %s" % (window.duration_s, "; ".join(parts))
        if window.full_load and power:
            return reason("clocks.throttle", "healthy", text + AT_THE_LIMIT, "no thermal or slowdown reason")
        return reason("clocks.throttle", "degraded", text, threshold, COOLING % window.node)
    # hw_slowdown has no counter: without the reasons of the samples, counters alone do not prove it.
    watched = [item for item in used.values() if item["loaded_samples"]]
    proven = [item for item in watched if item["reasons_known"] and any(v is not None for v in item["throttle_us"].values())]
    if watched and len(proven) == len(watched):
        return reason("clocks.throttle", "healthy", "%d GPUs were not throttled" % len(watched), threshold)
    return None


def _judge_counters(window, used):
    """Without the driver's counters short throttling goes unseen, and without reasons all of it."""
    blind, status = [], "skipped"
    readings = by_gpu(window)
    for bus, item in used.items():
        if _went_back(*readings[bus]):
            blind.append("%s: throttle counters went back" % bus)
            status = "incomplete"
        elif not item["throttle_us"] or any(value is None for value in item["throttle_us"].values()):
            blind.append("%s: no throttle counters before and after" % bus)
        if item["loaded_samples"] and not item["reasons_known"]:
            blind.append("%s: no clock event reasons" % bus)
    if not blind:
        return None
    text = "%s: %s" % ("; ".join(blind), NOT_JUDGED)
    if window.reader.missing:
        text += "; this driver does not know %s" % ", ".join(window.reader.missing)
    remedy = "update the driver; a driver that was reloaded during the measurement spoils it: measure again"
    return reason("clocks.throttle_counters", status, text, "counters and reasons of each GPU in use", remedy)


def _went_back(before, _samples, after):
    """Return whether a counter of a GPU is less after than before: its driver was loaded anew in between."""
    if not before or not after:
        return False
    pairs = [(value, after["throttle_us"].get(name)) for name, value in before["throttle_us"].items()]
    return any(first is not None and last is not None and last < first for first, last in pairs)
