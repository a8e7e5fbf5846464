"""The table of throughput against latency. Standard library only."""

from __future__ import annotations

from ..format import MISSING, digits
from ..records.reading import num
from ..serving import BOUNDS, colour, slos


def sweep(layouts):
    """Return ``{slo, rows, capped}``: the SLO in words, a line for every level, a sentence for every GPU that its power limit held down."""
    swept = [layout for layout in layouts if layout["sweep"]]
    rows = [_level(place, layout, level) for place, layout in enumerate(layouts) for level in layout["sweep"]]
    capped = [_capped(layout["name"], item) for layout in swept for item in layout["power_caps"]]
    return {"slo": slos(swept), "rows": rows, "capped": capped}


def _level(place, layout, level):
    notes = ["a queue: the server takes %d" % layout["max_num_seqs"]] if level.get("queued") and layout["max_num_seqs"] else []
    for key, text in (("preemptions", "%d begun again"), ("burst_requests", "%d in one burst: TTFT and TPOT say nothing of them")):
        notes += [text % level[key]] if num(level.get(key)) else []
    return {
        "name": layout["name"],
        "colour": colour(place),
        "concurrency": digits(level["concurrency"]),
        "requests": digits(level.get("completed")),
        "total": digits(level["total_throughput_tok_s"]),
        "user": digits(level["throughput_tok_s"]),
        "ttft": "%s / %s" % (digits(level.get("ttft_ms")), digits(level.get("ttft_p99_ms"))),
        "tpot": "%s / %s" % (digits(level.get("tpot_ms")), digits(level.get("tpot_p99_ms"))),
        "e2e": "%s / %s" % (digits(level.get("e2e_ms")), digits(level.get("e2e_p99_ms"))),
        "kept": _kept(level),
        "goodput": digits(level.get("request_goodput_per_s"), "req/s") if num(level.get("request_goodput_per_s")) is not None else MISSING,
        "note": "; ".join(_missed(layout["slo"], level) + notes),
    }


def _kept(level):
    """Return the share of the answers that kept the SLO, and how many of how many."""
    share, completed = num(level.get("goodput_share")), num(level.get("completed"))
    if share is None:
        return MISSING
    counted = "" if completed is None else " (%s of %s)" % (digits(round(share * completed)), digits(int(completed)))
    return digits(100 * share, "%") + counted


def _missed(slo, level):
    """Say which bounds a level's mean is over: a mean within a bound does not say that every answer is, so that is not claimed."""
    return [
        "mean %s %s over %g ms" % (label, digits(level[key], "ms"), slo[key])
        for key, label in BOUNDS
        if slo.get(key) and num(level.get(key)) is not None and level[key] > slo[key]
    ]


def _capped(name, item):
    parts = ["%s of the time under load" % digits(100 * item["share"], "%")]
    if item["low_mhz"] is not None and item["high_mhz"] is not None:
        parts.append("its SM clock down to %d from %d MHz" % (item["low_mhz"], item["high_mhz"]))
    limit = "" if item["limit_w"] is None else " of %s" % digits(int(item["limit_w"]), "W")
    text = "%s: GPU %s was held down by its power limit%s during the sweep, %s; at which levels is not recorded."
    return text % (name, item["gpu"], limit, ", ".join(parts))
