"""The table of models: what was sent to each node, how fast, and what was found corrupt. Standard library only."""

from __future__ import annotations

from ..format import MISSING, digits, plural, seconds, size
from ..records.entries import entry_status
from ..records.reading import get, num, texts


def model_lines(facts):
    """Return a line for every model fact among the loaded facts."""
    return [_line(entry) for entry in facts if entry["kind"] == "model"]


def _line(entry):
    context, measured = (get(entry["fact"], key) for key in ("context", "measured"))
    sent, took = num(get(measured, "transferred_bytes")), num(get(measured, "transfer_s"))
    return {
        "host": entry["host"],
        "name": entry["name"],
        "status": entry_status(entry),
        "files": digits(get(measured, "files")),
        "size": size(get(measured, "size_bytes")),
        "sent": size(sent),
        "rate": "%s/s" % size(sent / took) if sent and took else MISSING,
        "transfer": seconds(took),
        "verify": seconds(get(measured, "verify_s")),
        "corrupt": _corrupt(get(measured, "corrupt_files")),
        "source": str(get(context, "source") or MISSING),
        "manifest": str(get(context, "manifest_sha256") or "")[:12] or MISSING,
    }


def _corrupt(value):
    """Return the corrupt files, given as a list of names or as their number, as text; None for none."""
    return ", ".join(texts(value)) or (plural(int(value), "file") if num(value) else None)
