"""Packages that the report can do without, and what is then missing from it. Standard library only."""

from __future__ import annotations

import importlib.util

from .place import SETUP

# Package -> what the report calls what it is for, and what becomes of that without it.
WITHOUT = {
    "matplotlib": ("plots", "none are drawn; the tables have their numbers"),
    "jsonschema": ("schemas", "facts are checked against them by plain code, which does not say where a fact breaks its schema"),
}


# Package -> (what a new enough version brings along, since which version): there without it, it is too old.
_BRINGS = {"jsonschema": ("referencing", "4.18")}


def lacks(name):
    """Return whether the controller's Python has no package of this name; nothing is imported."""
    try:
        return importlib.util.find_spec(name) is None
    except (ImportError, ValueError):
        return True


def lines():
    """Return ``[(what, sentence)]`` of what the report goes without, and what brings it."""
    found = [(what, then, _why(name)) for name, (what, then) in sorted(WITHOUT.items())]
    return [(what, "%s. %s" % (then, why)) for what, then, why in found if why]


def _why(name):
    """Return why a package does not do, and what brings one that does; ``""`` where it does."""
    if lacks(name):
        return "%s is missing: `%s` installs it" % (name, SETUP)
    brought, since = _BRINGS.get(name, (None, None))
    if brought and lacks(brought):
        return "%s is too old (%s and later bring %s): `%s` installs a newer one" % (name, since, brought, SETUP)
    return ""
