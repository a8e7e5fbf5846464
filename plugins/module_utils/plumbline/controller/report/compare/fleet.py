"""A fleet's baseline: what the nodes of a SKU measured in one run, and nodes that come later against it. Standard library only.

For the bring-up of further nodes there is no earlier run of them, but there are equal nodes. The baseline has for each SKU and metric the
median over its nodes and their spread, 1.4826 × the median absolute deviation (P. J. Rousseeuw and C. Croux, 1993: that of a normal
distribution), which one bad node does not move. A node differs where it is outside of the interval in which one more such node would be,
together with all other comparisons of the run (Bonferroni). Logarithms are compared.
"""

from __future__ import annotations

import json
import math
import os
import statistics

from ....core.files import write_atomically
from ..records.reading import get, num, plain
from .judge import CONFIDENCE, DIFFERS, NONE, UNKNOWN
from .metrics import NODE, title
from .student import bound

SCHEMA = "plumbline.fleet_baseline/1"
# With fewer nodes a median absolute deviation says little of how far equal nodes differ.
LEAST_NODES = 4
NORMAL = 1.4826


class NoBaseline(ValueError):
    """The file is no baseline of a fleet; the text says what was expected."""


def made_of(run):
    """Return the baseline of a run (:class:`.index.Run`), as it is written."""
    skus = {}
    for item in run.measured:
        if item.scope == NODE:
            skus.setdefault(item.key, {}).setdefault(item.metric, []).append(item)
    return {
        "schema": SCHEMA,
        "run_id": run.run_id,
        "started_at": run.started_at,
        "about": run.about,
        "skus": {sku: {metric: _spread(items) for metric, items in sorted(metrics.items())} for sku, metrics in sorted(skus.items())},
    }


def _spread(items):
    logs = [item.sample.mean for item in items]
    middle = statistics.median(logs)
    values = sorted(math.exp(value) for value in logs)
    return {
        "unit": title(items[0])[1],
        "nodes": len(logs),
        "median": math.exp(middle),
        # Of logarithms, so relative.
        "spread": NORMAL * statistics.median(abs(value - middle) for value in logs),
        "min": values[0],
        "max": values[-1],
    }


def write(path, baseline):
    """Write a baseline, at once or not at all; its folder is made. Raises OSError."""
    os.makedirs(os.path.dirname(os.path.abspath(path)), exist_ok=True)
    write_atomically(path, json.dumps(baseline, indent=2, sort_keys=True, allow_nan=False) + "\n")


def read(path):
    """Return the baseline in a file. Raises :class:`NoBaseline`."""
    try:
        with open(path, encoding="utf-8") as stream:
            found = json.load(stream)
    except (OSError, ValueError) as error:
        raise NoBaseline("%s is no fleet baseline: %s. A run writes one with report_fleet_baseline_write" % (path, error)) from error
    if get(found, "schema") != SCHEMA or not isinstance(get(found, "skus"), dict):
        raise NoBaseline("%s is no fleet baseline: its schema is %r, expected %s" % (path, get(found, "schema"), SCHEMA))
    return found


def against(run, baseline):
    """Return ``[{host, metric, unit, sku, nodes, median, now, change, low, high, says, better}]`` of a run's nodes, the worst first.

    ``low`` and ``high`` are the interval of one more equal node, in the metric's unit; None where the baseline has too few nodes.
    """
    pairs = [(item, plain(get(baseline, "skus", item.key, item.metric))) for item in run.measured if item.scope == NODE]
    pairs = [(item, known) for item, known in pairs if (num(known.get("median")) or 0) > 0]
    share = (1 - CONFIDENCE) / max(1, len(pairs))
    found = [_node(item, known, share) for item, known in pairs]
    return sorted(found, key=lambda line: (line["says"] != DIFFERS, line["better"] is not False, -abs(line["change"])))


def _node(item, known, share):
    _name, unit, higher = title(item)
    nodes, spread = num(known.get("nodes")) or 0, num(known.get("spread"))
    change = item.sample.mean - math.log(known["median"])
    line = {
        "host": item.subject, "metric": item.metric, "unit": unit, "sku": item.key, "nodes": int(nodes), "median": known["median"],
        "now": math.exp(item.sample.mean), "change": math.expm1(change), "low": None, "high": None, "says": UNKNOWN, "better": None,
    }  # fmt: skip
    if nodes < LEAST_NODES or not spread:
        return line
    half = bound(share, nodes - 1) * spread * math.sqrt(1 + 1 / nodes)
    ends = known["median"] * math.exp(-half), known["median"] * math.exp(half)
    says = DIFFERS if abs(change) > half else NONE
    return {**line, "low": ends[0], "high": ends[1], "says": says, "better": (change > 0) == higher}
