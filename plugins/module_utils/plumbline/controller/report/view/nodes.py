"""The node table, and which nodes serve, are spare or are left out. Standard library only."""

from __future__ import annotations

from ....core.fact import STATUSES, sentence
from ...tally import SHOWN
from ..format import MISSING, plural
from ..records.reading import rows, texts
from ..verdicts import CALM, PHASES, to_look_at

# Columns after those of the phases, there only where some node has a verdict in them.
EXTRA_COLUMNS = ("serve", "other")
# Of a large fleet so many nodes have all of their checks on the page, the worst first; facts.json has those of all.
EVIDENCE_ROWS = 50


def node_table(nodes):
    """Return ``{columns, rows, folded, summary}``; ``nodes`` are the verdicts on the nodes, by name.

    Of more than :data:`SHOWN` nodes the worst come first, ``folded`` are the rows with nothing to look at, and ``summary`` counts all.
    Fewer stay in inventory order: they are seen at a glance.
    """
    extra = [name for name in EXTRA_COLUMNS if any(name in verdict["phases"] for verdict in nodes.values())]
    columns = [*PHASES, *extra]
    large = len(nodes) > SHOWN
    ordered = sorted(nodes.items(), key=lambda item: -STATUSES.index(item[1]["status"]) if large else 0)
    rows = [_row(host, verdict, columns, not large or (place < EVIDENCE_ROWS)) for place, (host, verdict) in enumerate(ordered)]
    return {
        "columns": columns,
        "rows": [row for row in rows if not large or row["status"] not in CALM],
        "folded": [row for row in rows if large and row["status"] in CALM],
        "summary": counted(nodes) if large else None,
    }


def counted(nodes):
    """Return the nodes by their verdicts in a line, the worst first: ``64 nodes: 1 failed, 63 healthy``."""
    counts = {status: sum(verdict["status"] == status for verdict in nodes.values()) for status in reversed(STATUSES)}
    return "%s: %s" % (plural(len(nodes), "node"), ", ".join("%d %s" % (count, status) for status, count in counts.items() if count))


def _row(host, verdict, columns, with_evidence):
    """Return a node's line; ``evidence`` are the checks with nothing to look at, which stand behind a fold."""
    top = to_look_at(verdict)
    others = [item for item in verdict["reasons"] if item["status"] not in CALM and item is not top]
    return {
        "host": host,
        "role": verdict["role"] or MISSING,
        "status": verdict["status"],
        "cells": [verdict["phases"].get(column) for column in columns],
        # The threshold and the remedy have cells of their own.
        "seen": sentence(dict(top, threshold=None)) if top else _calm(verdict),
        "threshold": top and top["threshold"],
        "remedy": top and top["remedy"],
        "others": [dict(item, sentence=sentence(item)) for item in others],
        "evidence": [item for item in verdict["reasons"] if item["status"] in CALM] if with_evidence else [],
    }


def _calm(verdict):
    """Return what is to be said of a node with nothing to do: what passed, or why nothing was measured."""
    if verdict["status"] != "skipped":
        return "%s passed" % plural(sum(item["status"] == "healthy" for item in verdict["reasons"]), "check")
    skipped = next((item for item in verdict["reasons"] if item["status"] == "skipped"), None)
    return sentence(skipped) if skipped else "nothing was measured"


def selection(data, nodes):
    """Return ``{serving, spares, excluded, unplaced}`` of the nodes; None where none were selected.

    ``unplaced`` are those of ``nodes``, the verdicts by name, that the selection does not name.
    """
    chosen = data["selection"]
    if chosen is None:
        return None
    excluded = chosen.get("excluded")
    excluded = excluded if isinstance(excluded, dict) else dict.fromkeys(texts(excluded), "no reason was recorded")
    return {
        "serving": [{"host": host, "note": "head" if index == 0 else None} for index, host in enumerate(texts(chosen.get("serving")))],
        "spares": texts(chosen.get("spares")),
        "excluded": [{"host": str(host), "why": str(why) + _instead(chosen, host)} for host, why in excluded.items()],
        "unplaced": [host for host, verdict in nodes.items() if verdict["role"] is None],
    }


def _instead(chosen, host):
    """Say which spare serves in a node's place, if the node was due to serve."""
    for item in rows(chosen.get("replaced")):
        if item.get("node") == host:
            return "; replaced by the spare %s" % item["by"] if item.get("by") else "; no spare was left to replace it"
    return ""
