"""The report's plots as SVG and PNG. Controller only: needs matplotlib.

A layout has the same colour in every plot, given by its place among the run's layouts. Output is the same, byte for byte, for the same
data: no date, a fixed hash salt, the font that ships with matplotlib.
"""

from __future__ import annotations

import io
import math
import re

import matplotlib
import matplotlib.cm
import matplotlib.colors
import matplotlib.patches

matplotlib.use("Agg")

from matplotlib.figure import Figure  # noqa: E402
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator  # noqa: E402

from ....core.fact import PASSING  # noqa: E402
from ..format import digits, mean_and_error, size  # noqa: E402
from ..records import get, num  # noqa: E402
from .style import GRID, HALF, INK, MUTED, PALETTE, PAPER, SCOPE_COLOURS, STYLE, WIDTH, clip, heading, margins  # noqa: E402
from .sweep import throughput_latency  # noqa: E402


def colours(layouts):
    """Return a colour for each layout name; the eighth and later ones share grey."""
    return {item["name"]: PALETTE[min(index, len(PALETTE) - 1)] for index, item in enumerate(layouts)}


def draw(layouts, collectives, links=(), judged=()):
    """Return ``[{name, title, caption, svg, png}]``, bytes for ``svg`` and ``png``; None when there is no data.

    The arguments are records of ``report.records``. A collective is drawn when its numbers hold, also when they missed a
    threshold, and no negative control is; a pair that
    left no number is shown as such. There is a plot of pairs only where pairs were measured, and one of throughput against latency
    only where there was a sweep.
    """
    usable = [item for item in layouts if item["usable"]]
    palette = colours(layouts)
    ops = sorted({item["op"] for item in collectives}) or ["all_reduce"]
    makers = [
        ("throughput_by_layout", "Throughput by layout", throughput, (usable, palette)),
        ("latency_by_layout", "TTFT and TPOT by layout", latency, (usable, palette)),
    ]
    swept = [item for item in layouts if item["sweep"]]
    if swept:
        makers.append(("sweep_by_layout", "Throughput against latency by layout", throughput_latency, (swept, palette)))
    drawn = [item for item in collectives if item["sound"] and not item["control"]]
    for op in ops:
        mine = [item for item in drawn if item["op"] == op]
        makers.append(("bandwidth_%s" % op, "Bandwidth of %s against message size" % op, bandwidth, (op, mine)))
        makers.append(("latency_%s" % op, "Latency of %s against message size" % op, collective_latency, (op, mine)))
    pairs = [link for link in links if not link["ports"]]
    for op in sorted({str(link["op"]) for link in pairs}):
        mine = [link for link in pairs if str(link["op"]) == op]
        makers.append(("pairs_%s" % op, "%s between every two nodes" % op, heatmap, (op, mine, judged)))
    found = []
    for name, title, maker, arguments in makers:
        name = re.sub(r"[^a-z0-9_]+", "_", name.lower())
        with matplotlib.rc_context({**STYLE, "svg.hashsalt": name}):
            made = maker(*arguments)
            plot = {"name": name, "title": title, "caption": None, "svg": None, "png": None}
            if made is not None:
                figure, plot["caption"] = made
                plot["svg"], plot["png"] = _bytes(figure, "svg"), _bytes(figure, "png")
        found.append(plot)
    return found


def _bytes(figure, kind):
    buffer = io.BytesIO()
    metadata = {"Date": None, "Creator": None} if kind == "svg" else {"Software": None}
    figure.savefig(buffer, format=kind, dpi=160, metadata=metadata)
    return buffer.getvalue()


def _rows(layouts):
    labels = []
    for item in layouts:
        parts = ["%s %d" % (key.upper(), item[key]) for key in ("tp", "pp") if item[key]]
        if item["nodes"]:
            parts.append("1 node" if item["nodes"] == 1 else "%d nodes" % item["nodes"])
        labels.append((clip(item["name"], 18), ", ".join(parts)))
    return labels


def _label_rows(axes, layouts, palette):
    axes.set_yticks([])
    for index, (item, (name, detail)) in enumerate(zip(layouts, _rows(layouts))):
        place = {"xycoords": ("axes fraction", "data"), "textcoords": "offset points", "ha": "right"}
        axes.annotate(name, (0, index), xytext=(-10, 1), va="bottom", fontweight="bold", color=palette[item["name"]], **place)
        axes.annotate(detail, (0, index), xytext=(-10, -2), va="top", fontsize=8.5, color=MUTED, **place)
    axes.set_ylim(len(layouts) - 0.45, -0.55)
    axes.grid(False, axis="y")
    axes.spines["left"].set_color(MUTED)


