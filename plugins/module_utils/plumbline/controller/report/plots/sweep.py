"""Throughput against latency: what many requests in flight give the server, and what they cost each reader. Needs matplotlib."""

from __future__ import annotations

from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from ..format import digits
from ..serving import GOOD_SHARE, slos, within_slo
from .style import INK, MUTED, PAPER, WIDTH, clip, heading, margins

MARKERS = "osD^vPX"
# Above this ratio of the highest to the lowest throughput a linear axis hides the levels of few requests.
LOGARITHMIC = 8


def throughput_latency(layouts, palette):
    """One line a layout: total throughput against the rate of one user, each point labelled with the requests in flight.

    Every level that was measured is drawn: each of them was asserted for itself, also where a later one ended the sweep.
    """
    layouts = [item for item in layouts if item["sweep"]]
    if not layouts:
        return None
    figure = Figure(figsize=(WIDTH, 5.2))
    axes = figure.add_subplot()
    margins(figure, 0.95, 2.6)
    totals, missed, stopped = [], False, False
    for index, item in enumerate(layouts):
        users = [level["throughput_tok_s"] for level in item["sweep"]]
        rates = [level["total_throughput_tok_s"] for level in item["sweep"]]
        totals += rates
        colour, marker = palette[item["name"]], MARKERS[index % len(MARKERS)]
        stopped |= not item["usable"]
        axes.plot(users, rates, color=colour, linewidth=1.8, alpha=0.9, linestyle="-" if item["usable"] else (0, (4, 2)), zorder=2)
        for level, x, y in zip(item["sweep"], users, rates):
            hollow = within_slo(level) is False
            missed |= hollow
            fill = PAPER if hollow else colour
            axes.plot([x], [y], marker, markersize=6.5, markerfacecolor=fill, markeredgecolor=colour, markeredgewidth=1.4, zorder=3)
            text = digits(level["concurrency"]) + (", a queue" if level.get("queued") else "")
            axes.annotate(text, (x, y), xytext=(7, 5), textcoords="offset points", fontsize=9, color=colour, fontweight="bold")
        axes.plot([], [], color=colour, marker=marker, markersize=6.5, label=_label(item))
    _axes(axes, totals, max(level["throughput_tok_s"] for item in layouts for level in item["sweep"]))
    asked = ["SLO: " + bounds for bounds in slos(layouts).split("; ") if bounds]
    legend = axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.02), frameon=False, fontsize=9, labelcolor=INK, borderaxespad=0)
    legend.set_title("\n".join(clip(line, 34) for text in asked for line in text.split(", ")), prop={"size": 9})
    legend.set_alignment("left")
    subtitle = "Number at a point: requests in flight. Up and to the right is better."
    if missed:
        subtitle += " Hollow: fewer than %g %% of the answers kept the SLO." % (100 * GOOD_SHARE)
    subtitle += " Dashed: the benchmark did not pass." if stopped else ""
    heading(figure, "Throughput against latency by layout", subtitle)
    return figure, "Tokens per second of the server against tokens per second of one user, for each number of requests in flight."


def _label(item):
    lines = [clip(item["name"], 24), "up to %s" % _best(item["sweep"])]
    kept = [level for level in item["sweep"] if within_slo(level)]
    if kept:
        lines.append("within the SLO: %s" % _best(kept))
    elif any(within_slo(level) is False for level in item["sweep"]):
        lines.append("no level within the SLO")
    return "\n".join(lines)


def _best(levels):
    return digits(max(level["total_throughput_tok_s"] for level in levels), "tok/s")


def _axes(axes, totals, fastest):
    axes.set_xlabel("rate of one user, output tokens / E2E (tok/s)")
    axes.set_ylabel("total throughput (tok/s)")
    axes.set_xlim(0, 1.06 * fastest)  # room for the label of the last point
    axes.margins(y=0.12)
    if max(totals) / min(totals) > LOGARITHMIC:
        axes.set_yscale("log")
        axes.yaxis.set_major_locator(LogLocator(10, subs=(1, 2, 5)))
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:
        axes.set_ylim(bottom=0)
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _place: digits(value if value % 1 else int(value))))
    axes.tick_params(which="minor", color=MUTED)
