"""What the run has measured of the machine that a prediction needs: read rates of GPUs, times of all-reduces. Standard library only.

What serving itself does comes first, what stands for it second, a figure from elsewhere last; each result says which it is.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from ....core.fact import PASSING
from ..records.entries import entry_status, of_kind
from ..records.reading import get, num, rows, text, texts, whole
from . import constants

# A message stands for another of up to so many times its size, either way.
NEAR = 2.0
# How the source of what this run has measured begins.
MEASURED = "measured in this run"


class Evidence(NamedTuple):
    """What a run has measured: ``gpus`` as ``(10⁹ bytes/s read, host, the share of it that a server's products read)``, rows of the
    ``serving`` all-reduce, ``collectives`` (records)."""

    gpus: tuple = ()
    serving: tuple = ()
    collectives: tuple = ()


def evidence(data, collectives):
    """Return the :class:`Evidence` in a loaded run folder; ``collectives`` are its records. Facts that break their schema are none."""
    gpus, serving = [], []
    for entry in of_kind(data, "gpu_baseline", "collective"):
        if entry["problems"]:
            continue
        if entry["kind"] == "gpu_baseline":
            whole_gpus = [gpu for gpu in rows(get(entry["fact"], "measured", "gpus")) if not gpu.get("mig")]
            read = [(num(gpu.get("read_gbps")), entry["host"], _served_share(gpu)) for gpu in whole_gpus]
            gpus += [one for one in read if one[0] and one[0] > 0]
        elif entry["name"] == "serving_all_reduce" and entry_status(entry) in PASSING:
            serving += rows(get(entry["fact"], "measured", "results"))
    return Evidence(tuple(gpus), tuple(serving), tuple(collectives))


def _served_share(gpu):
    """Return which share of a measured rate a server's products read: known of the fast kernel, which a plain one does not reach."""
    fast = (text(gpu.get("read_method")) or "").startswith("triton")
    return constants.SERVED_SHARE.get(gpu.get("model"), 1.0) if fast else 1.0


def _slowest(seen, hosts):
    """Return the slowest of the GPUs of ``hosts`` (None: any) as in :class:`Evidence`, and how many there are; None where none is."""
    found = [one for one in seen.gpus if hosts is None or one[1] in hosts]
    return (min(found), len(found)) if found else (None, 0)


def served_share(seen, hosts=None):
    """Return which share of :func:`read_rate` a server's products read; a rate from elsewhere is one that they reach."""
    slowest, _count = _slowest(seen, hosts)
    return slowest[2] if slowest else 1.0


def read_rate(seen, hosts=None, known=None):
    """Return ``(10⁹ bytes/s, source)`` at which the slowest GPU of ``hosts`` reads its memory, ``(None, why)`` where nobody knows.

    ``seen`` is the :class:`Evidence`; of ``hosts`` (None: any) the slowest GPU counts, since all ranks wait for it. ``known`` is
    ``(rate, source)`` of the GPU by its name, which stands in where none was measured.
    """
    slowest, count = _slowest(seen, hosts)
    if slowest:
        return slowest[0], "%s, the slowest of %d GPUs, on %s" % (MEASURED, count, slowest[1])
    rate, source = known or (None, None)
    if num(rate) and rate > 0:
        return rate, source or "no source was noted"
    return None, "no rate at which this GPU reads its memory: run the GPU baseline, or set serve_benchmark_hbm_read_gbps"


def all_reduce(seen, token, gpu, custom=True, layout=None):
    """Return ``(µs, source)`` of the all-reduce that a :class:`Token` sends, ``(None, why)`` where nobody knows.

    ``seen`` is the :class:`Evidence`, ``gpu`` the GPU's name, ``custom`` says that vLLM may use its own kernel. It does within a node only,
    and never in a layout that it spreads over nodes itself (``ParallelConfig``, vllm/config/parallel.py: ``if self.nnodes > 1``).
    ``layout`` is its name.
    """
    if not token.all_reduces:
        return 0.0, ""
    custom = custom and token.group_nodes == 1 and not (token.executor == "mp" and token.nodes > 1)
    served = _of_serving(seen, token, layout, custom)
    if served:
        return served
    measured = _of_nccl(seen, token)
    if measured and not custom:
        return measured
    return _published(token, gpu, custom) or measured or (None, _nobody_knows(token))


def _nobody_knows(token):
    where = "over %d nodes" % token.group_nodes if token.group_nodes > 1 else "within a node"
    return "no all-reduce of %d ranks %s was measured in a CUDA graph: run the fabric phase" % (token.tp, where)


def _far(one, other):
    return abs(math.log(one / other))


def _of_serving(seen, token, layout, custom):
    """Return the time of the serving runtime's own all-reduce in a CUDA graph at the nearest message, of the slowest node.

    A row that names the ``layout`` is its own; one of another layout stands for it where both may use the same kernels.
    """
    found = []
    for row in seen.serving:
        time_us, size, path = num(row.get("time_us")), num(row.get("message_bytes")), text(row.get("path")) or "a kernel without a name"
        same = whole(row.get("tp")) == token.tp and (whole(row.get("nodes")) or 1) == token.group_nodes
        usable = same and row.get("method") == "cuda_graph" and not row.get("wrong") and min(time_us or 0, size or 0) > 0
        if not usable or _far(size, token.message_bytes) > math.log(NEAR):
            continue
        own = layout in texts(row.get("layouts"))
        # Where vLLM may not use its own kernel, a time of that kernel says nothing.
        if own or custom or "custom" not in path:
            found.append((not own, _far(size, token.message_bytes), -time_us, path))
    if not found:
        return None
    _other, _distance, time_us, path = min(found)
    return -time_us, "measured in this run in a CUDA graph, the serving runtime's own by %s" % path


def _of_nccl(seen, token):
    """Return the time of NCCL's all-reduce in a CUDA graph at the nearest message, of as many ranks on as many nodes."""
    found = []
    for item in seen.collectives:
        spans = "across" if token.group_nodes > 1 else "within"
        if item["op"] != "all_reduce" or item["scope"] != spans or not item["sound"] or item["control"] or item["backend"] != "nccl":
            continue
        if item["ranks"] != token.tp or (token.group_nodes > 1 and item["nodes"] != token.group_nodes):
            continue
        for point in item["sweep"]:
            time_us = num(get(point, "graph_time_us", "median"))
            distance = _far(point["size_bytes"], token.message_bytes)
            if time_us and time_us > 0 and distance <= math.log(NEAR):
                found.append((distance, time_us, item["tool"] or "NCCL"))
    if not found:
        return None
    _distance, time_us, tool = min(found)
    return time_us, "measured in this run in a CUDA graph, NCCL by %s" % tool


def _published(token, gpu, custom):
    if not covered(gpu) or token.message_bytes > constants.LATENCY_BOUND_BYTES:
        return None
    if token.group_nodes > 1:
        figure, source = constants.ACROSS_US.get((token.tp, token.group_nodes)), constants.ACROSS_SOURCE
    else:
        table, source = (constants.CUSTOM_US, constants.CUSTOM_SOURCE) if custom else (constants.NCCL_US, constants.NCCL_SOURCE)
        figure = table.get(token.tp)
    return (figure, source) if figure else None


def covered(gpu):
    """Return whether the costs of a layer, and the published all-reduces, are those of a GPU of this name."""
    return bool(constants.COVERED_NAME.search(gpu or ""))
