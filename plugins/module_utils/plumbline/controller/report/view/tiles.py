"""The figures at the top of the page. Standard library only."""

from __future__ import annotations

from ....core.fact import PASSING
from ..findings.layouts import apart
from ..format import digits
from ..records.reading import get, num
from ..serving import in_flight

# From best to worst, and "skipped" last, which is no verdict.
COUNTED = ("healthy", "degraded", "incomplete", "failed", "skipped")
# Metric, label, unit, and which of the layouts' means is the best.
BEST = (
    ("throughput_tok_s", "highest throughput", "tok/s", max),
    ("ttft_ms", "lowest TTFT", "ms", min),
    ("tpot_ms", "lowest TPOT", "ms", min),
)


def tiles(layouts, found):
    """Return the figures at the top as ``[{label, value, unit, note}]``: what passed, and the best layouts' numbers."""
    nodes, served = ([verdict["status"] for verdict in found[what].values()] for what in ("nodes", "layouts"))
    made = [_passed("nodes passed", nodes)] + ([_passed("layouts passed", served)] if served else [])
    usable = [layout for layout in layouts if layout["usable"]]
    return made + [tile for tile in (_best(usable, *row) for row in BEST) if tile]


def _passed(label, statuses):
    return {
        "label": label,
        "value": "%d / %d" % (sum(status in PASSING for status in statuses), len(statuses)),
        "unit": None,
        "note": ", ".join("%d %s" % (statuses.count(name), name) for name in COUNTED if name in statuses),
    }


def _best(usable, metric, label, unit, choose):
    """Return the tile of the best mean of a metric and the layout that has it; None where no layout has one."""
    values = [(num(get(layout["summary"], metric, "mean")), layout) for layout in usable]
    values = [pair for pair in values if pair[0] is not None]
    if not values:
        return None
    value, layout = choose(values, key=lambda pair: (pair[0], pair[1]["name"]))
    mine = layout["summary"][metric]
    # A best mean whose interval overlaps another's is nobody's in particular.
    same = [other["name"] for _value, other in values if other is not layout and not apart(mine, other["summary"][metric])]
    told = "not told apart from %s" % (", ".join(same[:2]) + (" and %d more" % (len(same) - 2) if len(same) > 2 else "")) if same else None
    note = ", ".join(part for part in (layout["name"], in_flight(layout), told) if part)
    return {"label": label, "value": digits(value), "unit": unit, "note": note}
