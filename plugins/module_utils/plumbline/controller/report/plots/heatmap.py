"""The bandwidth between every two nodes, as a map. Controller only: needs matplotlib."""

from __future__ import annotations

from typing import NamedTuple

import matplotlib
import matplotlib.cm
import matplotlib.colors
import matplotlib.patches
from matplotlib.figure import Figure

from ....core.fact import PASSING
from ...suspect import MOSTLY, SUSPECT
from ..format import digits, size
from .style import GRID, INK, PAPER, clip, heading

# Inches: left of the map (names), beside it (the colour bar), above it (the title).
LEFT, RIGHT, ABOVE = 1.35, 1.25, 1.0
# Up to so many nodes a cell has its number; up to so many the axes' labels are large, and every node has one.
NUMBERED, LABELLED = 16, 32
# The part of the colour map that the cells use: its ends are too near to ink and paper.
DARKEST, SPAN = 0.08, 0.9
FRAME = "#ffb000"


class Map(NamedTuple):
    """What is drawn: the nodes in order, the pairs by their two names sorted, the highest bandwidth, and who stands out as what."""

    nodes: list
    pairs: dict
    top: float
    marks: dict


def heatmap(op, links, judged):
    """Nodes by nodes, the bandwidth of each pair as a colour and, up to 16 nodes, as a number; suspects are marked.

    The scale starts at zero; darker is slower, in an order that every colour vision sees (cividis: Nuñez et al., 2018,
    doi:10.1371/journal.pone.0199239).
    """
    known = [link["bandwidth_gbps"] for link in links if link["bandwidth_gbps"]]
    if not known:
        return None
    shown = Map(_nodes_of(links, judged), {tuple(sorted(link["nodes"])): link for link in links}, max(known), _marks(judged))
    figure, axes, bar_axes = _canvas(len(shown.nodes))
    _cells(axes, shown)
    _bare(axes, len(shown.nodes))
    _labels(axes, shown)
    _frames(axes, shown)
    _scale(figure, bar_axes, shown.top)
    suspects = sorted(node for node, mark in shown.marks.items() if mark == SUSPECT)
    heading(figure, "Bandwidth between every two nodes", _subtitle(op, links, suspects))
    named = " Suspect: %s." % ", ".join(suspects) if suspects else " No node stands out." if judged else ""
    return figure, "Bus bandwidth of %s between every two nodes; darker is slower.%s" % (op, named)


def _nodes_of(links, judged):
    """Return the names in the order in which the nodes took part, then any other that a pair names."""
    names = [name for item in judged for name in item["nodes"]] + sorted({name for link in links for name in link["nodes"]})
    return list(dict.fromkeys(names))


def _marks(judged):
    """Return what stands out, by node; suspect, where a node is both at different ports."""
    marks = {item["node"]: MOSTLY for item in judged if item["verdict"] == MOSTLY}
    return {**marks, **{item["node"]: SUSPECT for item in judged if item["verdict"] == SUSPECT}}


def _canvas(count):
    """Return ``(figure, axes of the map, axes of the colour bar)``: a square map, all of it and of its labels in the picture."""
    side = min(6.4, max(2.7, 0.7 * count))
    low = 0.95 if _slanted(count) else 0.5
    height = side + low + ABOVE
    figure = Figure(figsize=(max(side + LEFT + RIGHT, 5.2), height))
    width = figure.get_figwidth()
    axes = figure.add_axes((LEFT / width, low / height, side / width, side / height))
    return figure, axes, ((LEFT + side + 0.22) / width, low / height, 0.16 / width, side / height)


def _slanted(count):
    return count > 4


