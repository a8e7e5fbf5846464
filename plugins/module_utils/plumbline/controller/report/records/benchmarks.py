"""What a benchmark fact says of its layout: summary, runs, requests, sweep, and the clocks meanwhile. Standard library only."""

from __future__ import annotations

from ....clocks.judge import POWER_CAP_SHARE
from ....core.fact import PASSING
from .entries import baseline_reason, entry_status
from .reading import get, num, plain, rows, whole

METRICS = ("throughput_tok_s", "decode_tok_s", "ttft_ms", "tpot_ms", "itl_ms", "e2e_ms")
# Summaries that a benchmark has where an SLO was asked for.
GOODPUT = ("request_goodput_per_s", "goodput_share")


def benchmark(entry):
    """Return a layout's benchmark, as the part of its record; ``entry`` is its loaded fact, None without one."""
    context, measured = (get(entry["fact"], key) if entry else None for key in ("context", "measured"))
    summary = _summary(measured)
    return {
        "concurrency": whole(get(measured, "concurrency")),
        "gpu": _gpu(context),
        "power_caps": _power_caps(get(context, "sweep_clocks")),
        "distribution": _numbers(get(measured, "distribution")),
        "slo": {key: value for key, value in plain(get(measured, "slo")).items() if num(value)},
        "stop": plain(get(measured, "stop")),
        "sweep": _levels(measured),
        "baseline": baseline_reason(entry) if entry else None,
        "measured": plain(measured),
        "summary": summary,
        "runs": rows(get(measured, "runs")),
        "usable": bool(entry) and entry_status(entry) in PASSING and num(get(summary, "throughput_tok_s", "mean")) is not None,
    }


def _summary(measured):
    """Return the summaries that are dictionaries, by metric, with numbers only."""
    found = {metric: get(measured, "summary", metric) for metric in METRICS + GOODPUT}
    return {metric: {key: num(value) for key, value in stats.items()} for metric, stats in found.items() if isinstance(stats, dict)}


def _numbers(value):
    """Return a dictionary of dictionaries of numbers, the numbers only."""
    return {key: {name: num(item) for name, item in plain(inner).items()} for key, inner in plain(value).items()}


def _levels(measured):
    """Return a sweep's levels that have both throughputs, upwards."""
    needed = ("concurrency", "total_throughput_tok_s", "throughput_tok_s")
    found = [level for level in rows(get(measured, "sweep")) if all((num(level.get(key)) or 0) > 0 for key in needed)]
    return sorted(found, key=lambda level: level["concurrency"])


def _power_caps(clocks):
    """Return the GPUs that their power limit held down in a window of clocks, with the share of their time under load.

    From :data:`POWER_CAP_SHARE` upwards, as the clocks are judged; by the samples where the driver counts no time.
    """
    found = []
    samples, window_s = (num(get(clocks, key)) for key in ("samples", "window_s"))
    for bus, gpu in sorted(plain(get(clocks, "gpus")).items()):
        loaded = num(get(gpu, "loaded_samples"))
        if get(gpu, "in_use") is not True or not (samples and window_s and loaded):
            continue
        held_us, seen = num(get(gpu, "throttle_us", "sw_power_cap")), num(get(gpu, "reasons_seen", "sw_power_cap"))
        share = held_us / (window_s * 1e6 * loaded / samples) if held_us is not None else (seen or 0) / loaded
        if share >= POWER_CAP_SHARE:
            low, high = (num(get(gpu, "sm_mhz", key)) for key in ("min", "max"))
            found.append({"gpu": bus, "share": min(1, share), "limit_w": num(get(gpu, "power_limit_w")), "low_mhz": low, "high_mhz": high})
    return found


def _gpu(context):
    """Return the GPU's name, "" where the benchmark says that there is no GPU, None where it says nothing."""
    if get(context, "clocks", "seen") == "no GPU":
        return ""
    name = get(context, "gpu_name")
    return name if isinstance(name, str) and name else None
