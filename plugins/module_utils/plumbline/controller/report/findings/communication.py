"""Findings about what the fabric's latency explains of a layout's time per token.

Tensor parallelism all-reduces twice a layer and once after the embedding, so a token costs
``2 × layers + 1`` all-reduces of ``hidden_size × bytes`` each; a pipeline sends its activations
``PP - 1`` times a token. How long an all-reduce takes is what ``reduce_times`` finds: the serving runtime's own where it was
measured, else NCCL in a CUDA graph, else plain; the arithmetic says which. Multiplied by measured latencies that is the least that
communication adds; it leaves out everything that waits for it (scheduling, serialisation, imbalance).
Standard library only.
"""

from __future__ import annotations

from ..format import digits, interval, size
from ..records.collectives import latency_at
from ..records.layouts import describe
from ..records.reading import get, num
from .fabric import pick, tools_of
from .layouts import apart, finding, mean, why_not_apart
from .reduce_times import of_groups


def communication_findings(layouts, collectives, reduces=()):
    """Return the findings about what layouts over several nodes spend on communication."""
    result = []
    for layout in layouts:
        if layout["usable"] and (layout["nodes"] or 0) > 1:
            result += _per_token(layout, layouts, collectives, reduces) if (layout["tp"] or 0) > 1 else []
            result += _pipeline(layout, _sent_across(collectives)) if (layout["pp"] or 0) > 1 else []
    return result


def _sent_across(collectives):
    """Return the passing sendrecv across nodes by the first tool that has one, None where none has."""
    found = (pick(collectives, "sendrecv", "across", tool) for tool in tools_of(collectives, "sendrecv"))
    return next((item for item in found if item), None)