def _jitter(count):
    """Return offsets that keep dots of one row apart, the same every time."""
    return [((index * 2) % 5 - 2) * 0.04 for index in range(count)]


def throughput(layouts, palette):
    """Bars of mean throughput with the 95 % interval and a dot for every run."""
    if not layouts:
        return None
    figure = Figure(figsize=(WIDTH, 1.55 + 0.72 * len(layouts)))
    axes = figure.add_subplot()
    margins(figure, 1.85, 1.35)
    top = 0
    for index, item in enumerate(layouts):
        stats = item["summary"]["throughput_tok_s"]
        low, high = num(stats.get("ci95_low")), num(stats.get("ci95_high"))
        runs = [num(run.get("throughput_tok_s")) for run in item["runs"]]
        runs = [value for value in runs if value is not None]
        axes.barh(index, stats["mean"], height=0.62, color=palette[item["name"]], alpha=0.85, linewidth=0)
        axes.plot(
            runs,
            [index + 0.13 + offset for offset in _jitter(len(runs))],
            "o",
            markersize=4.5,
            markerfacecolor=PAPER,
            markeredgecolor=INK,
            markeredgewidth=0.8,
            alpha=0.95,
        )
        if low is not None and high is not None:
            axes.errorbar(
                stats["mean"],
                index - 0.17,
                xerr=[[max(0, stats["mean"] - low)], [max(0, high - stats["mean"])]],
                color=INK,
                capsize=5,
                elinewidth=1.4,
            )
        far = max([stats["mean"], *runs, *([high] if high is not None else [])])
        top = max(top, far)
        known = low is not None and high is not None
        value, half = mean_and_error(stats["mean"], max(high - stats["mean"], stats["mean"] - low) if known else None)
        value += " ± %s" % half if half else ""
        axes.annotate(value, (far, index), xytext=(8, 0), textcoords="offset points", va="center", fontweight="bold")
    axes.set_xlim(0, top * 1.02 or 1)
    _label_rows(axes, layouts, palette)
    axes.set_xlabel("throughput, output tokens / E2E (tok/s)")
    counts = sorted({len(item["runs"]) for item in layouts if item["runs"]})
    shown = " or ".join(str(count) for count in counts) or "unknown"
    first = layouts[0]["measured"]
    subtitle = "Bar: mean of %s runs. Whisker and ±: 95 %% interval of the mean. Dots: the runs." % shown
    asked = [num(first.get(key)) for key in ("input_len_tokens", "output_len_tokens", "concurrency")]
    if all(value is not None for value in asked):
        subtitle += " %d tokens in, %d out, concurrency %d." % tuple(asked)
    heading(figure, "Throughput by layout", subtitle)
    return figure, "Mean output tokens per second of a request, by layout; longer is better."


def latency(layouts, palette):
    """Two panels, TTFT and TPOT: every run, their range and their mean."""
    layouts = [item for item in layouts if any(num(get(item["summary"], key, "mean")) for key in ("ttft_ms", "tpot_ms"))]
    if not layouts:
        return None
    figure = Figure(figsize=(WIDTH, 1.55 + 0.72 * len(layouts)))
    panels = figure.subplots(1, 2)
    margins(figure, 1.85, 0.3)
    figure.subplots_adjust(wspace=0.12)
    for axes, metric, label in (
        (panels[0], "ttft_ms", "time to first token, TTFT (ms)"),
        (panels[1], "tpot_ms", "time per output token after the first, TPOT (ms)"),
    ):
        top = 0
        for index, item in enumerate(layouts):
            stats = item["summary"].get(metric) or {}
            centre = num(stats.get("mean"))
            runs = [value for value in (num(run.get(metric)) for run in item["runs"]) if value is not None]
            spread = runs or [value for value in (num(stats.get(key)) for key in ("min", "max")) if value is not None]
            if centre is None:
                axes.annotate("not measured", (0, index), xytext=(6, 0), textcoords="offset points", va="center", color=MUTED)
                continue
            colour = palette[item["name"]]
            if spread:
                axes.plot(
                    [min(spread), max(spread)],
                    [index, index],
                    color=colour,
                    linewidth=7,
                    alpha=0.28,
                    solid_capstyle="round",
                )
            axes.plot(runs, [index + offset for offset in _jitter(len(runs))], "o", color=colour, markersize=4.5, alpha=0.8)
            axes.plot([centre, centre], [index - 0.2, index + 0.2], color=INK, linewidth=1.6)
            top = max([top, centre, *spread])
            axes.annotate(
                digits(centre),
                (centre, index - 0.2),
                xytext=(0, 2),
                textcoords="offset points",
                ha="center",
                va="bottom",
                fontweight="bold",
            )
        axes.set_xlim(0, top * 1.08 or 1)
        axes.xaxis.set_major_locator(MaxNLocator(6))
        axes.set_xlabel(label)
        axes.set_ylim(len(layouts) - 0.45, -0.55)
        axes.grid(False, axis="y")
        axes.set_yticks([])
    _label_rows(panels[0], layouts, palette)
    heading(
        figure,
        "TTFT and TPOT by layout",
        "Dot: one run. Band: smallest to largest run. Line and number: mean of the runs. Left is better.",
    )
    return figure, "Time to first token and time per output token, by layout, with the spread of the runs."


