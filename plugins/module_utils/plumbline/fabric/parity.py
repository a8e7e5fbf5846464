"""Host against serving runtime: does torch's NCCL reach what nccl-tests reached on the same nodes?

A container does not see the host's /etc/nccl.conf, may lack devices and the topology file, and brings another NCCL.
Large messages are compared by bus bandwidth; small ones are not, since the two tools time differently there
(nccl-tests: the mean of operations queued one behind the other; torch: the median of single operations).
"""

from __future__ import annotations


def compare(sweep, reference, least_bytes):
    """Return ``[(size, bandwidth, reference's, ratio)]`` at the sizes that both sweeps have, from ``least_bytes`` up."""
    theirs = {row["size_bytes"]: row.get("busbw_gbps") for row in reference}
    found = []
    for row in sweep:
        size, mine = row["size_bytes"], row.get("busbw_gbps")
        other = theirs.get(size)
        if size >= least_bytes and mine and other:
            found.append((size, mine, other, mine / other))
    return found


def judge(measurement, reference, tolerance, least_bytes, check="collective.parity"):
    """Add the reason on parity; nothing without a reference (``measured`` of the nccl-tests fact of the same run).

    ``degraded`` where the worst size differs by more than ``tolerance`` (0.1 is 10 %) in either direction: slower is
    lost in the runtime, faster means that the host's baseline is not what it should be.
    """
    if not reference:
        return None
    threshold = f"within {tolerance:.0%} of nccl-tests on the same nodes, from {least_bytes} bytes"
    ranks = measurement.measured.get("ranks"), reference.get("ranks")
    if ranks[0] != ranks[1]:
        measurement.add(
            check, "skipped", f"{ranks[0]} ranks here, {ranks[1]} in nccl-tests: not comparable", threshold,
            "set fabric_baseline_ranks_within and fabric_baseline_ranks_across to the number of GPUs",
        )  # fmt: skip
        return None
    pairs = compare(measurement.measured.get("sweep") or [], reference.get("sweep") or [], least_bytes)
    if not pairs:
        measurement.add(
            check, "incomplete", "no size in common that is large enough", threshold,
            "let both sweeps have a size from there up (fabric_baseline_sizes, fabric_baseline_nccl_max_bytes)",
        )  # fmt: skip
        return None
    size, mine, other, ratio = max(pairs, key=lambda pair: abs(pair[3] - 1))
    bad = abs(ratio - 1) > tolerance
    measurement.add(
        check, "degraded" if bad else "healthy",
        f"{mine} GB/s here, {other} GB/s by nccl-tests at {size} bytes: {ratio:.3f}, the worst of {len(pairs)} sizes", threshold,
        "compare context.transport and context.environment of both facts: /etc/nccl.conf, /dev/infiniband, NCCL_TOPO_FILE, NCCL's version"
        if bad else None,
    )  # fmt: skip
    return {"tool": "nccl-tests", "sizes": len(pairs), "worst_size_bytes": size, "worst_ratio": round(ratio, 4)}
