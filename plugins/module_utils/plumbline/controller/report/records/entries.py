"""Loaded facts: their status and reasons, and which nodes they are about. Standard library only.

An entry is one item of ``facts`` in what data.py's ``load`` returns.
"""

from __future__ import annotations

from ....core.fact import PASSING, STATUSES, worst
from .reading import get, rows, texts


def entry_status(entry):
    """Return the status of a loaded fact: an invalid fact is never better than incomplete."""
    status = get(entry["fact"], "status")
    if status not in STATUSES:
        status = "incomplete"
    return worst([status, "incomplete"]) if entry["problems"] else status


def entry_reasons(entry):
    """Return the reasons of a loaded fact, its schema problems first, all with string values."""
    return [_problem(entry, problem) for problem in entry["problems"]] + [_reason(item) for item in rows(get(entry["fact"], "reasons"))]


def _problem(entry, problem):
    return {
        "check": "fact.schema",
        "status": "incomplete",
        "seen": "%s: %s" % (entry["file"], problem),
        "threshold": "a fact as in docs/schema/%s.schema.json" % entry["kind"],
        "remedy": "Correct the module that wrote this fact, or its schema, and run that phase again.",
    }


def _reason(item):
    status = item.get("status")
    return {
        "check": str(item.get("check") or "unnamed"),
        "status": status if status in STATUSES else "incomplete",
        "seen": str(item.get("seen") or "nothing was recorded"),
        "threshold": None if item.get("threshold") is None else str(item["threshold"]),
        "remedy": None if item.get("remedy") is None else str(item["remedy"]),
    }


def missed(status):
    """Return whether a status says that something was missed: failed or incomplete."""
    return status not in PASSING + ("skipped",)


def baseline_reason(entry):
    """Return a fact's reason about a baseline (a check named ``*.baseline``), or None."""
    return next((item for item in entry_reasons(entry) if item["check"].endswith(".baseline")), None)


def of_kind(data, *kinds):
    """Return the loaded facts of these kinds, in the order in which they were started."""
    found = [entry for entry in data["facts"] if entry["kind"] in kinds]
    return sorted(found, key=lambda entry: (str(get(entry["fact"], "started_at") or "~"), entry["host"], entry["file"]))


def shared_by(entry):
    """Return the nodes (names or addresses) that a fact is about together; none where it is about its own node only.

    What several nodes measure together (a collective across, a pair) does not say which of them it was: it is no verdict
    on the node that keeps the fact.
    """
    context = get(entry["fact"], "context")
    if entry["kind"] == "collective" and get(context, "scope") == "across":
        return texts(get(context, "addresses")) or [entry["host"]]
    return texts(get(context, "nodes")) if entry["kind"] == "link" and not get(context, "node") else []
