"""Facts and verdicts in Prometheus' text format 0.0.4, as node_exporter's textfile collector reads it.

A metric is ``plumbline_<kind>_<what was measured, with its unit>``. A verdict is one gauge for each status, 1 for the one that holds.
There are no timestamps, which the collector refuses: ``plumbline_run_started_timestamp_seconds`` says from when the numbers are.
Source: https://prometheus.io/docs/instrumenting/exposition_formats/ and node_exporter's README.
"""

from __future__ import annotations

import re
from datetime import datetime

from ....core.fact import STATUSES
from ..records.entries import entry_status
from ..records.reading import num, text
from .about import layout_of, skus
from .values import values

# Neither has the unit of what it is about.
WITHOUT_UNIT = ("n", "cv")


class Families:
    """Metrics by name, each with its help and its samples; all are gauges."""

    def __init__(self):
        self._found = {}

    def sample(self, name, text_of_help, labels, number, path=""):
        """Add a sample. One that has the labels of another gets its ``path`` as a label: two that are the same spoil a whole file."""
        samples = self._found.setdefault(name, (text_of_help, {}))[1]
        labels = {key: str(value) for key, value in labels.items() if value is not None}
        if _key(labels) in samples:
            labels["path"] = path
        samples[_key(labels)] = number

    def lines(self):
        """Yield the lines, family by family in the order of their names."""
        for name, (text_of_help, samples) in sorted(self._found.items()):
            yield "# HELP %s %s" % (name, _escaped(text_of_help))
            yield "# TYPE %s gauge" % name
            for labels, number in samples.items():
                shown = ",".join('%s="%s"' % (key, _escaped(value, quotes=True)) for key, value in labels)
                yield "%s%s %s" % (name, "{%s}" % shown if shown else "", _number(number))


def _key(labels):
    return tuple(labels.items())


def _escaped(text_to_escape, quotes=False):
    escaped = text_to_escape.replace("\\", "\\\\").replace("\n", "\\n")
    return escaped.replace('"', '\\"') if quotes else escaped


def _number(number):
    return str(int(number)) if isinstance(number, (bool, int)) else repr(number)


def metric(*words):
    """Return words as the name of a metric; what no name may have becomes ``_``."""
    return re.sub(r"[^a-z0-9_]", "_", "_".join(("plumbline", *words)).lower())


def prometheus(data, found):
    """Return the file as bytes, from a loaded run folder (``data.load``) and its verdicts (``verdicts``)."""
    families = Families()
    sku = skus(data)
    _run(families, data["run"], found["overall"])
    for node, verdict in found["nodes"].items():
        about = {"node": node, "sku": sku.get(node)}
        _verdict(families, "node_verdict", "Verdict on a node", about, verdict["status"])
        for phase, status in verdict["phases"].items():
            if status is not None:
                _verdict(families, "node_phase_verdict", "Verdict on a phase of a node", {**about, "phase": phase}, status)
    for layout, verdict in found["layouts"].items():
        _verdict(families, "layout_verdict", "Verdict on a layout", {"layout": layout}, verdict["status"])
    for entry in data["facts"]:
        _fact(families, entry, sku.get(entry["host"]))
    return ("\n".join(families.lines()) + "\n").encode("utf-8", "replace")


def _run(families, run, overall):
    info = {"run_id": run["run_id"], "playbook": text(run["playbook"]), "plumbline_version": text(run["plumbline_version"])}
    families.sample("plumbline_run_info", "The run that everything here is from", info, 1)
    started = _seconds(run["started_at"])
    if started is not None:
        families.sample("plumbline_run_started_timestamp_seconds", "When the run was started, in seconds since 1970", {}, started)
    _verdict(families, "run_verdict", "Verdict on the run", {}, overall)


def _seconds(when):
    """Return an ISO time as seconds since 1970, None for what is none."""
    try:
        return datetime.fromisoformat(when.replace("Z", "+00:00")).timestamp()
    except (AttributeError, ValueError):
        return None


def _verdict(families, name, text_of_help, labels, holds):
    for status in STATUSES:
        families.sample(metric(name), text_of_help + ": 1 for the status that holds", {**labels, "status": status}, int(status == holds))


def _fact(families, entry, sku):
    kind, fact = entry["kind"], entry["fact"]
    about = {"node": entry["host"], "sku": sku, "layout": layout_of(entry), "fact": entry["name"]}
    _verdict(families, "fact_status", "Status of a fact", {**about, "kind": kind}, entry_status(entry))
    if num(fact.get("duration_s")) is not None:
        families.sample(metric("fact_duration_s"), "How long a measurement took", {**about, "kind": kind}, fact["duration_s"])
    # A number whose fact breaks its schema may mean anything.
    for value in values(fact.get("measured")) if not entry["problems"] else ():
        if "index" in value.labels or value.labels.get("stat") in WITHOUT_UNIT:
            continue
        help_text = "Measured by Plumbline: %s of a fact of kind %s (docs/facts.md)" % ("/".join(value.words), kind)
        families.sample(metric(kind, *value.words), help_text, {**about, **value.labels}, value.number, path="/".join(value.path))
