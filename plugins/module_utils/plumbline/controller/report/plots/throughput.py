"""Throughput by layout: means, their intervals, and every run. Controller only: needs matplotlib."""

from __future__ import annotations

from ..format import mean_and_error
from ..records.reading import num
from .rows import figure_of, jitter, label_rows, of_runs
from .style import INK, PAPER, heading, margins


def throughput(layouts, palette):
    """Bars of mean throughput with the 95 % interval and a dot for every run."""
    if not layouts:
        return None
    figure = figure_of(layouts)
    axes = figure.add_subplot()
    margins(figure, 1.85, 1.35)
    top = 0
    for index, item in enumerate(layouts):
        top = max(top, _bar(axes, index, item, palette[item["name"]]))
    axes.set_xlim(0, top * 1.02 or 1)
    label_rows(axes, layouts, palette)
    axes.set_xlabel("throughput, output tokens / E2E (tok/s)")
    heading(figure, "Throughput by layout", _subtitle(layouts))
    return figure, "Mean output tokens per second of a request, by layout; longer is better."


def _bar(axes, index, item, colour):
    """Draw one layout's row and return how far it reaches, in tok/s."""
    stats = item["summary"]["throughput_tok_s"]
    mean, low, high = stats["mean"], num(stats.get("ci95_low")), num(stats.get("ci95_high"))
    known = low is not None and high is not None
    runs = of_runs(item, "throughput_tok_s")
    axes.barh(index, mean, height=0.62, color=colour, alpha=0.85, linewidth=0)
    _dots(axes, index, runs)
    if known:
        whisker = [[max(0, mean - low)], [max(0, high - mean)]]
        axes.errorbar(mean, index - 0.17, xerr=whisker, color=INK, capsize=5, elinewidth=1.4)
    far = max([mean, *runs, *([high] if high is not None else [])])
    value, half = mean_and_error(mean, max(high - mean, mean - low) if known else None)
    value += " ± %s" % half if half else ""
    axes.annotate(value, (far, index), xytext=(8, 0), textcoords="offset points", va="center", fontweight="bold")
    return far


def _dots(axes, index, runs):
    axes.plot(
        runs,
        [index + 0.13 + offset for offset in jitter(len(runs))],
        "o",
        markersize=4.5,
        markerfacecolor=PAPER,
        markeredgecolor=INK,
        markeredgewidth=0.8,
        alpha=0.95,
    )


def _subtitle(layouts):
    """Return what a row shows, and what was asked of the first layout, which is asked of all of them."""
    counts = sorted({len(item["runs"]) for item in layouts if item["runs"]})
    shown = " or ".join(str(count) for count in counts) or "unknown"
    text = "Bar: mean of %s runs. Whisker and ±: 95 %% interval of the mean. Dots: the runs." % shown
    asked = [num(layouts[0]["measured"].get(key)) for key in ("input_len_tokens", "output_len_tokens", "concurrency")]
    if all(value is not None for value in asked):
        text += " %d tokens in, %d out, concurrency %d." % tuple(asked)
    return text
