"""Which files for other programs are wanted, and what is in them."""

from __future__ import annotations

import os

from .json_lines import json_lines
from .prometheus import prometheus

SUFFIXES = {"jsonl": ".jsonl", "prometheus": ".prom"}


def export_paths(arguments):
    """Return ``{format: path}`` of the exports that the arguments ask for; raises ValueError for a name that its reader would not take.

    A suffix of their own also keeps them off the files of the run and of the report.
    """
    wanted = {name: os.path.expanduser(arguments[name].strip()) for name in SUFFIXES if (arguments.get(name) or "").strip()}
    for name, path in wanted.items():
        if not path.endswith(SUFFIXES[name]):
            raise ValueError("report_%s is %s, expected a file whose name ends in %s" % (name, path, SUFFIXES[name]))
    return wanted


def exports(data, found, wanted):
    """Return ``{path: bytes}`` of the wanted exports, from a loaded run folder and its verdicts."""
    makers = {"jsonl": lambda: json_lines(data), "prometheus": lambda: prometheus(data, found)}
    return {path: makers[name]() for name, path in wanted.items()}


def expect_folder(folder):
    """Raise ValueError where there is no such folder: one that nobody reads must not be made of a misspelt name."""
    if not os.path.isdir(folder):
        raise ValueError(
            "there is no folder %s for the export, expected one that its reader looks into: make it, or correct the path" % folder
        )
