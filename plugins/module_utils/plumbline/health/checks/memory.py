"""The memory of a node: there, free, and no swap."""

from __future__ import annotations

from .bound import bound, size


def check_memory(evidence, expect):
    """Memory that is there, that is free, and swap, which stalls a server that touches it."""
    seen = evidence["memory"]
    found = [
        bound(
            "memory.total",
            seen["total"],
            expect.get("memory_total_min_bytes"),
            True,
            size,
            "replace the node: a memory module is missing or disabled",
        ),
        bound(
            "memory.available",
            seen["available"],
            expect.get("memory_available_min_bytes"),
            True,
            size,
            "stop what holds the memory (ps --sort=-rss)",
        ),
    ]
    if expect.get("swap_max_bytes") is not None:
        found.append(bound("memory.swap", seen["swap_total"], expect["swap_max_bytes"], False, size, "swapoff -a", "degraded"))
    return found
