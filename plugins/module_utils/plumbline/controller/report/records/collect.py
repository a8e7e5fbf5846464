"""All records of a run, built once and handed to everything that makes the report. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass

from .collectives import collectives
from .layouts import layouts
from .links import judged_nodes, links
from .reduces import reduces


@dataclass(frozen=True)
class Records:
    """A loaded run folder and its records: what verdicts, findings, plots and the view are made of."""

    data: dict
    layouts: list
    collectives: list
    links: list
    judged: list
    reduces: list


def collect(data):
    """Return the :class:`Records` of a run folder; ``data`` is what data.py's ``load`` returns."""
    return Records(data, layouts(data), collectives(data), links(data), judged_nodes(data), reduces(data))
