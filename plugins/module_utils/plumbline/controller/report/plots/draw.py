"""The report's plots as SVG and PNG. Controller only: needs matplotlib.

A layout has the same colour in every plot, given by its place among the run's layouts. Output is the same, byte for byte, for the same
data: no date, a fixed hash salt, the font that ships with matplotlib.
"""

from __future__ import annotations

import io
import re

import matplotlib

from ..prediction.compare import comparison
from ..serving import colour
from .collectives import bandwidth, collective_latency
from .heatmap import heatmap
from .latency import latency
from .style import PALETTE, STYLE
from .sweep import throughput_latency
from .throughput import throughput
from .token import token_time


def draw(records):
    """Return ``[{name, title, caption, svg, png}]`` of a run's :class:`Records`, bytes for ``svg`` and ``png``; None without data.

    Plots of layouts and of collectives are always among them, so that the report says which of them has nothing to show. There is a plot
    of pairs only where pairs were measured, one of throughput against latency only where there was a sweep, and one of a token's time only
    where it was foretold.
    """
    makers = [
        *_of_layouts(records.layouts),
        *_of_tokens(records),
        *_of_collectives(records.collectives),
        *_of_pairs(records.links, records.judged),
    ]
    return [_made(name, title, maker, arguments) for name, title, maker, arguments in makers]


def _of_layouts(layouts):
    """Yield ``(name, title, maker, arguments)`` of the plots of layouts; those whose benchmark did not pass are in the sweep only."""
    usable = [item for item in layouts if item["usable"]]
    palette = colours(layouts)
    yield "throughput_by_layout", "Throughput by layout", throughput, (usable, palette)
    yield "latency_by_layout", "TTFT and TPOT by layout", latency, (usable, palette)
    swept = [item for item in layouts if item["sweep"]]
    if swept:
        yield "sweep_by_layout", "Throughput against latency by layout", throughput_latency, (swept, palette)


def _of_tokens(records):
    """Yield the plot of a token's time, where one was foretold and measured."""
    compared = [item for item in comparison(records) if item["measured_ms"] and item["told"] and item["told"]["terms"]]
    if compared:
        yield "token_by_layout", "A token's time by layout", token_time, (compared, colours(records.layouts))


def _of_collectives(collectives):
    """Yield the plots of each operation: sweeps whose numbers hold, also when they missed a threshold, and no negative control."""
    drawn = [item for item in collectives if item["sound"] and not item["control"]]
    for op in sorted({item["op"] for item in collectives}) or ["all_reduce"]:
        mine = [item for item in drawn if item["op"] == op]
        yield "bandwidth_%s" % op, "Bandwidth of %s against message size" % op, bandwidth, (op, mine)
        yield "latency_%s" % op, "Latency of %s against message size" % op, collective_latency, (op, mine)


def _of_pairs(links, judged):
    """Yield the plot of the pairs of each operation; a pair that left no number is shown as such."""
    pairs = [link for link in links if not link["ports"]]
    for op in sorted({str(link["op"]) for link in pairs}):
        mine = [link for link in pairs if str(link["op"]) == op]
        yield "pairs_%s" % op, "%s between every two nodes" % op, heatmap, (op, mine, judged)


def colours(layouts):
    """Return a colour for each layout name; the seventh and later ones share grey."""
    return {item["name"]: PALETTE[colour(place)] for place, item in enumerate(layouts)}


def _made(name, title, maker, arguments):
    name = re.sub(r"[^a-z0-9_]+", "_", name.lower())
    plot = {"name": name, "title": title, "caption": None, "svg": None, "png": None}
    with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
        made = maker(*arguments)
        if made is not None:
            figure, plot["caption"] = made
            plot["svg"], plot["png"] = _bytes(figure, "svg"), _bytes(figure, "png")
    return plot


def _bytes(figure, kind):
    buffer = io.BytesIO()
    metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
    figure.savefig(buffer, format=kind, dpi=160, metadata=metadata)
    return buffer.getvalue()
