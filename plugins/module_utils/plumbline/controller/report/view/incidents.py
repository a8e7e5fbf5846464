"""The incidents of a run: tasks that failed, nodes that stopped answering. Standard library only."""

from __future__ import annotations

from ..format import MISSING
from ..records.reading import rows


def incident_lines(incidents):
    """Return a line for every incident; nothing in it is missing or null."""
    return [
        {
            "host": str(item.get("host") or "unknown"),
            "state": str(item.get("state") or "unknown"),
            "role": str(item.get("role") or MISSING),
            "task": str(item.get("task") or MISSING),
            "message": str(item.get("message") or "no message"),
            "at": str(item.get("at") or MISSING),
        }
        for item in rows(incidents)
    ]
