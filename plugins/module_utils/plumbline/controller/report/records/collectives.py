"""Collectives as records: the sweep, its fit, what carried it, and whether its numbers hold. Standard library only."""

from __future__ import annotations

import math

from ....core.fact import PASSING
from .entries import baseline_reason, entry_reasons, entry_status, missed, of_kind
from .reading import get, num, rows, text, texts

FARTHEST = 16
SERVING = "serving_all_reduce"
FIT = ("alpha_us", "beta_gbps", "residual_rel_median", "residual_rel_max")


def collectives(data):
    """Return one record per collective fact that has a sweep to have; ``sweep`` sorted by size, ``op`` and ``scope`` always set.

    The serving runtime's own all-reduce has none (``reduces.py``).
    """
    return [_collective(entry) for entry in of_kind(data, "collective") if entry["name"] != SERVING]


def _collective(entry):
    context, measured = (get(entry["fact"], key) for key in ("context", "measured"))
    op, _dot, scope = entry["name"].rpartition(".")
    named = [get(context, key) for key in ("op", "scope")]
    return {
        "host": entry["host"],
        "name": entry["name"],
        "op": named[0] if isinstance(named[0], str) else op or entry["name"],
        "scope": named[1] if isinstance(named[1], str) else scope,
        "status": entry_status(entry),
        "sound": _sound(entry),
        "backend": get(context, "backend"),
        "tool": get(context, "tool"),
        "interface": get(context, "interface"),
        "addresses": texts(get(context, "addresses")),
        "link_rate_gbit_s": num(get(context, "link_rate_gbit_s")),
        "baseline": baseline_reason(entry),
        "ranks": num(get(measured, "ranks")),
        "nodes": num(get(measured, "nodes")),
        "latency_8b_us": num(get(measured, "latency_8b_us")) or num(get(measured, "latency_8b_mean_us")),
        "latency_8b_graph_us": num(get(measured, "latency_8b_graph_us")) or num(get(measured, "latency_8b_graph_mean_us")),
        "peak_busbw_gbps": num(get(measured, "peak_busbw_gbps")),
        "fit": _fit(get(measured, "fit")),
        "transport": _transport(get(context, "transport")),
        # A negative control (a forced socket) shows what a fallback would cost; it is no measurement of the fabric.
        "control": get(context, "control") or None,
        "sweep": _sweep(measured),
    }


def _sweep(measured):
    points = [_timed(point) for point in rows(get(measured, "sweep")) if (num(point.get("size_bytes")) or 0) > 0]
    return sorted(points, key=lambda point: point["size_bytes"])


def _timed(point):
    """Return a point whose times have a median: nccl-tests print the mean only, which stands in for it then."""
    for name in ("time_us", "graph_time_us"):
        mean = num(get(point, name, "mean"))
        if mean is not None and num(get(point, name, "median")) is None:
            point = dict(point, **{name: dict(point[name], median=mean)})
    return point


def _sound(entry):
    """Tell whether the sweep's numbers hold: the fact passed, or all that it missed is a threshold."""
    bad = [item["check"] for item in entry_reasons(entry) if missed(item["status"])]
    return entry_status(entry) in PASSING or (bool(bad) and all(check.endswith(".baseline") for check in bad))


def _fit(value):
    """Return the alpha-beta fit of a sweep, with numbers only; None without a start-up time."""
    found = {key: num(get(value, key)) for key in FIT}
    return None if found["alpha_us"] is None else found


def _transport(value):
    """Return a transport verdict as ``{network, gdrdma, devices, expected, within}``; a text is the network; None without one."""
    if isinstance(value, str) and value:
        value = {"verdict": value}
    if not isinstance(value, dict):
        return None
    return {
        "network": text(value.get("verdict")),
        "gdrdma": value.get("gdrdma") is True,
        "devices": texts(list(value["devices"]) if isinstance(value.get("devices"), dict) else value.get("devices")),
        "expected": text(value.get("expected")),
        "within": texts(value.get("within_node")),
    }


def latency_at(collective, size_bytes, method="time_us"):
    """Return ``(swept size in bytes, median time in µs)`` at the swept size nearest to ``size_bytes``.

    Nearest by ratio, as sweeps double from size to size; ``(None, None)`` without a sweep, and where no size is within :data:`FARTHEST`
    times the wanted one: 8 GiB say nothing about 16 KiB. ``method`` is ``time_us`` or
    ``graph_time_us``, which a row has where its message was measured in a CUDA graph too.
    """
    points = [
        (abs(math.log2(point["size_bytes"] / size_bytes)), point["size_bytes"], num(get(point, method, "median")))
        for point in collective["sweep"]
        if (num(get(point, method, "median")) or 0) > 0
    ]
    nearest = min(points, default=None)
    return nearest[1:] if nearest and nearest[0] <= math.log2(FARTHEST) else (None, None)


def method_of_decode(*collectives_compared, size_bytes):
    """Return which of a row's times stands for what decoding sends: that in a CUDA graph, since serving decodes in graphs.

    It must be there in each of the collectives, at the swept size that is nearest to the message; else ``time_us``, plain.
    """
    for item in collectives_compared:
        nearest = latency_at(item, size_bytes)[0]
        if nearest is None or latency_at(item, size_bytes, "graph_time_us")[0] != nearest:
            return "time_us"
    return "graph_time_us" if collectives_compared else "time_us"
