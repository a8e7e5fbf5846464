"""TTFT and TPOT by layout: means, ranges, and every run. Controller only: needs matplotlib."""

from __future__ import annotations

from matplotlib.ticker import MaxNLocator

from ..format import digits
from ..records.reading import get, num
from .rows import figure_of, jitter, label_rows, of_runs, rows_down
from .style import INK, MUTED, heading, margins

PANELS = (
    ("ttft_ms", "time to first token, TTFT (ms)"),
    ("tpot_ms", "time per output token after the first, TPOT (ms)"),
)


def latency(layouts, palette):
    """Two panels, TTFT and TPOT: every run, their range and their mean."""
    layouts = [item for item in layouts if any(num(get(item["summary"], metric, "mean")) for metric, _label in PANELS)]
    if not layouts:
        return None
    figure = figure_of(layouts)
    panels = figure.subplots(1, len(PANELS))
    margins(figure, 1.85, 0.3)
    figure.subplots_adjust(wspace=0.12)
    for axes, (metric, label) in zip(panels, PANELS):
        _panel(axes, layouts, palette, metric)
        axes.set_xlabel(label)
        rows_down(axes, len(layouts))
        axes.set_yticks([])
    label_rows(panels[0], layouts, palette)
    heading(
        figure,
        "TTFT and TPOT by layout",
        "Dot: one run. Band: smallest to largest run. Line and number: mean of the runs. Left is better.",
    )
    return figure, "Time to first token and time per output token, by layout, with the spread of the runs."


def _panel(axes, layouts, palette, metric):
    top = 0
    for index, item in enumerate(layouts):
        top = max(top, _row(axes, index, item, palette[item["name"]], metric))
    axes.set_xlim(0, top * 1.08 or 1)
    axes.xaxis.set_major_locator(MaxNLocator(6))


def _row(axes, index, item, colour, metric):
    """Draw one layout's row and return how far it reaches, in ms; 0 where the metric was not measured."""
    stats = item["summary"].get(metric) or {}
    centre = num(stats.get("mean"))
    if centre is None:
        axes.annotate("not measured", (0, index), xytext=(6, 0), textcoords="offset points", va="center", color=MUTED)
        return 0
    runs = of_runs(item, metric)
    spread = runs or [value for value in (num(stats.get(key)) for key in ("min", "max")) if value is not None]
    if spread:
        axes.plot([min(spread), max(spread)], [index, index], color=colour, linewidth=7, alpha=0.28, solid_capstyle="round")
    axes.plot(runs, [index + offset for offset in jitter(len(runs))], "o", color=colour, markersize=4.5, alpha=0.8)
    axes.plot([centre, centre], [index - 0.2, index + 0.2], color=INK, linewidth=1.6)
    place = {"xytext": (0, 2), "textcoords": "offset points", "ha": "center", "va": "bottom"}
    axes.annotate(digits(centre), (centre, index - 0.2), fontweight="bold", **place)
    return max([centre, *spread])
