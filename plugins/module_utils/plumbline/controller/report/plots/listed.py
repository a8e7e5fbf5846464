"""Which plots a run has, and of what data. Standard library only: what is not drawn is named as well.

A layout has the same colour in every plot, given by its place among the run's layouts.
"""

from __future__ import annotations

import re

from ..prediction.compare import comparison
from ..serving import colour
from .style import PALETTE


def listed(records):
    """Return ``[(name, title, maker, arguments)]`` of a run's :class:`Records`: who draws a plot, and of what, with one list among it.

    Plots of layouts and of collectives are always among them, so that the report says which of them has nothing to show. There is a plot
    of pairs only where pairs were measured, one of throughput against latency only where there was a sweep, and one of a token's time only
    where it was foretold.
    """
    found = [
        *_of_layouts(records.layouts),
        *_of_tokens(records),
        *_of_collectives(records.collectives),
        *_of_pairs(records.links, records.judged),
    ]
    return [(_file(name), title, maker, arguments) for name, title, maker, arguments in found]


def _file(name):
    return re.sub(r"[^a-z0-9_]+", "_", name.lower())


def _of_layouts(layouts):
    """Yield ``(name, title, maker, arguments)`` of the plots of layouts; those whose benchmark did not pass are in the sweep only."""
    usable = [item for item in layouts if item["usable"]]
    palette = colours(layouts)
    yield "throughput_by_layout", "Throughput by layout", "throughput", (usable, palette)
    yield "latency_by_layout", "TTFT and TPOT by layout", "latency", (usable, palette)
    swept = [item for item in layouts if item["sweep"]]
    if swept:
        yield "sweep_by_layout", "Throughput against latency by layout", "throughput_latency", (swept, palette)


def _of_tokens(records):
    """Yield the plot of a token's time, where one was foretold and measured."""
    compared = [item for item in comparison(records) if item["measured_ms"] and item["told"] and item["told"]["terms"]]
    if compared:
        yield "token_by_layout", "A token's time by layout", "token_time", (compared, colours(records.layouts))


def _of_collectives(collectives):
    """Yield the plots of each operation: sweeps whose numbers hold, also when they missed a threshold, and no negative control."""
    drawn = [item for item in collectives if item["sound"] and not item["control"]]
    for op in sorted({item["op"] for item in collectives}) or ["all_reduce"]:
        mine = [item for item in drawn if item["op"] == op]
        yield "bandwidth_%s" % op, "Bandwidth of %s against message size" % op, "bandwidth", (op, mine)
        yield "latency_%s" % op, "Latency of %s against message size" % op, "collective_latency", (op, mine)


def _of_pairs(links, judged):
    """Yield the plot of the pairs of each operation; a pair that left no number is shown as such."""
    pairs = [link for link in links if not link["ports"]]
    for op in sorted({str(link["op"]) for link in pairs}):
        mine = [link for link in pairs if str(link["op"]) == op]
        yield "pairs_%s" % op, "%s between every two nodes" % op, "heatmap", (op, mine, judged)


def colours(layouts):
    """Return a colour for each layout name; the seventh and later ones share grey."""
    return {item["name"]: PALETTE[colour(place)] for place, item in enumerate(layouts)}
