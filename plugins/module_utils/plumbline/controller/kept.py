"""What the run that is going on has kept so far: what every decision on the controller is made from.

The callback keeps each fact as a file the moment it comes and names the folder in the environment. Whoever decides
something (which nodes serve, which node is behind slow pairs) reads these files, as the report does at the end, so that
both see the same.
"""

from __future__ import annotations

import os

from . import place, run_folder
from .report import data as run_data
from .report.records.entries import entry_status
from .report.records.reading import get

# Set by the callback: the run's folder, or in check mode one that goes away with the run.
FOLDER = "PLUMBLINE_KEPT_DIR"


class NothingKeeps(Exception):
    """No folder is named: the callback is not loaded, and nothing that was measured is kept; or something could not be kept."""


def load():
    """Return the run's data so far, as :func:`report.data.load` does; None where nothing was kept yet.

    Raises :class:`NothingKeeps`, and ``report.data.SchemasMissing`` where docs/schema is not there.
    """
    folder = os.environ.get(FOLDER)
    if not folder:
        raise NothingKeeps("%s is not set, so no fact is kept: the plumbline callback sets it. %s." % (FOLDER, place.CALLBACK))
    lost = run_folder.not_kept()
    if lost:
        raise NothingKeeps("what was measured could not be kept, so nothing can be decided from it: %s" % "; ".join(lost))
    try:
        return run_data.load(folder)
    except run_data.NotARunFolder:
        return None


def entries(kind):
    """Return the kept facts of one kind that fit their schema, as ``{host, kind, name, file, fact, problems}``."""
    data = load()
    return [entry for entry in data["facts"] if entry["kind"] == kind and not entry["problems"]] if data else []


def facts_of(kind, name, hosts):
    """Return ``{host: fact}`` of the kept facts of one kind and name, in the order of ``hosts``."""
    found = {entry["host"]: entry["fact"] for entry in entries(kind) if entry["name"] == name}
    return {host: found[host] for host in hosts if host in found}


def for_hosts(facts):
    """Return ``(host, fact)`` pairs in the shape in which an action plugin hands facts of several hosts to the callback."""
    found = {}
    for host, fact in facts:
        found.setdefault(host, []).append(fact)
    return {"changed": False, "plumbline_facts": found}


def failed(entry):
    """Tell whether a kept fact is failed."""
    return entry_status(entry) == "failed"


def is_control(entry):
    """Tell whether a kept fact is a negative control, which says nothing about the fabric."""
    return bool(get(entry["fact"], "context", "control"))
