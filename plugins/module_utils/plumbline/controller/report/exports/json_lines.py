"""Facts as JSON lines: one object for each fact, for those who ship them to a log store (Azure Monitor, Kusto).

The shape is ``docs/schema/line.schema.json``. The keys of a line are flat. ``measured`` is flat too: each of its keys is the whole way to
one number in the fact, with dots between.
"""

from __future__ import annotations

import json

from ....core.fact import headline
from ..records.entries import entry_reasons, entry_status
from ..records.reading import num, text
from .about import layout_of, skus
from .values import values

SCHEMA = "plumbline.line/1"


def json_lines(data):
    """Return the lines as bytes, one for each fact of a loaded run folder (``data.load``), in its order."""
    sku = skus(data)
    lines = (_line(data["run"], entry, sku.get(entry["host"])) for entry in data["facts"])
    # ASCII: a lone surrogate in some tool's output would not encode as UTF-8.
    return "".join(json.dumps(line, sort_keys=True, allow_nan=False) + "\n" for line in lines).encode("ascii")


def _line(run, entry, sku):
    fact = entry["fact"]
    status, reasons = entry_status(entry), entry_reasons(entry)
    return {
        "schema": SCHEMA,
        "run_id": run["run_id"],
        "plumbline_version": text(run["plumbline_version"]),
        "host": entry["host"],
        "kind": entry["kind"],
        "name": entry["name"],
        "layout": layout_of(entry),
        "sku": sku,
        "status": status,
        "reason": headline({"status": status, "reasons": reasons}) or None,
        "started_at": text(fact.get("started_at")),
        "duration_s": num(fact.get("duration_s")),
        "measured": {".".join(value.path): value.number for value in values(fact.get("measured"))},
    }