def _series(collectives, value):
    """Return ``[(record, sizes, values)]`` of the sweeps with at least one point."""
    found = []
    for item in collectives:
        points = [(point["size_bytes"], value(point)) for point in item["sweep"]]
        points = [(x, y) for x, y in points if (num(y) or 0) > 0]
        if points:
            found.append((item, [x for x, _y in points], [y for _x, y in points]))
    return found


def _sizes_axis(axes, series):
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


def _key(item):
    return item["scope"], str(item["tool"] or "")


def _who(key, series, value):
    """Return the label of one scope and tool: what it is, how many lines it has, and the range of ``value(ys)`` over them."""
    mine = [(item, value(xs, ys)) for item, xs, ys in series if _key(item) == key]
    scope, tool = key
    item = mine[0][0]
    lines = [{"within": "within a node", "across": "across nodes"}.get(scope, scope or item["name"])]
    if tool and len({_key(other)[1] for other, _xs, _ys in series}) > 1:
        lines.append(clip(tool, 20))
    if item["ranks"]:
        lines.append("%d ranks" % item["ranks"])
    if len(mine) > 1:
        lines[-1] += ", %d nodes" % len(mine)
    prefix, unit = mine[0][1][0], mine[0][1][2]
    found = sorted({digits(number) for _item, (_prefix, number, _unit) in mine}, key=lambda text: float(text.replace(",", "")))
    lines.append(("%s %s %s" % (prefix, "–".join([found[0], found[-1]][: len(found)]), unit)).strip())
    return "\n".join(lines)


def _end_labels(axes, series, log, value):
    """Label each scope and tool once, at the end of its line, and keep the labels apart."""
    wanted = {}
    for item, xs, ys in series:
        wanted.setdefault(_key(item), (item, xs, ys))
    low, high = axes.get_ylim()

    def fraction(value):
        if log:
            return (math.log10(value) - math.log10(low)) / (math.log10(high) - math.log10(low))
        return (value - low) / (high - low)

    places = sorted((fraction(ys[-1]), key) for key, (_item, _xs, ys) in wanted.items())
    # Of three lines (four with the tool), at 9 points in axes of 2.5 inches.
    gap, free = (0.25, 0.1) if len(wanted) < 3 else (0.29, 0.06)
    settled = []
    for place, key in places:
        place = max(place, free)
        settled.append((place, key))
        free = place + gap
    excess = max(0.0, settled[-1][0] - (0.93 if len(wanted) < 3 else 0.97)) if settled else 0.0
    for place, key in settled:
        axes.annotate(
            _who(key, series, value),
            (1, place - excess),
            xycoords="axes fraction",
            xytext=(8, 0),
            textcoords="offset points",
            va="center",
            fontsize=9,
            color=SCOPE_COLOURS.get(key[0], MUTED),
            fontweight="bold",
            linespacing=1.1,
        )


def _lines(axes, series):
    """Draw the sweeps: colour and marker by scope; a second tool is dashed and its markers are hollow."""
    tools = sorted({_key(item)[1] for item, _xs, _ys in series}, key=lambda tool: (tool != "torch", tool))
    for item, xs, ys in series:
        colour = SCOPE_COLOURS.get(item["scope"], MUTED)
        marker = {"within": "o", "across": "s"}.get(item["scope"], "^")
        first = _key(item)[1] == tools[0]
        axes.plot(
            xs, ys, color=colour, marker=marker, markersize=4, linewidth=1.8 if first else 1.4, alpha=0.9,
            linestyle="-" if first else (0, (4, 2)), markerfacecolor=colour if first else PAPER,
        )  # fmt: skip


def _how(collectives):
    found = sorted({str(item["backend"]) for item in collectives if item["backend"]})
    tools = sorted({str(item["tool"]) for item in collectives if item["tool"]})
    return (", ".join(found) + (" by " + ", ".join(tools) if tools else "") + ". ") if found else ""


