"""The head of the report: the verdict, what was looked at, and which layout is the fastest. Standard library only."""

from __future__ import annotations

from datetime import datetime

from ..compare.metrics import conditions
from ..findings.layouts import apart, why_not_apart
from ..findings.reduce_times import crossing, dearer
from ..format import MISSING, digits, factor, interval, plural, seconds, size
from ..records.layouts import describe
from ..records.reading import texts
from ..serving import in_flight


def when(run):
    """Return when a run started and how long it took, as far as ``run.json`` tells."""
    start, end = _time(run["started_at"]), _time(run["finished_at"])
    text = "started %s" % (start.strftime("%Y-%m-%d %H:%M:%S UTC") if start else MISSING)
    if start and end:
        text += ", took %s" % seconds((end - start).total_seconds())
    return text


def _time(text):
    try:
        return datetime.fromisoformat(str(text).replace("Z", "+00:00"))
    except ValueError:
        return None


def headline(records, found, claims):
    """Return ``{status, what, verdict, fastest}``: the run's status and three sentences; ``claims`` are the run's findings."""
    return {
        "status": found["overall"],
        "what": _what(records, found) + ".",
        "verdict": _verdict(found),
        "fastest": _fastest(records, claims),
    }


def _what(records, found):
    text = "%s checked" % plural(len(found["nodes"]), "node")
    serving = texts((records.data["selection"] or {}).get("serving"))
    if serving:
        text += ", serving on %s" % ", ".join(serving)
    if records.layouts:
        usable = sum(layout["usable"] for layout in records.layouts)
        text += "; %d of %s benchmarked" % (usable, plural(len(records.layouts), "layout"))
    return text


def _verdict(found):
    if found["failed"]:
        return "Not proven: %s." % _named(found["failed"])
    if found["overall"] == "skipped":
        return "Nothing was measured in this run."
    return "Every node and layout that was measured passed%s." % _with_something_to_look_at(found)


def _with_something_to_look_at(found):
    """Return how many passed as degraded and which, as the rest of a sentence; "" where all are healthy."""
    groups = []
    for what, verdicts in (("node", found["nodes"]), ("layout", found["layouts"])):
        names = [name for name, verdict in verdicts.items() if verdict["status"] == "degraded"]
        if names:
            groups.append("%d of %s (%s)" % (len(names), plural(len(verdicts), what), _few(names)))
    return ", %s with something to look at" % " and ".join(groups) if groups else ""


def _few(names):
    return ", ".join(names[:3]) + (" and %d more" % (len(names) - 3) if len(names) > 3 else "")


def _named(bad):
    """Return ``nodes node2, node3 failed; layout pp2_across incomplete``, at most three names each."""
    groups = {}
    for item in bad:
        groups.setdefault((item["what"], item["status"]), []).append(item["name"])
    parts = []
    for (what, status), names in sorted(groups.items(), key=lambda pair: (pair[0][1] != "failed", pair[0][0] != "node")):
        if what == "run":
            parts.append("the run's own records are incomplete")
            continue
        names = list(dict.fromkeys(names))
        parts.append("%s%s %s %s" % (what, "" if len(names) == 1 else "s", _few(names), status))
    return "; ".join(parts)


def _fastest(records, claims):
    """Return one sentence: the fastest layout, by how much, and why, as far as the data says why."""
    usable = [layout for layout in records.layouts if layout["usable"]]
    if not records.layouts:
        return "No layout was served in this run."
    if not usable:
        return "No layout has a benchmark that passed, so none is called the fastest."
    models = {conditions(layout, {})["model"] for layout in usable}
    if len(models) > 1:
        return "%d models were served; the recommendation is for each of them." % len(models)
    ranked = sorted(usable, key=lambda layout: -_rate(layout)["mean"])
    best = ranked[0]
    text = "%s: %s" % (describe(best), ", ".join(part for part in (interval(_rate(best), "tok/s"), in_flight(best)) if part))
    if len(ranked) == 1:
        return "Only " + text + ", no other layout to compare with."
    return _against(text, best, ranked[1]) + _why(records, best, ranked) + "."


def _rate(layout):
    return layout["summary"]["throughput_tok_s"]


def _against(text, best, second):
    """Return the best layout's text with how it stands to the second: faster only where their intervals are apart."""
    rate, other = _rate(best), _rate(second)
    disjoint = apart(rate, other)
    if disjoint:
        return "Fastest is %s, %s as fast as the next, %s (%s)" % (
            text,
            factor(rate["mean"] / other["mean"]) if other["mean"] else MISSING,
            second["name"],
            interval(other, "tok/s"),
        )
    return "Highest mean: %s; it is not told apart from %s (%s), %s" % (
        text,
        second["name"],
        interval(other, "tok/s"),
        why_not_apart(rate, other),
    )


def _why(records, best, ranked):
    """Say what sets the fastest layout apart, with the measurement that goes with it."""
    if not apart(_rate(best), _rate(ranked[1])):
        return ""
    if best["ranks"] == 1:
        text = "; one rank exchanges nothing with another"
    elif best["nodes"] == 1 and any((layout["nodes"] or 1) > 1 for layout in ranked):
        text = "; its ranks never leave the node"
    else:
        return ""
    times = crossing(records.collectives, records.reduces)
    # Only where the two are apart: else the sentence would state what is noise.
    if times and dearer(*times):
        text += ", where an all-reduce of %s takes %s within a node and %s across nodes" % (
            size(times[1].size_bytes),
            digits(times[0].us, "µs"),
            digits(times[1].us, "µs"),
        )
    return text
