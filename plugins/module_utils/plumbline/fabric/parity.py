"""Host against serving runtime: does torch's NCCL reach what nccl-tests reached on the same nodes?

A container does not see the host's /etc/nccl.conf, may lack devices and the topology file, and brings another NCCL.
Large messages are compared by bus bandwidth, plain with plain: both tools queue operations one behind the other and divide the
time of the batch by their number (torch's median of several batches, nccl-tests' mean of one). Small messages are not compared,
since there the host decides, and torch takes longer than C to queue an operation.

How large is large enough is measured: torch's time of its fastest operation is what the host may take of any (15 to 60 µs, on
a slow host 135). While the GPU works longer than the host needs for the next operation, that share hides behind the work and
only that of the first is in the batch's time. So a size counts where an operation takes :data:`HIDDEN` times the host's
share at least, and the share of one divided by the operations of a batch is within the tolerance.

And it counts only where nccl-tests themselves are at their peak, :data:`PLATEAU` of it. Below, how a tool uses NCCL decides: nccl-tests
register their buffers (``-R 1``), torch does not. On four H200s, in batches, a send-receive of 64 MiB took 435 µs here and 223 µs in
nccl-tests (300 of their 375 GB/s); of 1 GiB, 2999 and 2946 µs.
"""

from __future__ import annotations

import math

from ..core.fact import reason, worst

CHECK = "collective.parity"
LARGER = "to compare, let both sweeps have a larger size (fabric_baseline_sizes_nccl, fabric_baseline_nccl_max_bytes: 1 GiB)"
PLATEAU = 0.95
HIDDEN = 2  # what the host takes varies by as much from one operation to the next


def add_parity(fact, reference_fact, tolerance, min_bytes):
    """Return ``fact``, torch's, compared with ``reference_fact``, that of nccl-tests on the same nodes in the same run.

    The returned fact is a new one: it has the reason ``collective.parity``, ``measured.parity`` where both have a size in
    common, and as its status the worst of its reasons. Where one of the two measured nothing, ``fact`` itself is returned.
    ``degraded`` where the worst size from ``min_bytes`` up differs by more than ``tolerance`` (0.1 is 10 %) in either
    direction: slower is lost in the runtime, faster means that the host's baseline is not what it should be. Sizes below nccl-tests'
    peak, or at which the host's share could make that difference alone, are left out; where no other is left, the reason is ``skipped``.
    """
    measured, reference = fact["measured"], (reference_fact or {}).get("measured")
    if not reference or not measured.get("sweep"):
        return fact
    found, parity = judge(measured, reference, tolerance, min_bytes)
    reasons = [*fact["reasons"], found]
    status = worst(item["status"] for item in reasons)
    return dict(fact, status=status, reasons=reasons, measured=dict(measured, **({"parity": parity} if parity else {})))


def judge(measured, reference, tolerance, min_bytes):
    """Return ``(reason, parity)`` from the ``measured`` of both facts; ``parity`` is None where nothing can be compared."""
    threshold = f"within {tolerance:.0%} of nccl-tests on the same nodes, from {min_bytes} bytes"
    ranks = measured.get("ranks"), reference.get("ranks")
    if ranks[0] != ranks[1]:
        seen = f"{ranks[0]} ranks here, {ranks[1]} in nccl-tests: not comparable"
        remedy = "set fabric_baseline_ranks_within and fabric_baseline_ranks_across to the number of GPUs"
        return reason(CHECK, "skipped", seen, threshold, remedy), None
    sweep = measured.get("sweep") or []
    common = compare(sweep, reference.get("sweep") or [], min_bytes)
    if not common:
        remedy = "let both sweeps have a size from there up (fabric_baseline_sizes, fabric_baseline_nccl_max_bytes)"
        return reason(CHECK, "incomplete", "no size in common that is large enough", threshold, remedy), None
    peak = max(row.get("busbw_gbps") or 0 for row in reference["sweep"])
    largest = max(common)
    common = [pair for pair in common if pair[2] >= PLATEAU * peak]
    if not common:
        seen = f"nccl-tests reach {largest[2]:g} GB/s at {largest[0]} bytes, the largest size in common, of {peak:g} GB/s at their peak"
        return reason(CHECK, "skipped", seen, threshold, LARGER), None
    rows = {row["size_bytes"]: row for row in sweep}
    host_us = min((time for time in map(_time_us, sweep) if time), default=0)
    pairs = [pair for pair in common if _is_fair(rows[pair[0]], host_us, tolerance)]
    if not pairs:
        largest = max(pair[0] for pair in common)
        time = _time_us(rows[largest])
        seen = f"one operation takes {host_us:g} µs whatever its size, and {time:g} µs at {largest} bytes: the host's share decides"
        return reason(CHECK, "skipped", seen, threshold, LARGER), None
    size, mine, other, ratio = max(pairs, key=lambda pair: abs(pair[3] - 1))
    parity = {"tool": "nccl-tests", "sizes": len(pairs), "worst_size_bytes": size, "worst_ratio": round(ratio, 4)}
    seen = f"{mine} GB/s here, {other} GB/s by nccl-tests at {size} bytes: {ratio:.3f}, the worst of {len(pairs)} sizes"
    if abs(ratio - 1) <= tolerance:
        return reason(CHECK, "healthy", seen, threshold), parity
    remedy = (
        "compare context.transport and context.environment of both facts: /etc/nccl.conf, /dev/infiniband, NCCL_TOPO_FILE, NCCL's version"
    )
    return reason(CHECK, "degraded", seen, threshold, remedy), parity


def _time_us(row):
    """Return the time of one operation in µs, None where the row has none."""
    return (row.get("time_us") or {}).get("median")


def _is_fair(row, host_us, tolerance):
    """Return whether ``host_us``, what the host may take of one operation, cannot make a difference of ``tolerance`` alone."""
    time, operations = _time_us(row) or math.inf, row.get("operations_per_sample") or 1
    if operations == 1:
        return host_us <= tolerance * time
    return HIDDEN * host_us <= time and host_us / operations <= tolerance * time


def compare(sweep, reference, min_bytes):
    """Return ``[(size, bandwidth, reference's, ratio)]`` at the sizes that both sweeps have, from ``min_bytes`` up."""
    theirs = {row["size_bytes"]: row.get("busbw_gbps") for row in reference}
    found = []
    for row in sweep:
        size, mine = row["size_bytes"], row.get("busbw_gbps")
        other = theirs.get(size)
        if size >= min_bytes and mine and other:
            found.append((size, mine, other, mine / other))
    return found
