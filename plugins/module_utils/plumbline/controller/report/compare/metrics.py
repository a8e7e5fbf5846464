"""What of a run is compared with other runs: numbers of its layouts, and numbers of its nodes. Standard library only."""

from __future__ import annotations

import json
import re
from typing import NamedTuple

from ....core.fact import PASSING
from ..records.entries import entry_status
from ..records.reading import get, num, text
from .judge import Sample, sample

LAYOUT, NODE = "layout", "node"
# Metrics of a layout: name in the fact -> name in the report, unit, and whether a higher one is better.
OF_LAYOUTS = {
    "throughput_tok_s": ("throughput", "tok/s", True),
    "ttft_ms": ("TTFT", "ms", False),
    "tpot_ms": ("TPOT", "ms", False),
}
# Ends of a key of ``measured`` -> unit, and whether a higher one is better. Numbers with other ends are sizes, counts and settings.
OF_NODES = (
    ("_tflops", "TFLOP/s", True),
    ("_tflop_s", "TFLOP/s", True),
    ("_gbps", "GB/s", True),
    ("_gbit_s", "Gbit/s", True),
    ("_us", "µs", False),
)
# What says nothing of how fast a node is: verdicts' own bounds, numbers of other nodes, rates that are settings, fits.
NOT_OF_A_NODE = re.compile(r"(^|\.)(bound|others_median|best|link_rate|fit|threshold|expected|limit|messages|point)")
# Keys that name a part of a node, such as a GPU by its PCI address: the slowest part stands for the node.
A_PART = re.compile(r"^(\d+|[0-9a-fA-F]{4,8}:[0-9a-fA-F]{2}:.*|GPU-.*|gpu\d+|mlx5_.*)$")


class Measured(NamedTuple):
    """One number of a run: of which layout or node, under which conditions (``key``, text), and the :class:`Sample` of its values."""

    scope: str
    subject: str
    key: str
    metric: str
    sample: Sample


def title(measured):
    """Return ``(name, unit, whether higher is better)`` of a metric."""
    if measured.scope == LAYOUT:
        return OF_LAYOUTS[measured.metric]
    unit, higher = next(found[1:] for found in OF_NODES if measured.metric.endswith(found[0]))
    return measured.metric, unit, higher


def measured_in(records):
    """Return the list of :class:`Measured` of a run's records."""
    skus = skus_of(records.data)
    return [item for layout in records.layouts for item in _of_layout(layout, skus)] + _of_nodes(records.data, skus)


def skus_of(data):
    """Return ``{host: SKU}``: as its health fact says, else its GPU's name, else "" (no GPU, or not known)."""
    found = {}
    for entry in data["facts"]:
        if entry["kind"] == "health" and entry["name"] == "node":
            found[entry["host"]] = text(get(entry["fact"], "context", "sku")) or found.get(entry["host"], "")
    return found


def conditions(layout, skus):
    """Return what two runs of a layout have in common when they are equal: model, layout, SKU, and what was asked of it."""
    contexts = [get(entry["fact"], "context") for kind in ("benchmark", "startup") for entry in reversed(layout["entries"][kind])]
    model = next((get(context, "model") for context in contexts if isinstance(get(context, "model"), str)), None)
    measured = layout["measured"]
    return {
        "model": model.rstrip("/").rpartition("/")[2] if model else "%s x %s" % (layout["layers"], layout["hidden_size"]),
        "sku": skus.get(layout["host"]) or layout["gpu"] or "",
        "gpu": layout["gpu"] or "",
        **{key: layout[key] for key in ("tp", "pp", "nodes", "executor", "runtime", "concurrency", "quantization", "load_format")},
        "extra_args": layout["extra_args"] or "",
        **{key: num(measured.get(key)) for key in ("input_len_tokens", "output_len_tokens")},
    }


def _of_layout(layout, skus):
    if not layout["usable"]:
        return
    key = json.dumps(conditions(layout, skus), sort_keys=True)
    for metric in OF_LAYOUTS:
        found = _sample_of(layout, metric)
        if found:
            yield Measured(LAYOUT, layout["name"], key, metric, found)


def _sample_of(layout, metric):
    """Return the sample of a layout's metric: of its runs, or of the summary where the runs are not there."""
    values = [num(run.get(metric)) for run in layout["runs"]]
    if values and None not in values:
        return sample(values)
    stats = layout["summary"].get(metric) or {}
    mean, count, cv = (num(stats.get(key)) for key in ("mean", "n", "cv"))
    if not mean or mean <= 0:
        return None
    # For small spreads the standard deviation of logarithms is the coefficient of variation.
    return Sample(int(count or 1), sample([mean]).mean, cv if count and count > 1 else None)


def _of_nodes(data, skus):
    found = {}
    for entry in data["facts"]:
        if entry["kind"] in ("health", "clocks", "benchmark", "startup", "model") or entry_status(entry) not in PASSING:
            continue
        context = get(entry["fact"], "context")
        shared = get(context, "scope") == "across" or (entry["kind"] == "link" and not get(context, "node")) or get(context, "control")
        if shared or (entry["kind"] == "link" and get(context, "node") != entry["host"]):
            continue
        for metric, value in _numbers(get(entry["fact"], "measured")):
            found[entry["host"], "%s.%s.%s" % (entry["kind"], entry["name"], metric)] = value
    made = [(host, metric, sample([value])) for (host, metric), value in sorted(found.items())]
    return [Measured(NODE, host, skus.get(host, ""), metric, one) for host, metric, one in made if one]


def _numbers(value, path=""):
    """Return ``[(metric, value)]`` of the rates and times in ``measured``; of parts of a node the slowest."""
    found = {}
    for key, item in value.items() if isinstance(value, dict) else ():
        part = "" if A_PART.match(str(key)) else str(key)
        name = ".".join(word for word in (path, part) if word)
        for metric, number in _numbers(item, name) if isinstance(item, dict) else [(name, num(item))]:
            ends = next((ends for ends in OF_NODES if metric.endswith(ends[0])), None)
            if number is None or ends is None or NOT_OF_A_NODE.search(metric):
                continue
            found[metric] = number if metric not in found else (min if ends[2] else max)(found[metric], number)
    return sorted(found.items())
