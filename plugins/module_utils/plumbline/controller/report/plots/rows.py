"""What the plots with a row a layout share: the figure, the rows' names, dots that don't cover each other. Needs matplotlib."""

from __future__ import annotations

from matplotlib.figure import Figure

from ..records.reading import num
from .style import MUTED, WIDTH, clip


def figure_of(layouts):
    """Return a figure with room for a row a layout."""
    return Figure(figsize=(WIDTH, 1.55 + 0.72 * len(layouts)))


def label_rows(axes, layouts, palette):
    """Name the rows at the left: the layout in its colour, and below it how many ranks on how many nodes."""
    axes.set_yticks([])
    for index, item in enumerate(layouts):
        place = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "ha": "right"}
        name = clip(item["name"], 18)
        axes.annotate(name, (0, index), xytext=(-10, 1), va="bottom", fontweight="bold", color=palette[item["name"]], **place)
        axes.annotate(_ranks(item), (0, index), xytext=(-10, -2), va="top", fontsize=8.5, color=MUTED, **place)
    rows_down(axes, len(layouts))
    axes.spines["left"].set_color(MUTED)


def _ranks(item):
    parts = ["%s %d" % (key.upper(), item[key]) for key in ("tp", "pp") if item[key]]
    if item["nodes"]:
        parts.append("1 node" if item["nodes"] == 1 else "%d nodes" % item["nodes"])
    return ", ".join(parts)


def rows_down(axes, count):
    """Let the rows go down from the first one, without lines between them."""
    axes.set_ylim(count - 0.45, -0.55)
    axes.grid(False, axis="y")


def jitter(count):
    """Return offsets that keep dots of one row apart, the same every time."""
    return [((index * 2) % 5 - 2) * 0.04 for index in range(count)]


def of_runs(item, metric):
    """Return what a layout's runs measured of a metric, without the runs that did not."""
    return [value for value in (num(run.get(metric)) for run in item["runs"]) if value is not None]
