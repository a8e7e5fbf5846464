"""How long an all-reduce takes that decoding sends, by the best evidence in the run. Standard library only.

The serving runtime's own all-reduce comes first (``serving_all_reduce``): its kernel, its message, its group. NCCL in a CUDA graph
stands in for it, by torch or by nccl-tests, and what was timed launched one by one comes last: that is largely the host's time. Two
times that are compared come from one source, measured the same way.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from ..records.collectives import latency_at, method_of_decode
from ..records.reading import get, num
from .fabric import pick, tools_of

# A message stands for another of up to so many times its size, either way: between them latency hardly differs.
NEAR = 2.0
HOW = {"cuda_graph": "in a CUDA graph", "eager": "launched one by one"}


class ReduceTime(NamedTuple):
    """One all-reduce of a group."""

    us: float
    size_bytes: int
    how: str  # for the arithmetic: which number of what it is
    ranks: int | None
    nodes: int | None
    low_us: float | None  # minimum and 90th percentile of what is behind us; None where they are not known
    high_us: float | None
    host: str


def of_groups(groups, message_bytes, collectives, reduces, layout=None):
    """Return a :class:`ReduceTime` for each ``(tp, nodes)`` of ``groups``, all by one source; ``[]`` where none has them all.

    ``collectives`` and ``reduces`` are records. ``layout`` is the name of the layout that sends it, whose own result counts before that of
    another with a group of the same shape (one may have its custom kernel disabled).
    """
    served = [_served(reduces, tp, nodes, message_bytes, layout) for tp, nodes in groups]
    if all(served) and len({item["method"] for item in served}) == 1:
        return [_of_serving(item) for item in served]
    found = [_by(collectives, tool, groups, message_bytes) for tool in tools_of(collectives, "all_reduce")]
    return min((item for item in found if item), key=lambda item: item[0], default=(None, []))[1]


def _served(reduces, tp, nodes, message_bytes, layout):
    """Return the serving runtime's result for a group at the nearest message: of the slowest node, which the others wait for."""
    found = [item for item in reduces if (item["tp"], item["nodes"]) == (tp, nodes)]
    own = [item for item in found if layout in item["layouts"]]
    found = [item for item in own or found if _far(item["message_bytes"], message_bytes) <= math.log(NEAR)]
    nearest = min((_far(item["message_bytes"], message_bytes) for item in found), default=None)
    return max(
        (item for item in found if _far(item["message_bytes"], message_bytes) == nearest), key=lambda item: item["time_us"], default=None
    )


def _far(one, other):
    return abs(math.log(one / other))


def _of_serving(item):
    how = "the serving runtime's own, median %s" % HOW.get(item["method"], item["method"] or "by a method that is not named")
    if item["path"]:
        how += " by %s" % item["path"]
    return ReduceTime(
        item["time_us"], item["message_bytes"], how, item["tp"], item["nodes"], item["low_us"], item["high_us"], item["host"]
    )  # fmt: skip


def _by(collectives, tool, groups, message_bytes):
    """Return ``(how far this tool's times are from the groups', [ReduceTime])``; None where it has not measured them all."""
    items = [pick(collectives, "all_reduce", "across" if nodes > 1 else "within", tool) for _tp, nodes in groups]
    if not all(items):
        return None
    method = method_of_decode(*items, size_bytes=message_bytes)
    times = [_of_collective(item, message_bytes, method) for item in items]
    if not all(times):
        return None
    others = sum(item.ranks != tp for item, (tp, _nodes) in zip(times, groups))  # noqa: B905 -- Python 3.9
    return (method != "graph_time_us", others, tool != "torch", str(tool)), times


def _of_collective(item, message_bytes, method):
    swept, value = latency_at(item, message_bytes, method)
    if not value:
        return None
    row = next(point[method] for point in item["sweep"] if point["size_bytes"] == swept)
    low, high = num(get(row, "min")), num(get(row, "p90"))
    known = low is not None and high is not None
    how = "median" if known or num(get(row, "mean")) is None else "mean"
    how += " in a CUDA graph" if method == "graph_time_us" else ", plain"
    return ReduceTime(value, swept, how, item["ranks"], item["nodes"], low if known else None, high if known else None, item["host"])


def crossing(collectives, reduces):
    """Return ``(within, across)`` of a small all-reduce by the best source that has both; None where none has.

    Of the serving runtime's own, one token's message and a group of as many ranks; else 8 B, the latency alone.
    """
    shapes = sorted({(item["tp"], item["nodes"]) for item in reduces})
    for tp, nodes in shapes:
        if nodes > 1 and (tp, 1) in shapes:
            message = min(item["message_bytes"] for item in reduces if (item["tp"], item["nodes"]) == (tp, nodes))
            times = of_groups([(tp, 1), (tp, nodes)], message, (), reduces)
            if times:
                return times
    return of_groups([(2, 1), (2, 2)], 8, collectives, ()) or None


def dearer(within, across):
    """Tell whether two times are apart and the second is longer: only then does crossing nodes cost something that shows."""
    known = None not in (within.low_us, within.high_us, across.low_us, across.high_us)
    return known and within.high_us < across.low_us
