"""A run against others, in words and lines: differences, nodes against a fleet's baseline, courses over time. Standard library only."""

from __future__ import annotations

from ..compare.judge import DIFFERS, UNKNOWN, WITHIN
from ..compare.metrics import LAYOUT
from ..format import MISSING, digits, plural

# Of the numbers of nodes so many lines, those that differ first; the others are counted, and facts.json has all.
NODE_LINES = 60
# Courses of nodes that are drawn.
NODE_COURSES = 24
NAMED = 3


def compared(found):
    """Return ``{summary, problem, told, layouts, nodes, more, fleet, courses}``; ``found`` is what compare/compared.py says."""
    told = [item for item in sorted(found["differences"], key=_urgency) if item["says"] in (DIFFERS, WITHIN)]
    calm = [_line(item) for item in found["differences"] if item["says"] not in (DIFFERS, WITHIN)]
    nodes = [line for line in calm if line["scope"] != LAYOUT]
    fleet = [_against_fleet(item) for item in found["nodes"]]
    return {
        "summary": summary(found),
        "problem": found.get("problem"),
        "told": [_line(item) for item in told],
        "layouts": [line for line in calm if line["scope"] == LAYOUT],
        "nodes": nodes[:NODE_LINES],
        "more_nodes": max(0, len(nodes) - NODE_LINES),
        "fleet": {"file": found["fleet"]["file"], "summary": _fleet_summary(found), "lines": fleet[:NODE_LINES]}
        if found["fleet"]
        else None,
        "more_fleet": max(0, len(fleet) - NODE_LINES),
        "courses": _courses(found["courses"]),
    }


def summary(found):
    """Return one sentence: what differs from the earlier run, or that nothing does, or that there is none to compare with."""
    items = found["differences"]
    if found.get("problem"):
        return "Not compared with another run: %s" % found["problem"]
    if not items:
        if found["asked"] == "none":
            return "Not compared with another run: none was asked for."
        if found["asked"]:
            return "Nothing of this run can be compared with run %s: no layout of the same model and shape passed in both." % found["with"]
        return "No earlier run to compare with: none of the same model, layout and SKU."
    told = [item for item in items if item["says"] == DIFFERS]
    hinted = [item for item in items if item["says"] == WITHIN]
    against = "Against run %s" % found["with"]
    if told:
        return "%s: %s." % (against, "; ".join(_told(told)))
    if hinted:
        text = "%s: %s. The samples of the two runs are apart, but %s do not say how far equal runs differ: repeat it."
        return text % (against, "; ".join(_told(hinted)), "too few earlier runs")
    judged = sum(item["says"] != UNKNOWN for item in items)
    if not judged:
        return "%s: %s, none judged: too few values to say how far equal runs differ." % (against, plural(len(items), "number"))
    return "%s: no difference shown in %s." % (against, plural(judged, "number"))


def _told(items):
    items = sorted(items, key=_urgency)
    parts = ["%s of %s is %s" % (item["title"], item["subject"], _change(item)) for item in items[:NAMED]]
    return parts + (["and %d more" % (len(items) - NAMED)] if len(items) > NAMED else [])


def _urgency(item):
    """Return what to sort by: what differs first, the bad news and the largest changes first among it; the rest stays in its order."""
    place = {DIFFERS: 0, WITHIN: 1}.get(item["says"])
    return (2, 0, 0) if place is None else (place, item["better"] is not False, -abs(item["change"]))


def _change(item):
    """Return ``5.0 % lower [−6.1 %, −3.9 %]``."""
    word = "higher" if item["change"] > 0 else "lower"
    text = "%s %s" % (percent(abs(item["change"]), False), word)
    return text if item["low"] is None else "%s [%s, %s]" % (text, percent(item["low"]), percent(item["high"]))