def spanned(layout):
    """Return over how many nodes one tensor-parallel group of a layout goes: vLLM fills a node before it goes on to the next."""
    here = (layout["tp"] or 1) * (layout["pp"] or 1) // (layout["nodes"] or 1)
    return max(1, (layout["tp"] or 1) // here) if here else layout["nodes"] or 1


def _message(layout):
    """Return ``(bytes, how)`` of the message that a token sends; 8 B, the least, without a hidden size."""
    if layout["hidden_size"] and layout["dtype_bytes"]:
        value = layout["hidden_size"] * layout["dtype_bytes"]
        return value, "hidden size %d × %s B = %s" % (layout["hidden_size"], digits(layout["dtype_bytes"]), size(value))
    return 8, "the hidden size is not in the fact, so the smallest swept message stands in: a lower bound"


def _per_token(layout, layouts, collectives, reduces):
    name = "layouts.communication.%s" % layout["name"]
    claim = "How much of a token's time in %s is all-reduce latency is not known." % layout["name"]
    message, how = _message(layout)
    nodes = spanned(layout)
    times = of_groups([(layout["tp"], nodes)], message, collectives, reduces, layout["name"])
    lacking = []
    if not layout["layers"]:
        lacking.append("context.model_layers in the benchmark's fact")
    if not times:
        lacking.append("a passing all_reduce fact %s with a sweep" % ("across nodes" if nodes > 1 else "within a node"))
    if layout.get("steps_unknown"):
        lacking.append("the tokens of a step: %s" % layout["steps_unknown"])
    if lacking:
        yield finding(name, "no data", claim, missing=" and ".join(lacking))
        return
    count = 2 * layout["layers"] + 1
    cost = count * times[0].us / 1000
    tpot = mean(layout, "tpot_ms")
    arithmetic = "2 × %d + 1 = %d all-reduces a token; × %s µs (%s, at %s; %s) = %s ms" % (
        layout["layers"],
        count,
        digits(times[0].us),
        times[0].how,
        size(times[0].size_bytes),
        how,
        digits(cost),
    )
    text = "%s sends %d all-reduces a token%s: at the measured %s each that is %s a token" % (
        describe(layout),
        count,
        "" if nodes > 1 else ", none of them across nodes",
        digits(times[0].us, "µs"),
        digits(cost, "ms"),
    )
    if tpot:
        text += ", %s %% of its TPOT of %s" % (digits(100 * cost / tpot), digits(tpot, "ms"))
        arithmetic += "; %s / %s = %s %%" % (digits(cost), digits(tpot), digits(100 * cost / tpot))
    if times[0].ranks and times[0].ranks != layout["tp"]:
        text += " (measured with %d ranks, its groups have %d)" % (times[0].ranks, layout["tp"])
    yield finding(name, "estimate", text + ".", arithmetic)
    if nodes > 1:
        yield _against_twin(layout, layouts, collectives, reduces, message, count, tpot)


def _against_twin(layout, layouts, collectives, reduces, message, count, tpot):
    """Return the predicted cost of crossing against the TPOT difference to the same TP and PP on one node."""
    name = "layouts.crossing_explained.%s" % layout["name"]
    twin = _twin(layout, layouts)
    # Both by one source and the same method.
    times = of_groups([(layout["tp"], 1), (layout["tp"], spanned(layout))], message, collectives, reduces)
    base = mean(twin, "tpot_ms") if twin else None
    lacking = []
    if not base:
        lacking.append("a benchmark of TP %s, PP %s on one node" % (layout["tp"], layout["pp"]))
    if not times:
        lacking.append("a passing all_reduce fact within a node")
    if not tpot:
        lacking.append("this layout's tpot_ms")
    if lacking:
        claim = "No baseline for %s: what crossing nodes adds to its TPOT cannot be told." % layout["name"]
        return finding(name, "no data", claim, missing=" and ".join(lacking))
    before, after = times
    predicted, seen = count * (after.us - before.us) / 1000, tpot - base
    rates = [get(item["summary"], "tpot_ms") for item in (layout, twin)]
    if not apart(*rates):
        claim = "The TPOT of %s and of %s are not told apart (%s, %s; %s): what crossing nodes adds does not show." % (
            layout["name"],
            twin["name"],
            interval(rates[0], "ms"),
            interval(rates[1], "ms"),
            why_not_apart(*rates),
        )
        return finding(name, "no data" if apart(*rates) is None else "overlap", claim)
    arithmetic = "%d × (%s − %s) µs (%s) = %s ms; TPOT %s − %s (%s) = %s ms" % (
        count,
        digits(after.us),
        digits(before.us),
        after.how if after.how == before.how else "%s; %s" % (after.how, before.how),
        digits(predicted),
        digits(tpot),
        digits(base),
        twin["name"],
        digits(seen),
    )
    return finding(name, "estimate", _explained(layout, twin, predicted, seen), arithmetic)


def _twin(layout, layouts):
    """Return the first layout with the same TP and PP on one node, or None."""
    shape = layout["tp"], layout["pp"]
    return next((other for other in layouts if other["usable"] and other["nodes"] == 1 and (other["tp"], other["pp"]) == shape), None)


def _explained(layout, twin, predicted_ms, seen_ms):
    if seen_ms <= 0:
        return "%s has no higher TPOT than %s: crossing nodes cost nothing that shows." % (layout["name"], twin["name"])
    claim = "A token takes %s longer in %s than in %s; all-reduce latency predicts %s of it, %s %%" % (
        digits(seen_ms, "ms"),
        layout["name"],
        twin["name"],
        digits(predicted_ms, "ms"),
        digits(100 * predicted_ms / seen_ms),
    )
    if layout["executor"] != twin["executor"]:
        claim += " (the executor differs too: %s, %s)" % (layout["executor"], twin["executor"])
    return claim + "."


def _pipeline(layout, across):
    name = "layouts.pipeline.%s" % layout["name"]
    message, how = _message(layout)
    # Between stages vLLM sends outside of the graphs, by the runtime: the plain time.
    swept, latency = latency_at(across, message) if across else (None, None)
    tpot = mean(layout, "tpot_ms")
    if not latency or not tpot or layout.get("steps_unknown"):
        lacking = "a passing sendrecv fact across nodes with a sweep" if not latency else "this layout's tpot_ms"
        if latency and tpot:
            lacking = "the tokens of a step: %s" % layout["steps_unknown"]
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
        "(PP − 1) = %d × %s µs (sendrecv median, plain, at %s; %s) = %s ms; / %s"
        % (hops, digits(latency), size(swept), how, digits(cost), digits(tpot)),
    )
