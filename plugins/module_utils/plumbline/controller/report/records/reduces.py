"""The serving runtime's own all-reduce as records: one for each tensor-parallel group, message and node. Standard library only."""

from __future__ import annotations

from ....core.fact import PASSING
from .collectives import SERVING
from .entries import entry_status, of_kind
from .reading import get, num, rows, text, texts, whole


def reduces(data):
    """Return ``[{host, status, tp, nodes, message_bytes, batch, time_us, low_us, high_us, method, path, layouts}]`` of the passing facts.

    ``low_us`` and ``high_us`` are the minimum and the 90th percentile of the samples, None where they are not known. A result with wrong
    values, or without a time, is none.
    """
    found = []
    for entry in of_kind(data, "collective"):
        if entry["name"] == SERVING and entry_status(entry) in PASSING:
            made = [_reduce(row) for row in rows(get(entry["fact"], "measured", "results"))]
            found += [dict(item, host=entry["host"], status=entry_status(entry)) for item in made if item]
    return found


def _reduce(row):
    made = {
        "tp": whole(row.get("tp")),
        "nodes": whole(row.get("nodes")) or 1,
        "message_bytes": whole(row.get("message_bytes")),
        "batch": whole(row.get("batch")),
        "time_us": num(row.get("time_us")),
        "low_us": num(get(row, "spread_us", "min")),
        "high_us": num(get(row, "spread_us", "p90")),
        "method": text(row.get("method")),
        "path": text(row.get("path")),
        "layouts": texts(row.get("layouts")),
    }
    needed = all((made[key] or 0) > 0 for key in ("tp", "message_bytes", "time_us"))
    return made if needed and not row.get("wrong") else None
