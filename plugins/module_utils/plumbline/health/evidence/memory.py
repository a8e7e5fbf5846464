"""The memory of a node."""

from __future__ import annotations

import os

from ...core.files import read_text


def memory(root="/"):
    """Return ``/proc/meminfo`` in bytes: total, available, swap_total; None for a line that is missing."""
    lines = {}
    for line in (read_text(os.path.join(root, "proc/meminfo")) or "").splitlines():
        key, _sep, value = line.partition(":")
        if value.strip().endswith("kB"):
            lines[key] = int(value.split()[0]) * 1024
    return {
        "total": lines.get("MemTotal"),
        "available": lines.get("MemAvailable"),
        "swap_total": lines.get("SwapTotal"),
    }
