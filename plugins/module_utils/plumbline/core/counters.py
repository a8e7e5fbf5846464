"""Counters that only grow: bytes of a port, microseconds of throttling, requests of a server."""

from __future__ import annotations


def difference(before, after):
    """Return ``{name: growth}`` for the counters in ``before``, in their own unit.

    None where a reading is missing on either side, or where the counter went back: what counts was started anew.
    """
    grown = {}
    for name, start in before.items():
        end = after.get(name)
        grown[name] = end - start if start is not None and end is not None and end >= start else None
    return grown
