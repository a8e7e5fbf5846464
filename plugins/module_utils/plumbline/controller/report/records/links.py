"""Pairs of nodes as records, and the verdicts on nodes by their pairs. Standard library only."""

from __future__ import annotations

from .entries import entry_reasons, entry_status, of_kind, shared_by
from .reading import get, num, plain, rows, texts

# Numbers of a verdict on a node by its pairs.
JUDGED = ("pairs", "median_gbps", "best_gbps", "others_median_gbps", "ratio", "bound_gbps")


def links(data):
    """Return one record per pair of nodes with a link fact: ``bandwidth_gbps`` (10⁹ bytes/s) or ``ports`` (10⁹ bits/s)."""
    return [_link(entry) for entry in of_kind(data, "link") if len(shared_by(entry)) == 2]


def _link(entry):
    context, measured = (get(entry["fact"], key) for key in ("context", "measured"))
    return {
        "host": entry["host"],
        "name": entry["name"],
        "nodes": shared_by(entry),
        "status": entry_status(entry),
        "round": num(get(context, "round")),
        "op": get(context, "op"),
        "how": get(context, "tool"),
        "backend": get(context, "backend"),
        "bandwidth_gbps": num(get(measured, "bandwidth_gbps")),
        "latency_us": num(get(measured, "latency_us")),
        "size_bytes": num(get(measured, "size_bytes")),
        "ports": [(str(port.get("port")), num(port.get("bandwidth_gbit_s"))) for port in rows(get(measured, "ports"))],
        "reasons": entry_reasons(entry),
    }


def judged_nodes(data):
    """Return one record per verdict on a node by its pairs, ``status`` and numbers as in the fact, ``port`` None or a port."""
    entries = [entry for entry in of_kind(data, "link") if isinstance(get(entry["fact"], "context", "node"), str)]
    return [record for entry in entries for record in _judged(entry)]


def _judged(entry):
    """Return the records of one fact: one for each of its ports, in their order, or one for the node's pairs as a whole."""
    context, measured = (get(entry["fact"], key) for key in ("context", "measured"))
    verdicts, slow = texts(get(context, "verdicts")), get(context, "slow_links")
    pairs = [texts(pair) for pair in slow] if isinstance(slow, list) else []
    return [
        {
            "node": context["node"],
            "nodes": texts(get(context, "nodes")),
            "port": item.get("port"),
            "status": entry_status(entry),
            "verdict": verdicts[index] if index < len(verdicts) else "unknown",
            "slow_links": [pair for pair in pairs if len(pair) == 2],
            **{key: num(item.get(key)) for key in JUDGED},
        }
        for index, item in enumerate(rows(get(measured, "ports")) or [plain(measured)])
    ]
