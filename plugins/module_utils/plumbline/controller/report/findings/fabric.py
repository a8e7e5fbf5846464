"""Findings about the fabric, and what its latency explains of a layout's time per token.

Tensor parallelism all-reduces twice a layer and once after the embedding, so a token costs
``2 × layers + 1`` all-reduces of ``hidden_size × bytes`` each; a pipeline sends its activations
``PP - 1`` times a token. Multiplied by measured latencies that is the least that communication
adds; it leaves out everything that waits for it (scheduling, serialisation, imbalance).
Standard library only.
"""

from __future__ import annotations

from ....core.fact import PASSING
from ..format import digits, factor, size
from ..records.collectives import latency_at
from ..records.layouts import describe
from ..records.reading import get, num
from .layouts import finding, mean


def tools_of(fabric, op):
    """Return the tools that measured an operation, the serving runtime's own (torch) first; None where none is named."""
    return sorted({item["tool"] for item in fabric if item["op"] == op}, key=lambda tool: (tool != "torch", str(tool)))


def pick(fabric, op, scope, tool):
    """Return the passing collective of this operation, scope and tool with the highest 8 B latency.

    Within nodes there is one for each node; the slowest node is the one that a layout waits for. A negative control
    (``control``) is left out: it is slow on purpose.
    """
    found = [
        item
        for item in fabric
        if (item["op"], item["scope"], item["tool"]) == (op, scope, tool) and item["status"] in PASSING and not item["control"]
    ]
    return max(found, key=lambda item: item["latency_8b_us"] or 0, default=None)


def fabric_findings(found, fabric):
    """Return the findings about these collectives, and about these layouts' communication."""
    result = []
    for op in sorted({item["op"] for item in fabric}):
        for place, tool in enumerate(tools_of(fabric, op)):
            suffix = "" if place == 0 else ".%s" % tool
            result += _crossing(op, pick(fabric, op, "within", tool), pick(fabric, op, "across", tool), suffix)
    result += _line_rate(fabric)
    reduces = _pair_of(fabric, "all_reduce")
    for layout in found:
        if layout["usable"] and (layout["nodes"] or 0) > 1:
            result += _per_token(layout, found, *reduces) if (layout["tp"] or 0) > 1 else []
            result += _pipeline(layout, _pair_of(fabric, "sendrecv")[1]) if (layout["pp"] or 0) > 1 else []
    return result


def _pair_of(fabric, op):
    """Return ``(within, across)`` by the first tool that has a passing measurement across, so that both are comparable."""
    for tool in tools_of(fabric, op):
        if pick(fabric, op, "across", tool):
            return pick(fabric, op, "within", tool), pick(fabric, op, "across", tool)
    return next((pick(fabric, op, "within", tool) for tool in tools_of(fabric, op)), None), None


def _by(suffix):
    return " by " + suffix[1:] if suffix else ""