def _cells(axes, shown):
    """Draw a cell for each pair, both ways; one without a number is hatched."""
    shades, count = matplotlib.colormaps["cividis"], len(shown.nodes)
    for row, one in enumerate(shown.nodes):
        for column, two in enumerate(shown.nodes):
            link = shown.pairs.get(tuple(sorted((one, two))))
            if link is None:
                continue
            value = link["bandwidth_gbps"] if link["status"] in PASSING else None
            shade = PAPER if value is None else matplotlib.colors.to_hex(shades(DARKEST + SPAN * value / shown.top))
            axes.add_patch(_cell(column, row, shade, hatch=value is None))
            if count <= NUMBERED:
                text = "none" if value is None else digits(value)
                ink = "#111111" if value is None or value / shown.top > 0.55 else "#fafafa"
                axes.text(column, row, text, ha="center", va="center", fontsize=9 if count <= 8 else 6.5, color=ink)


def _cell(column, row, shade, hatch):
    return matplotlib.patches.Rectangle(
        (column - 0.5, row - 0.5), 1, 1, facecolor=shade, edgecolor=GRID if hatch else PAPER, linewidth=1, hatch="///" if hatch else None
    )


def _bare(axes, count):
    """Leave nothing of the axes but the cells, the first row at the top."""
    axes.set_xlim(-0.5, count - 0.5)
    axes.set_ylim(count - 0.5, -0.5)
    axes.set_aspect("equal")
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0)


def _labels(axes, shown):
    """Name the nodes on both axes: every one that is marked, in bold, and of the others as many as are legible beside it."""
    nodes, count = shown.nodes, len(shown.nodes)
    step = max(1, -(-count // LABELLED))
    marked = [nodes.index(name) for name in shown.marks if name in nodes]
    named = sorted({index for index in range(0, count, step) if all(abs(index - other) >= step for other in marked)} | set(marked))
    slant = {"rotation": 45, "ha": "right"} if _slanted(count) else {}
    axes.set_xticks(named, [clip(nodes[index], 12) for index in named], **slant)
    axes.set_yticks(named, [_marked(nodes[index], shown.marks) for index in named])
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        for label, index in zip(labels, named):
            label.set_fontsize(9 if count <= NUMBERED else 7)
            if nodes[index] in shown.marks:
                label.set_fontweight("bold")


def _marked(name, marks):
    return clip(name, 14) + {SUSPECT: "\nsuspect", MOSTLY: "\nslow with most"}.get(marks.get(name), "")


def _frames(axes, shown):
    """Frame the row and the column of every suspect."""
    count = len(shown.nodes)
    for place, node in enumerate(shown.nodes):
        if shown.marks.get(node) != SUSPECT:
            continue
        # Two frames, dark on light: one of them shows on every shade.
        for corner, extent in (((-0.5, place - 0.5), (count, 1)), ((place - 0.5, -0.5), (1, count))):
            for colour, thick in ((INK, 3.4), (FRAME, 1.6)):
                axes.add_patch(_frame(corner, extent, colour, thick))


def _frame(corner, extent, colour, thick):
    return matplotlib.patches.Rectangle(corner, *extent, fill=False, edgecolor=colour, linewidth=thick, clip_on=False, zorder=3)


def _scale(figure, place, top):
    """Draw the colour bar beside the map, from zero to the highest bandwidth."""
    shades = matplotlib.colormaps["cividis"]
    used = matplotlib.colors.ListedColormap([shades(DARKEST + SPAN * step / 255) for step in range(256)])
    scale = matplotlib.cm.ScalarMappable(matplotlib.colors.Normalize(0, top), used)
    bar = figure.colorbar(scale, cax=figure.add_axes(place))
    bar.outline.set_visible(False)
    bar.set_label("bus bandwidth (GB/s)", fontsize=9)
    bar.ax.tick_params(labelsize=8.5)


def _subtitle(op, links, suspects):
    sizes = sorted({link["size_bytes"] for link in links if link["size_bytes"]})
    text = "%s at %s." % (clip(op, 20), " or ".join(size(item) for item in sizes)) if sizes else ""
    return text + (" Framed: slow with every other node." if suspects else "")
