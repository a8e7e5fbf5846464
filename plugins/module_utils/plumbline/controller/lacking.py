"""Packages that the report can do without, and what is then missing from it. Standard library only."""

from __future__ import annotations

import importlib.util

from .place import SETUP

# Package -> what the report calls what it is for, and what becomes of that without it.
WITHOUT = {
    "matplotlib": ("plots", "none are drawn; the tables have their numbers"),
    "jsonschema": ("schemas", "facts are checked against them by plain code, which does not say where a fact breaks its schema"),
}


def lacks(name):
    """Return whether the controller's Python has no package of this name; nothing is imported."""
    try:
        return importlib.util.find_spec(name) is None
    except (ImportError, ValueError):
        return True


def lines():
    """Return ``[(what, sentence)]`` of what the report goes without, and what brings it."""
    return [
        (what, "%s. %s is missing: `%s` installs it" % (then, name, SETUP)) for name, (what, then) in sorted(WITHOUT.items()) if lacks(name)
    ]
