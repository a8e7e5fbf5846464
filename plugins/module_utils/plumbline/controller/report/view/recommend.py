"""The recommendation: which layout for latency and which for throughput, per model and number of nodes, and why. Standard library only."""

from __future__ import annotations

from ..compare.metrics import conditions, skus_of
from ..findings.layouts import apart, why_not_apart
from ..format import digits, factor, interval, plural
from ..records.layouts import describe
from ..records.reading import get, num
from ..serving import is_dummy, slo_text, within_slo


def recommendations(records):
    """Return ``[{model, nodes, latency, throughput}]``: for each model and number of nodes two sentences, with their reason.

    Latency is the time of a whole answer where one request is in flight; throughput the output tokens of all requests at the best level
    of the sweep. What was not measured is said, with the variable that measures it; nothing is recommended then.
    """
    skus, groups = skus_of(records.data), {}
    for layout in records.layouts:
        if layout["usable"]:
            groups.setdefault((conditions(layout, skus)["model"], layout["nodes"] or 1), []).append(layout)
    return [
        {"model": model, "nodes": plural(nodes, "node"), "latency": _latency(found), "throughput": _throughput(found)}
        for (model, nodes), found in groups.items()
    ]


def _latency(found):
    """Return which layout answers soonest, or why none can be named."""
    single = [layout for layout in found if layout["concurrency"] in (None, 1) and num(get(layout["summary"], "e2e_ms", "mean"))]
    if not single:
        return "Not known: no E2E time was measured with a single request in flight."
    ranked = sorted(single, key=lambda layout: layout["summary"]["e2e_ms"]["mean"])
    best, rate = ranked[0], ranked[0]["summary"]["e2e_ms"]
    text = "%s: an answer of %s tokens takes %s" % (describe(best), digits(best["measured"].get("output_len_tokens")), interval(rate, "ms"))
    if len(ranked) == 1:
        return text + "; the only one measured on so many nodes." + _weights(best)
    same = [layout for layout in ranked[1:] if not apart(rate, layout["summary"]["e2e_ms"])]
    if same:
        names = ", ".join(layout["name"] for layout in same)
        return "%s. Not told apart from %s (%s): take the simpler one.%s" % (
            text, names, why_not_apart(rate, same[0]["summary"]["e2e_ms"]), _weights(best),
        )  # fmt: skip
    other = ranked[1]
    return "%s, %s as fast as the next, %s (%s); the intervals do not overlap.%s" % (
        text,
        factor(other["summary"]["e2e_ms"]["mean"] / rate["mean"]),
        other["name"],
        interval(other["summary"]["e2e_ms"], "ms"),
        _weights(best),
    )


def _throughput(found):
    """Return which layout gives the most tokens a second in all, or why none can be named."""
    swept = [(level, layout) for layout in found for level in layout["sweep"]]
    if not swept:
        return "Not known: nothing was measured with many requests in flight. serve_benchmark_sweep does."
    bound = any(layout["slo"] for layout in found)
    kept = [pair for pair in swept if within_slo(pair[0])] if bound else swept
    if not kept:
        return "None: no level of the sweep keeps the SLO (%s) for 90 %% of its answers." % slo_text(swept[0][1]["slo"])
    best = max(kept, key=lambda pair: pair[0]["total_throughput_tok_s"])
    level, layout = best
    text = "%s with %s in flight: %s in all, %s for each user" % (
        describe(layout),
        digits(level["concurrency"]),
        digits(level["total_throughput_tok_s"], "tok/s"),
        digits(level["throughput_tok_s"], "tok/s"),
    )
    if bound:
        text += "; the most within the SLO (%s)" % slo_text(layout["slo"])
    return text + _next(best, kept, found) + " One run a level, so without an interval." + _weights(layout)


def _next(best, kept, found):
    """Return how far the best of each other layout is behind, as the rest of a sentence."""
    others = [pair for pair in kept if pair[1] is not best[1]]
    if not others:
        return "; no other layout on so many nodes " + ("keeps it." if len(found) > 1 else "was measured.")
    other = max(others, key=lambda pair: pair[0]["total_throughput_tok_s"])
    ratio = best[0]["total_throughput_tok_s"] / other[0]["total_throughput_tok_s"]
    return "; %s of the next, %s (%s)." % (factor(ratio), other[1]["name"], digits(other[0]["total_throughput_tok_s"], "tok/s"))


def _weights(layout):
    return " Dummy weights: speed only." if is_dummy(layout) else ""
