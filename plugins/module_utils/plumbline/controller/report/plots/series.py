"""What the plots over message sizes share: the sweeps as lines, the axis of sizes, labels at the lines' ends. Needs matplotlib.

A series is a list of ``(record, sizes in bytes, values)``.
"""

from __future__ import annotations

import math

from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator

from ..format import digits, size
from ..records.reading import num
from .style import HALF, MUTED, PAPER, SCOPE_COLOURS, clip, margins

# Lines of one scope and tool that are told apart; a thousand are a smear, and megabytes.
MOST_LINES = 12


def series_of(collectives, value):
    """Return the series of ``value(point)`` of the sweeps with at least one point above zero."""
    found = []
    for item in collectives:
        points = [(point["size_bytes"], value(point)) for point in item["sweep"]]
        points = [(x, y) for x, y in points if (num(y) or 0) > 0]
        if points:
            found.append((item, [x for x, _y in points], [y for _x, y in points]))
    return found


def drawn(series):
    """Return the series that are drawn: of more than :data:`MOST_LINES` of a scope and tool so many, from the slowest to the fastest."""
    groups = {}
    for one in series:
        groups.setdefault(_key(one[0]), []).append(one)
    found = []
    for mine in groups.values():
        if len(mine) > MOST_LINES:
            ordered = sorted(mine, key=lambda one: one[2][-1])
            mine = [ordered[round(place * (len(ordered) - 1) / (MOST_LINES - 1))] for place in range(MOST_LINES)]
        found += mine
    return found


def axes_of_sizes():
    """Return ``(figure, axes)`` with room for labels at the right."""
    figure = Figure(figsize=(HALF, 4.0))
    axes = figure.add_subplot()
    margins(figure, 0.8, 1.55)
    return figure, axes


def sizes_axis(axes, series):
    """Let the x axis be message sizes, logarithmic, over all sweeps."""
    sizes = sorted({x for _item, xs, _ys in series for x in xs})
    axes.set_xscale("log", base=2)
    # Every power of 16 or so: 8 B, 128 B, 2 KiB, 32 KiB, 512 KiB, 8 MiB …
    ticks = [8 * 16**power for power in range(12)]
    ticks = [tick for tick in ticks if sizes[0] <= tick <= sizes[-1]]
    axes.xaxis.set_major_locator(FixedLocator(ticks if len(ticks) > 1 else sizes))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _place: size(float(value))))
    axes.set_xlim(sizes[0] / 1.4, sizes[-1] * 1.4)
    axes.set_xlabel("message size")


def scope_colour(scope):
    """Return the colour of a scope: within nodes, across them, or anything else."""
    return SCOPE_COLOURS.get(scope, MUTED)


def lines(axes, series):
    """Draw the sweeps: colour and marker by scope; a second tool is dashed and its markers are hollow."""
    tools = sorted({_key(item)[1] for item, _xs, _ys in series}, key=lambda tool: (tool != "torch", tool))
    for item, xs, ys in series:
        colour = scope_colour(item["scope"])
        marker = {"within": "o", "across": "s"}.get(item["scope"], "^")
        first = _key(item)[1] == tools[0]
        axes.plot(
            xs, ys, color=colour, marker=marker, markersize=4, linewidth=1.8 if first else 1.4, alpha=0.9,
            linestyle="-" if first else (0, (4, 2)), markerfacecolor=colour if first else PAPER,
        )  # fmt: skip


def _key(item):
    """Return what has a label of its own: a scope and a tool."""
    return item["scope"], str(item["tool"] or "")


def end_labels(axes, series, log, value):
    """Label each scope and tool once, at the end of its line, and keep the labels apart.

    ``value(xs, ys)`` returns ``(prefix, number, unit)`` of a line; ``log`` says whether the y axis is logarithmic.
    """
    ends = {}
    for item, _xs, ys in series:
        ends.setdefault(_key(item), ys[-1])
    wanted = sorted((_fraction(axes, end, log), key) for key, end in ends.items())
    for place, key in _apart(wanted):
        axes.annotate(
            _who(key, series, value),
            (1, place),
            xycoords="axes fraction",
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color=scope_colour(key[0]),
            fontweight="bold",
            linespacing=1.1,
        )


def _fraction(axes, value, log):
    """Return how high a value lies in the axes, from 0 to 1."""
    low, high = axes.get_ylim()
    if log:
        return (math.log10(value) - math.log10(low)) / (math.log10(high) - math.log10(low))
    return (value - low) / (high - low)


def _apart(wanted):
    """Return ``[(place, key)]`` with room for a label at each place, none of them above the axes."""
    # Of three lines (four with the tool), at 9 points in axes of 2.5 inches.
    gap, free, highest = (0.25, 0.1, 0.93) if len(wanted) < 3 else (0.29, 0.06, 0.97)
    settled = []
    for place, key in wanted:
        place = max(place, free)
        settled.append((place, key))
        free = place + gap
    excess = max(0.0, settled[-1][0] - highest) if settled else 0.0
    return [(place - excess, key) for place, key in settled]


def _who(key, series, value):
    """Return the label of one scope and tool: what it is, how many lines it has, and the range of ``value(xs, ys)`` over them."""
    mine = [(item, value(xs, ys)) for item, xs, ys in series if _key(item) == key]
    scope, tool = key
    item = mine[0][0]
    label = [{"within": "within a node", "across": "across nodes"}.get(scope, scope or item["name"])]
    if tool and len({_key(other)[1] for other, _xs, _ys in series}) > 1:
        label.append(clip(tool, 20))
    if item["ranks"]:
        label.append("%d ranks" % item["ranks"])
    if len(mine) > 1:
        label[-1] += ", %d nodes" % len(mine)
    prefix, _number, unit = mine[0][1]
    found = sorted({digits(number) for _item, (_prefix, number, _unit) in mine}, key=lambda text: float(text.replace(",", "")))
    label.append(("%s %s %s" % (prefix, "–".join([found[0], found[-1]][: len(found)]), unit)).strip())
    return "\n".join(label)
