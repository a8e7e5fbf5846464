"""Findings about the fabric: what crossing nodes costs, and how near the largest message comes to the link's rate.

Standard library only.
"""

from __future__ import annotations

from ....core.fact import PASSING
from ..format import digits, factor, size
from ..records.collectives import latency_at, method_of_decode
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
    """Return what crossing costs a message of 8 B: in a CUDA graph, as decoding launches it, where both scopes have that, else plain."""
    method = method_of_decode(within, across, size_bytes=8)
    before, after = (latency_at(item, 8, method) for item in (within, across))
    if (before[0], after[0]) != (8, 8):
        return None
    before, after = before[1], after[1]
    name, what = "fabric.latency.%s%s" % (op, suffix), "An 8 B %s%s" % (op, _by(suffix))
    how = "in a CUDA graph" if method == "graph_time_us" else "launched one by one"
    spreads = _spread(within, method), _spread(across, method)
    arithmetic = "%s / %s = %s (%s, %s; within: the slowest node, %s, %s ranks; across: %s ranks on %s nodes)" % (
        digits(after),
        digits(before),
        digits(after / before),
        "medians" if all(spreads) else "medians or means",
        how,
        within["host"],
        digits(within["ranks"]),
        digits(across["ranks"]),
        digits(across["nodes"]),
    )
    takes = "%s takes %s within a node and %s across nodes" % (what, digits(before, "µs"), digits(after, "µs"))
    if not all(spreads):
        claim = "%s; their spreads are not known, so no difference is claimed." % takes
        return finding(name, "no data", claim, arithmetic, "%s.min and %s.p90 at 8 B" % (method, method))
    arithmetic += "; minimum to 90th percentile: %s to %s µs, %s to %s µs" % tuple(digits(value) for pair in spreads for value in pair)
    if spreads[0][1] >= spreads[1][0] and spreads[1][1] >= spreads[0][0]:
        # The two numbers stand in the arithmetic only: side by side they would read as a difference.
        claim = "%s is not told apart within a node and across nodes: the spreads overlap, so no difference is shown." % what
        return finding(name, "overlap", claim, arithmetic)
    if after < before:
        claim = "%s takes no longer across nodes than within one, with the ranks that were measured." % what
        return finding(name, "supported", claim, arithmetic)
    values = {"within_us": before, "across_us": after}
    return finding(name, "supported", "%s, %s." % (takes, factor(after / before)), arithmetic, values=values)


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


def _spread(item, method):
    """Return ``(minimum, 90th percentile)`` of the times at 8 B in µs, or None."""
    times = next((point.get(method) for point in item["sweep"] if point["size_bytes"] == 8), None)
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
