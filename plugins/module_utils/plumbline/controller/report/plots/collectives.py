"""Bandwidth and latency of a collective against message size. Controller only: needs matplotlib."""

from __future__ import annotations

from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator

from ..format import size
from ..records.reading import get, num
from .series import axes_of_sizes, drawn, end_labels, lines, scope_colour, series_of, sizes_axis
from .style import clip, heading


def bandwidth(op, collectives):
    """Bus bandwidth against message size, within and across nodes; logarithmic sizes."""
    series = series_of(collectives, lambda point: point.get("busbw_gbps"))
    if not series:
        return None
    figure, axes = axes_of_sizes()
    lines(axes, drawn(series))
    sizes_axis(axes, series)
    axes.set_ylim(0, max(max(ys) for _item, _xs, ys in series) * 1.12)
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.set_ylabel("bus bandwidth (GB/s)")
    end_labels(axes, series, False, lambda _xs, ys: ("peak", max(ys), ""))
    heading(
        figure,
        "Bandwidth of %s against message size" % clip(op, 30),
        "%sBus bandwidth as in nccl-tests; GB/s = 10⁹ bytes per second." % _how(collectives),
    )
    return figure, "Bus bandwidth of %s against message size; higher is better.%s" % (op, _of_many(series))


def collective_latency(op, collectives):
    """Median time against message size, both logarithmic, with a band from the minimum to the 90th percentile."""
    series = series_of(collectives, lambda point: get(point, "time_us", "median"))
    if not series:
        return None
    figure, axes = axes_of_sizes()
    axes.set_yscale("log")
    for item, _xs, _ys in drawn(series):
        _band(axes, item)
    lines(axes, drawn(series))
    sizes_axis(axes, series)
    axes.yaxis.set_major_locator(LogLocator(10))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _place: tick_time(value)))
    axes.set_ylabel("time of one operation")
    end_labels(axes, series, True, lambda xs, ys: ("%s:" % size(xs[0]), ys[0], "µs"))
    heading(
        figure,
        "Latency of %s against message size" % clip(op, 30),
        "%sLine: median. Band: minimum to 90th percentile." % _how(collectives),
    )
    return figure, "Median time of one %s against message size; lower is better.%s" % (op, _of_many(series))


def _of_many(series):
    """Say where not all lines are drawn; the label at the line's end has the range of all."""
    shown = len(drawn(series))
    return " Drawn are %d of %d lines, from the slowest to the fastest." % (shown, len(series)) if shown < len(series) else ""


def _band(axes, item):
    """Draw the range from the minimum to the 90th percentile at the sizes that have both."""
    band = [(point["size_bytes"], num(get(point, "time_us", "min")), num(get(point, "time_us", "p90"))) for point in item["sweep"]]
    band = [point for point in band if (point[1] or 0) > 0 and (point[2] or 0) > 0]
    if band:
        xs, low, high = zip(*band)
        axes.fill_between(xs, low, high, color=scope_colour(item["scope"]), alpha=0.12, linewidth=0)


def _how(collectives):
    """Return the backends and the tools as the start of a sentence; "" where none is named."""
    backends, tools = (sorted({str(item[key]) for item in collectives if item[key]}) for key in ("backend", "tool"))
    return (", ".join(backends) + (" by " + ", ".join(tools) if tools else "") + ". ") if backends else ""


def tick_time(microseconds):
    """Return a tick in the unit that suits it: ``10 µs``, ``1 ms``, ``10 s``."""
    for limit, unit in ((1e3, "µs"), (1e6, "ms"), (float("inf"), "s")):
        if microseconds < limit * 0.9999:
            return "%g %s" % (round(microseconds / (limit / 1e3 if limit != float("inf") else 1e6), 3), unit)
    return ""
