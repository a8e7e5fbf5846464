"""Where a token's milliseconds go: predicted and measured, stacked by term. Controller only: needs matplotlib."""

from __future__ import annotations

from matplotlib.patches import Patch

from ..format import digits
from ..prediction.compare import NAMES, parts
from .rows import figure_of, label_rows
from .style import INK, MUTED, PAPER, heading, margins

# By term: told apart in grey too, from dark (what nobody can take away) to light.
FILL = {
    "weights": "#0072b2",
    "kv_cache": "#56b4e9",
    "layers": "#7f7f7f",
    "all_reduces": "#d55e00",
    "hand_overs": "#e69f00",
    "rest": PAPER,
}
HATCH = {"rest": "////"}
HEIGHT = 0.32


def token_time(records, palette):
    """Draw two bars for each of ``records`` (``prediction.compare``): the terms that were foretold, and what the token took."""
    rows = [record for record in records if record["layout"] and record["told"] and record["told"]["terms"] and record["measured_ms"]]
    if not rows:
        return None
    layouts = [record["layout"] for record in rows]
    figure = figure_of(layouts)
    axes = figure.add_subplot()
    margins(figure, 1.85, 1.35, top=1.15)
    used, far = [], 0
    for index, record in enumerate(rows):
        predicted, measured = parts(record)
        for place, stack, words in ((-0.18, predicted, "predicted"), (0.18, measured, "measured")):
            end = _stack(axes, index + place, stack, used)
            far = max(far, end)
            label = "%s %s" % (digits(end, "ms"), words)
            axes.annotate(label, (end, index + place), xytext=(6, 0), textcoords="offset points", va="center", fontsize=9, color=INK)
    axes.set_xlim(0, far * 1.02)
    label_rows(axes, layouts, palette)
    axes.set_xlabel("time of one token, one request at a time (ms)")
    heading(
        figure, "Where a token's milliseconds go", "Upper bar: foretold. Lower bar: measured, the same terms and what they do not explain."
    )
    handles = [Patch(facecolor=FILL[name], edgecolor=MUTED, hatch=HATCH.get(name), label=NAMES[name]) for name in NAMES if name in used]
    axes.legend(handles=handles, loc="lower left", bbox_to_anchor=(0, 1.0), ncols=len(handles), frameon=False, fontsize=9)
    return figure, (
        "A token's milliseconds by layout, predicted and measured, by what they go into; shorter is better. Where a token was faster than"
        " foretold, all terms are shortened alike."
    )


def _stack(axes, place, stack, used):
    """Draw one stacked bar and return where it ends, in ms."""
    left = 0
    for name, ms in stack:
        axes.barh(place, ms, left=left, height=HEIGHT, color=FILL[name], edgecolor=MUTED, linewidth=0.5, hatch=HATCH.get(name))
        left += ms
        if name not in used:
            used.append(name)
    return left