def bandwidth(op, collectives):
    """Bus bandwidth against message size, within and across nodes; logarithmic sizes."""
    series = _series(collectives, lambda point: point.get("busbw_gbps"))
    if not series:
        return None
    figure = Figure(figsize=(HALF, 4.0))
    axes = figure.add_subplot()
    margins(figure, 0.8, 1.55)
    _lines(axes, series)
    _sizes_axis(axes, series)
    axes.set_ylim(0, max(max(ys) for _item, _xs, ys in series) * 1.12)
    axes.yaxis.set_major_locator(MaxNLocator(6))
    axes.set_ylabel("bus bandwidth (GB/s)")
    _end_labels(axes, series, False, lambda _xs, ys: ("peak", max(ys), ""))
    heading(
        figure,
        "Bandwidth of %s against message size" % clip(op, 30),
        "%sBus bandwidth as in nccl-tests; GB/s = 10⁹ bytes per second." % _how(collectives),
    )
    return figure, "Bus bandwidth of %s against message size; higher is better." % op


def collective_latency(op, collectives):
    """Median time against message size, both logarithmic, with a band from the minimum to the 90th percentile."""
    series = _series(collectives, lambda point: get(point, "time_us", "median"))
    if not series:
        return None
    figure = Figure(figsize=(HALF, 4.0))
    axes = figure.add_subplot()
    margins(figure, 0.8, 1.55)
    axes.set_yscale("log")
    for item, _xs, _ys in series:
        band = [(point["size_bytes"], num(get(point, "time_us", "min")), num(get(point, "time_us", "p90"))) for point in item["sweep"]]
        band = [point for point in band if (point[1] or 0) > 0 and (point[2] or 0) > 0]
        if band:
            xs, low, high = zip(*band)
            axes.fill_between(xs, low, high, color=SCOPE_COLOURS.get(item["scope"], MUTED), alpha=0.12, linewidth=0)
    _lines(axes, series)
    _sizes_axis(axes, series)
    axes.yaxis.set_major_locator(LogLocator(10))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _place: digits_time(value)))
    axes.set_ylabel("time of one operation")
    _end_labels(axes, series, True, lambda xs, ys: ("%s:" % size(xs[0]), ys[0], "µs"))
    heading(
        figure,
        "Latency of %s against message size" % clip(op, 30),
        "%sLine: median. Band: minimum to 90th percentile." % _how(collectives),
    )
    return figure, "Median time of one %s against message size; lower is better." % op


