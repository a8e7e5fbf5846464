"""Findings about the fabric: what crossing nodes costs, and how near the largest message comes to the link's rate.

Standard library only.
"""

from __future__ import annotations

from ....core.fact import PASSING
from ..format import digits, factor, size
from ..records.reading import get, num
from .layouts import finding

# A link carries no more than its rate; what is above this share of it is more than the rounding of a rate and of a clock.
LINK_SHARE_MAX = 1.02


def tools_of(collectives, op):
    """Return the tools that measured an operation, the serving runtime's own (torch) first; None where none is named."""
    return sorted({item["tool"] for item in collectives if item["op"] == op}, key=lambda tool: (tool != "torch", str(tool)))


def pick(collectives, op, scope, tool):
    """Return the passing collective of this operation, scope and tool with the highest 8 B latency.

    Within nodes there is one for each node; the slowest node is the one that a layout waits for. A negative control
    (``control``) is left out: it is slow on purpose.
    """
    found = [
        item
        for item in collectives
        if (item["op"], item["scope"], item["tool"]) == (op, scope, tool) and item["status"] in PASSING and not item["control"]
    ]
    return max(found, key=lambda item: item["latency_8b_us"] or 0, default=None)


def fabric_findings(collectives):
    """Return the findings about these collectives."""
    result = []
    for op in sorted({item["op"] for item in collectives}):
        for place, tool in enumerate(tools_of(collectives, op)):
            suffix = "" if place == 0 else ".%s" % tool
            result += _crossing(op, pick(collectives, op, "within", tool), pick(collectives, op, "across", tool), suffix)
    return result + [found for found in map(_line_rate, collectives) if found]


def _by(suffix):
    return " by " + suffix[1:] if suffix else ""


def _crossing(op, within, across, suffix):
    """Return what crossing nodes costs in an operation: latency and bandwidth, as far as both scopes have them."""
    if within and across:
        return [item for item in (_latency(op, within, across, suffix), _bandwidth(op, within, across, suffix)) if item]
    lacking = [scope for scope, item in (("within", within), ("across", across)) if not item]
    return [
        finding(
            "fabric.crossing.%s%s" % (op, suffix),
            "no data",
            "What crossing nodes costs in %s%s is not known." % (op, _by(suffix)),
            missing="a passing %s fact %s nodes" % (op, " and ".join(lacking)),
        )
    ]


def _latency(op, within, across, suffix):
    before, after = within["latency_8b_us"], across["latency_8b_us"]
    if not (before and after):
        return None
    level, end, spread = _told_apart(_spread(within), _spread(across))
    return finding(
        "fabric.latency.%s%s" % (op, suffix),
        level,
        "An 8 B %s%s takes %s within a node and %s across nodes, %s%s."
        % (op, _by(suffix), digits(before, "µs"), digits(after, "µs"), factor(after / before), end),
        "%s / %s = %s (medians; within: the slowest node, %s, %s ranks; across: %s ranks on %s nodes)%s"
        % (
            digits(after),
            digits(before),
            digits(after / before),
            within["host"],
            digits(within["ranks"]),
            digits(across["ranks"]),
            digits(across["nodes"]),
            spread,
        ),
        "time_us.min and time_us.p90 at 8 B" if level == "no data" else None,
        {"within_us": before, "across_us": after},
    )


def _told_apart(within, across):
    """Return ``(level, end of the claim, end of the arithmetic)`` for two spreads, each of them None where it is not known."""
    if not (within and across):
        return "no data", "; their spreads are not known, so no difference is claimed", ""
    numbers = "; minimum to 90th percentile: %s to %s µs, %s to %s µs" % tuple(digits(value) for value in within + across)
    if within[1] >= across[0] and across[1] >= within[0]:
        return "overlap", "; their spreads overlap, so no difference is shown", numbers
    return "supported", "", numbers


def _bandwidth(op, within, across, suffix):
    high, low = within["peak_busbw_gbps"], across["peak_busbw_gbps"]
    if not (high and low):
        return None
    return finding(
        "fabric.bandwidth.%s%s" % (op, suffix),
        "supported",
        "Peak bus bandwidth of %s%s is %s within a node and %s across nodes, %s."
        % (op, _by(suffix), digits(high, "GB/s"), digits(low, "GB/s"), factor(high / low)),
        "%s / %s = %s (GB/s = 10⁹ bytes per second; within: %s)" % (digits(high), digits(low), digits(high / low), within["host"]),
    )


def _spread(item):
    """Return ``(minimum, 90th percentile)`` of the times at 8 B in µs, or None."""
    times = next((point.get("time_us") for point in item["sweep"] if point["size_bytes"] == 8), None)
    pair = num(get(times, "min")), num(get(times, "p90"))
    return None if None in pair else pair


def _line_rate(item):
    """Return the largest message's bus bandwidth against the rate of the link that it crosses; None where there is no such.

    Bus bandwidth of a ring is what each rank sends per second, hence what each node's link carries when the ring crosses it
    once. The largest message counts and not the peak: a shaper's bucket and a NIC's buffers let a short burst pass faster.
    """
    busbw = num(item["sweep"][-1].get("busbw_gbps")) if item["sweep"] else None
    if item["scope"] != "across" or item["status"] not in PASSING or item["control"] or not busbw:
        return None
    # Of nodes with several ports the rate of one interface says nothing about them all.
    if item["transport"] and item["transport"]["network"] in ("IB", "RoCE", "mixed"):
        return None
    name, rate = "fabric.line_rate.%s" % item["op"], item["link_rate_gbit_s"]
    said = "%s at %s" % (digits(busbw, "GB/s"), size(item["sweep"][-1]["size_bytes"]))
    if not rate:
        claim = "No baseline for %s across nodes: %s is reported, not judged." % (item["op"], said)
        return finding(name, "no data", claim, missing="context.link_rate_gbit_s in the collective's fact")
    share = busbw * 8 / rate
    level, end = "supported", ""
    if share > LINK_SHARE_MAX:
        level, end = "warning", ", which is more than the link: the rate or the path is not what it seems"
    claim = "%s across nodes reaches %s %% of the link's %s Gbit/s%s." % (item["op"], digits(share * 100), digits(rate), end)
    return finding(name, level, claim, "%s × 8 = %s Gbit/s; / %s" % (said, digits(share * rate), digits(rate)))