def percent(value, signed=True):
    """Return a relative change as text, ``−5.2 %``; a change of more than ten times as a factor."""
    if value > 9:
        return "×%s" % digits(1 + value)
    text = digits(abs(100 * value)) if abs(value) >= 0.0005 else "0.0"
    return "%s%s\N{NO-BREAK SPACE}%%" % (("−" if value < 0 else "+") if signed and text != "0.0" else "", text)


def _line(item):
    known = "1 earlier equal run" if item["runs"] == 1 else "%d earlier equal runs" % item["runs"]
    notes = [known] if item["runs"] else ["no earlier equal run"]
    if item["seen_from"] is not None and item["says"] != DIFFERS:
        notes.append("a change of %s would have counted" % percent(item["seen_from"], False))
    return {
        "scope": item["scope"],
        "subject": item["subject"],
        "metric": item["title"],
        "run": item["run"],
        "then": digits(item["then"], item["unit"]),
        "now": digits(item["now"], item["unit"]),
        "change": percent(item["change"]),
        "interval": MISSING if item["low"] is None else "[%s, %s]" % (percent(item["low"]), percent(item["high"])),
        "says": item["says"],
        "mark": _mark(item),
        "note": "; ".join(notes + item["differs_in"]),
    }


def _mark(item):
    """Return whether a difference is good or bad news, as a verdict's colour; None for no difference."""
    if item["says"] not in (DIFFERS, WITHIN):
        return None
    return "better" if item["better"] else "worse" if item["says"] == DIFFERS else "perhaps worse"


def _against_fleet(item):
    return {
        "host": item["host"],
        "metric": item["metric"],
        "sku": item["sku"] or MISSING,
        "now": digits(item["now"], item["unit"]),
        "median": "%s of %s" % (digits(item["median"], item["unit"]), plural(item["nodes"], "node")),
        "change": percent(item["change"]),
        "interval": MISSING if item["low"] is None else "%s to %s" % (digits(item["low"]), digits(item["high"], item["unit"])),
        "says": item["says"],
        "mark": _mark(item),
    }


def _fleet_summary(found):
    lines, run = found["nodes"], found["fleet"]["run_id"]
    bad = list(dict.fromkeys(item["host"] for item in lines if item["says"] == DIFFERS and item["better"] is False))
    if not lines:
        return "No node of this run has a number of which the fleet's baseline (run %s) knows the SKU and the metric." % run
    judged = [item for item in lines if item["says"] != UNKNOWN]
    if not judged:
        return "Not judged against the fleet's baseline (run %s): it has too few nodes of each SKU, or no spread." % run
    if bad:
        names = ", ".join(bad[:NAMED]) + (" and %d more" % (len(bad) - NAMED) if len(bad) > NAMED else "")
        return "Outside of what the fleet's baseline (run %s) expects of one more node, to the bad: %s." % (run, names)
    return "No node is worse than the fleet's baseline (run %s) expects: %s compared." % (run, plural(len(judged), "number"))


def _courses(courses):
    layouts = [item for item in courses if item["scope"] == LAYOUT]
    nodes = [item for item in courses if item["scope"] != LAYOUT]
    return [_course(item) for item in layouts + nodes[:NODE_COURSES]]


def _course(item):
    """Return a course with the points of its line in a box of 120 by 28. Its own range fills it, so that range stands beside it."""
    values = [point["value"] for point in item["points"]]
    low, high = min(values), max(values)
    span, step = (high - low) or 1, 112 / (len(values) - 1)
    places = [(4 + step * index, 24 - 20 * (value - low) / span) for index, value in enumerate(values)]
    return {
        "subject": item["subject"],
        "metric": item["title"],
        "line": " ".join("%.1f,%.1f" % place for place in places),
        "last": "%.1f" % places[-1][0],
        "height": "%.1f" % places[-1][1],
        "first": digits(values[0], item["unit"]),
        "now": digits(values[-1], item["unit"]),
        "range": "%s to %s" % (digits(low), digits(high, item["unit"])),
        "runs": plural(len(values), "run"),
        "since": item["points"][0]["run"],
    }