def heatmap(op, links, judged):
    """Nodes by nodes, the bandwidth of each pair as a colour and, up to 16 nodes, as a number; suspects are marked.

    The scale starts at zero; darker is slower, in an order that every colour vision sees (cividis: Nuñez et al., 2018,
    doi:10.1371/journal.pone.0199239).
    """
    nodes = _nodes_of(links, judged)
    values = {tuple(sorted(link["nodes"])): link for link in links}
    known = [link["bandwidth_gbps"] for link in links if link["bandwidth_gbps"]]
    if not known:
        return None
    suspects = {item["node"] for item in judged if item["verdict"] == "suspect"}
    doubtful = {item["node"] for item in judged if item["verdict"] == "mostly slow"}
    count, top = len(nodes), max(known)
    side = min(6.4, max(2.7, 0.7 * count))
    low = 0.95 if count > 4 else 0.5  # room for slanted names
    width, height = side + 2.6, side + low + 1.0
    figure = Figure(figsize=(max(width, 5.2), height))
    width = figure.get_figwidth()
    axes = figure.add_axes((1.35 / width, low / height, side / width, side / height))
    shades = matplotlib.colormaps["cividis"]
    for row, one in enumerate(nodes):
        for column, two in enumerate(nodes):
            link = values.get(tuple(sorted((one, two))))
            if link is None:
                continue
            value = link["bandwidth_gbps"] if link["status"] in PASSING else None
            shade = PAPER if value is None else matplotlib.colors.to_hex(shades(0.08 + 0.9 * value / top))
            axes.add_patch(_cell(column, row, shade, hatch=value is None))
            if count <= 16:
                text = "none" if value is None else digits(value)
                ink = "#111111" if value is None or value / top > 0.55 else "#fafafa"
                axes.text(column, row, text, ha="center", va="center", fontsize=9 if count <= 8 else 6.5, color=ink)
    axes.set_xlim(-0.5, count - 0.5)
    axes.set_ylim(count - 0.5, -0.5)
    axes.set_aspect("equal")
    axes.grid(False)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.tick_params(length=0)
    step = max(1, -(-count // 32))
    marked = [nodes.index(name) for name in suspects | doubtful if name in nodes]
    # Every node that is marked has its label; of the others as many as are legible beside it.
    shown = sorted({index for index in range(0, count, step) if all(abs(index - other) >= step for other in marked)} | set(marked))
    slant = {"rotation": 45, "ha": "right"} if count > 4 else {}
    axes.set_xticks(shown, [clip(nodes[index], 12) for index in shown], **slant)
    axes.set_yticks(shown, [_marked(nodes[index], suspects, doubtful) for index in shown])
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        for label, index in zip(labels, shown):
            label.set_fontsize(9 if count <= 16 else 7)
            if nodes[index] in suspects | doubtful:
                label.set_fontweight("bold")
    for node in suspects & set(nodes):
        place = nodes.index(node)
        # Two frames, dark on light: one of them shows on every shade.
        for corner, extent in (((-0.5, place - 0.5), (count, 1)), ((place - 0.5, -0.5), (1, count))):
            for colour, thick in ((INK, 3.4), ("#ffb000", 1.6)):
                axes.add_patch(_frame(corner, extent, colour, thick))
    scale = matplotlib.cm.ScalarMappable(matplotlib.colors.Normalize(0, top), _range_of(shades))
    bar = figure.colorbar(scale, cax=figure.add_axes(((1.35 + side + 0.22) / width, low / height, 0.16 / width, side / height)))
    bar.outline.set_visible(False)
    bar.set_label("bus bandwidth (GB/s)", fontsize=9)
    bar.ax.tick_params(labelsize=8.5)
    sizes = sorted({link["size_bytes"] for link in links if link["size_bytes"]})
    what = "%s at %s." % (clip(op, 20), " or ".join(size(item) for item in sizes)) if sizes else ""
    if suspects:
        what += " Framed: slow with every other node."
    heading(figure, "Bandwidth between every two nodes", what)
    named = " Suspect: %s." % ", ".join(sorted(suspects)) if suspects else " No node stands out." if judged else ""
    return figure, "Bus bandwidth of %s between every two nodes; darker is slower.%s" % (op, named)


def _nodes_of(links, judged):
    """Return the names in the order in which the nodes took part, then any other that a pair names."""
    names = [name for item in judged for name in item["nodes"]] + sorted({name for link in links for name in link["nodes"]})
    return list(dict.fromkeys(names))


def _marked(name, suspects, doubtful):
    return clip(name, 14) + ("\nsuspect" if name in suspects else "\nslow with most" if name in doubtful else "")


def _range_of(shades):
    """Return the part of a colour map that the cells use."""
    return matplotlib.colors.ListedColormap([shades(0.08 + 0.9 * step / 255) for step in range(256)])


def _cell(column, row, shade, hatch):
    return matplotlib.patches.Rectangle(
        (column - 0.5, row - 0.5), 1, 1, facecolor=shade, edgecolor=GRID if hatch else PAPER, linewidth=1, hatch="///" if hatch else None
    )


def _frame(corner, extent, colour, thick):
    return matplotlib.patches.Rectangle(corner, *extent, fill=False, edgecolor=colour, linewidth=thick, clip_on=False, zorder=3)


def digits_time(microseconds):
    """Return a tick in the unit that suits it: ``10 µs``, ``1 ms``, ``10 s``."""
    for limit, unit in ((1e3, "µs"), (1e6, "ms"), (float("inf"), "s")):
        if microseconds < limit * 0.9999:
            return "%g %s" % (round(microseconds / (limit / 1e3 if limit != float("inf") else 1e6), 3), unit)
    return ""


# Colours of the plots -> custom properties of the page, so that a plot follows light and dark.
PAGE_COLOURS = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    GRID: "var(--line)",
    PAPER: "var(--card)",
    **{colour: "var(--c%d)" % index for index, colour in enumerate(PALETTE)},
}


def inline(svg, name):
    """Return an SVG for use inside a page: no prolog, ids of its own, colours that follow the page."""
    text = svg.decode("utf-8")
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.S)
    text = re.sub(r'\bid="', 'id="%s-' % name, text)
    text = re.sub(r'(xlink:href="|url\()#', r"\1#%s-" % name, text)
    text = re.sub(r"#[0-9a-fA-F]{6}\b(?=[;\" ])", lambda found: PAGE_COLOURS.get(found.group().lower(), found.group()), text)
    # The page scales it: width and height in points would fix its size.
    return re.sub(r'^<svg ([^>]*?)(?:width|height)="[^"]*"([^>]*?)(?:width|height)="[^"]*"', r"<svg \1\2", text)
