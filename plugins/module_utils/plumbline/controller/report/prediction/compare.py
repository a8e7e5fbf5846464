"""Predicted against measured: how far apart, where a token's milliseconds went, and what the fabric's measurement cannot explain.

Standard library only.
"""

from __future__ import annotations

from ..records.reading import get, num
from .told import predictions

# In the order in which they are drawn and told; the last is what was measured and no term explains.
NAMES = {
    "weights": "weights",
    "kv_cache": "KV cache",
    "layers": "layers",
    "all_reduces": "all-reduces",
    "hand_overs": "hand-overs",
    "rest": "not explained",
}


def compared(layouts, told):
    """Return one record for each layout that something was foretold of or that was served, in the order of ``layouts``.

    ``layouts`` are the run's records, ``told`` is ``told.predictions``. Each has ``name``, ``told`` (None where there is nothing),
    ``measured_ms`` (the median TPOT of one request at a time, None without), and where both are there ``off`` (predicted / measured − 1),
    ``place`` (``within`` the range, ``slower`` or ``faster`` than it), ``rest_ms`` and, with TP, ``implied_us``: what is left for one
    all-reduce when all other terms are taken off.
    """
    records = {layout["name"]: layout for layout in layouts}
    names = list(dict.fromkeys([*records, *told]))
    return [_one(name, records.get(name), told.get(name)) for name in names if name in told or records[name]["usable"]]


def _one(name, layout, said):
    measured = tpot(layout) if layout else None
    found = {"name": name, "layout": layout, "told": said, "measured_ms": measured, "off": None, "place": None, "rest_ms": None}
    found["implied_us"] = implied_us(said, measured)
    predicted = said and said["tpot_ms"]
    if not predicted or not measured:
        return found
    return dict(found, off=predicted / measured - 1, place=_place(said, measured), rest_ms=measured - predicted)


def tpot(layout):
    """Return the median TPOT of a layout's runs in ms, None where it was not benchmarked with one request at a time."""
    if not layout["usable"] or layout["concurrency"] != 1:
        return None
    found = num(get(layout["summary"], "tpot_ms", "median")) or num(get(layout["summary"], "tpot_ms", "mean"))
    return found if found and found > 0 else None


def implied_us(said, measured_ms):
    """Return what a token leaves for one all-reduce in µs, None without tensor parallelism or without the other terms."""
    if not said or not measured_ms or not said["all_reduces"] or said["least_ms"] is None:
        return None
    return (measured_ms - said["least_ms"]) / said["all_reduces"] * 1e3


def _place(said, measured):
    if measured < said["tpot_low_ms"]:
        return "faster"
    if said["tpot_high_ms"] is not None:
        return "slower" if measured > said["tpot_high_ms"] else "within"
    # Something has no figure: more than the sum is what is to be expected, so only what the sum explains is called within.
    return "slower" if measured > said["tpot_ms"] + (said["tpot_ms"] - said["tpot_low_ms"]) else "within"


def parts(record):
    """Return ``(predicted, measured)``: where the milliseconds of a token went, ``[(name, ms)]`` of each; the terms, then the rest.

    Measured are the same terms, with what they do not explain; where the terms are more than was measured, they are cut in proportion.
    """
    terms = [(term["name"], term["ms"]) for term in record["told"]["terms"]]
    total, measured = sum(ms for _name, ms in terms), record["measured_ms"]
    if measured is None:
        return terms, []
    if measured >= total:
        return terms, [*terms, ("rest", measured - total)]
    return terms, [(name, ms * measured / total) for name, ms in terms]


def comparison(records):
    """Return :func:`compared` of a run's ``Records``."""
    return compared(records.layouts, predictions(records.data, records.layouts, records.collectives))
