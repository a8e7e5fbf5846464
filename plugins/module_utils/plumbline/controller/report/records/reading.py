"""Reads values that may be odd.

Facts come from files: a key may be missing, null, of the wrong type or not finite. Everything here answers ``None`` or nothing
then, so that the rest of the report still renders and says what is missing. Standard library only.
"""

from __future__ import annotations

import math


def num(value):
    """Return ``value`` if it is a finite number (not a bool), else None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value if math.isfinite(value) else None


def whole(value):
    """Return ``value`` as an int if it is a whole number, else None."""
    value = num(value)
    return int(value) if value is not None and value == int(value) else None


def get(value, *path):
    """Return the value at ``path`` in nested dictionaries, or None."""
    for key in path:
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


def plain(value):
    """Return ``value`` if it is a dictionary, else an empty one."""
    return value if isinstance(value, dict) else {}


def text(value):
    """Return ``value`` if it is a string (the empty one too), else None."""
    return value if isinstance(value, str) else None


def rows(value):
    """Return the dictionaries in a list; nothing for anything else."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def texts(value):
    """Return the non-empty strings in a list (or the one string) as a list."""
    if isinstance(value, str):
        value = [value]
    return [item for item in value if isinstance(item, str) and item] if isinstance(value, list) else []