def _crossing(op, within, across, suffix=""):
    if not within or not across:
        lacking = [scope for scope, item in (("within", within), ("across", across)) if not item]
        yield finding(
            "fabric.crossing.%s%s" % (op, suffix),
            "no data",
            "What crossing nodes costs in %s%s is not known." % (op, _by(suffix)),
            missing="a passing %s fact %s nodes" % (op, " and ".join(lacking)),
        )
        return
    before, after = within["latency_8b_us"], across["latency_8b_us"]
    if before and after:
        spreads = [_spread(item) for item in (within, across)]
        level, end = "supported", ""
        if not all(spreads):
            level, end = "no data", "; their spreads are not known, so no difference is claimed"
        elif spreads[0][1] >= spreads[1][0] and spreads[1][1] >= spreads[0][0]:
            level, end = "overlap", "; their spreads overlap, so no difference is shown"
        yield finding(
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
                "; minimum to 90th percentile: %s to %s µs, %s to %s µs" % tuple(digits(value) for pair in spreads for value in pair)
                if all(spreads)
                else "",
            ),
            None if all(spreads) else "time_us.min and time_us.p90 at 8 B",
        )
    high, low = within["peak_busbw_gbps"], across["peak_busbw_gbps"]
    if high and low:
        yield finding(
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


def _line_rate(fabric):
    """Yield the largest message's bus bandwidth against the rate of the link that it crosses.

    Bus bandwidth of a ring is what each rank sends per second, hence what each node's link carries when the ring crosses it
    once. The largest message counts and not the peak: a shaper's bucket and a NIC's buffers let a short burst pass faster.
    """
    for item in fabric:
        if item["scope"] != "across" or item["status"] not in PASSING or not item["sweep"] or item["control"]:
            continue
        # Of nodes with several ports the rate of one interface says nothing about them all.
        if item["transport"] and item["transport"]["network"] in ("IB", "RoCE", "mixed"):
            continue
        largest = item["sweep"][-1]
        busbw = num(largest.get("busbw_gbps"))
        if not busbw:
            continue
        said = "%s at %s" % (digits(busbw, "GB/s"), size(largest["size_bytes"]))
        rate = item["link_rate_gbit_s"]
        if not rate:
            yield finding(
                "fabric.line_rate.%s" % item["op"],
                "no data",
                "No baseline for %s across nodes: %s is reported, not judged." % (item["op"], said),
                missing="context.link_rate_gbit_s in the collective's fact",
            )
            continue
        share = busbw * 8 / rate
        yield finding(
            "fabric.line_rate.%s" % item["op"],
            "supported" if share <= 1.02 else "warning",
            "%s across nodes reaches %s %% of the link's %s Gbit/s%s."
            % (
                item["op"],
                digits(share * 100),
                digits(rate),
                "" if share <= 1.02 else ", which is more than the link: the rate or the path is not what it seems",
            ),
            "%s × 8 = %s Gbit/s; / %s" % (said, digits(share * rate), digits(rate)),
        )


def _message(layout):
    """Return ``(bytes, how)`` of the message that a token sends; 8 B, the least, without a hidden size."""
    if layout["hidden_size"] and layout["dtype_bytes"]:
        value = layout["hidden_size"] * layout["dtype_bytes"]
        return value, "hidden size %d × %s B = %s" % (layout["hidden_size"], digits(layout["dtype_bytes"]), size(value))
    return 8, "the hidden size is not in the fact, so the smallest swept message stands in: a lower bound"


def _per_token(layout, found, within, across):
    name = "layouts.communication.%s" % layout["name"]
    claim = "How much of a token's time in %s is all-reduce latency is not known." % layout["name"]
    message, how = _message(layout)
    swept, after = latency_at(across, message) if across else (None, None)
    lacking = []
    if not layout["layers"]:
        lacking.append("context.model_layers in the benchmark's fact")
    if not after:
        lacking.append("a passing all_reduce fact across nodes with a sweep")
    if lacking:
        yield finding(name, "no data", claim, missing=" and ".join(lacking))
        return
    count = 2 * layout["layers"] + 1
    cost = count * after / 1000
    tpot = mean(layout, "tpot_ms")
    arithmetic = "2 × %d + 1 = %d all-reduces a token; × %s µs (median at %s; %s) = %s ms" % (
        layout["layers"],
        count,
        digits(after),
        size(swept),
        how,
        digits(cost),
    )
    text = "%s sends %d all-reduces a token: at the measured %s each that is %s a token" % (
        describe(layout),
        count,
        digits(after, "µs"),
        digits(cost, "ms"),
    )
    if tpot:
        text += ", %s %% of its TPOT of %s" % (digits(100 * cost / tpot), digits(tpot, "ms"))
        arithmetic += "; %s / %s = %s %%" % (digits(cost), digits(tpot), digits(100 * cost / tpot))
    if across["ranks"] and layout["ranks"] and across["ranks"] != layout["ranks"]:
        text += " (measured with %d ranks, the layout has %d)" % (across["ranks"], layout["ranks"])
    yield finding(name, "estimate", text + ".", arithmetic)
    yield from _against_twin(layout, found, within, message, after, count, tpot)


def _against_twin(layout, found, within, message, after, count, tpot):
    """Compare the predicted cost of crossing with the TPOT difference to the same TP and PP on one node."""
    name = "layouts.crossing_explained.%s" % layout["name"]
    twin = next(
        (
            other
            for other in found
            if other["usable"] and other["nodes"] == 1 and (other["tp"], other["pp"]) == (layout["tp"], layout["pp"])
        ),
        None,
    )
    _swept, before = latency_at(within, message) if within else (None, None)
    base = mean(twin, "tpot_ms") if twin else None
    if not twin or not before or not base or not tpot:
        lacking = []
        if not base:
            lacking.append("a benchmark of TP %s, PP %s on one node" % (layout["tp"], layout["pp"]))
        if not before:
            lacking.append("a passing all_reduce fact within a node")
        if not tpot:
            lacking.append("this layout's tpot_ms")
        yield finding(
            name,
            "no data",
            "No baseline for %s: what crossing nodes adds to its TPOT cannot be told." % layout["name"],
            missing=" and ".join(lacking),
        )
        return
    predicted, seen = count * (after - before) / 1000, tpot - base
    arithmetic = "%d × (%s − %s) µs = %s ms; TPOT %s − %s (%s) = %s ms" % (
        count,
        digits(after),
        digits(before),
        digits(predicted),
        digits(tpot),
        digits(base),
        twin["name"],
        digits(seen),
    )
    if seen <= 0:
        claim = "%s has no higher TPOT than %s: crossing nodes cost nothing that shows." % (
            layout["name"],
            twin["name"],
        )
    else:
        claim = "A token takes %s longer in %s than in %s; all-reduce latency predicts %s of it, %s %%" % (
            digits(seen, "ms"),
            layout["name"],
            twin["name"],
            digits(predicted, "ms"),
            digits(100 * predicted / seen),
        )
        if layout["executor"] != twin["executor"]:
            claim += " (the executor differs too: %s, %s)" % (layout["executor"], twin["executor"])
        claim += "."
    yield finding(name, "estimate", claim, arithmetic)


def _pipeline(layout, across):
    name = "layouts.pipeline.%s" % layout["name"]
    message, how = _message(layout)
    swept, latency = latency_at(across, message) if across else (None, None)
    tpot = mean(layout, "tpot_ms")
    if not latency or not tpot:
        lacking = "a passing sendrecv fact across nodes with a sweep" if not latency else "this layout's tpot_ms"
        claim = "How much of a token's time in %s is sending between stages is not known." % layout["name"]
        yield finding(name, "no data", claim, missing=lacking)
        return
    hops = layout["pp"] - 1
    cost = hops * num(latency) / 1000
    yield finding(
        name,
        "estimate",
        "%s sends %s a token between stages: at least %s, %s %% of its TPOT of %s."
        % (
            describe(layout),
            "once" if hops == 1 else "%d times" % hops,
            digits(cost, "ms"),
            digits(100 * cost / tpot),
            digits(tpot, "ms"),
        ),
        "(PP − 1) = %d × %s µs (sendrecv median at %s; %s) = %s ms; / %s"
        % (hops, digits(latency), size(swept), how, digits(cost), digits(tpot)),
    )
