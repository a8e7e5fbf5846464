"""The processors of a node and the load they carry."""

from __future__ import annotations

import os

from ...core.files import read_text
from . import runnable


def cpu(root="/"):
    """Return ``count`` (online processors), ``usable`` (those this process may use), and the load averages."""
    load = (read_text(os.path.join(root, "proc/loadavg")) or "").split()
    online = read_text(os.path.join(root, "sys/devices/system/cpu/online"))
    return {
        "count": count_list(online) if online else None,
        "usable": len(os.sched_getaffinity(0)),
        "load": [float(item) for item in load[:3]] if len(load) >= 3 else None,
    }


def others(seen, limit, root="/"):
    """Return who else runs, :func:`runnable.others`, where the last minute's load is beyond ``limit`` per processor; else None.

    None too on a recorded node, which has no processes. It takes half a second, so that only a suspicion asks for it.
    """
    if limit is None or not seen["load"] or not seen["count"] or os.path.realpath(root) != "/":
        return None
    return runnable.others() if seen["load"][0] / seen["count"] > limit else None


def count_list(text):
    """Count a kernel list such as ``0-3,8``."""
    total = 0
    for part in text.split(","):
        first, _sep, last = part.partition("-")
        total += int(last or first) - int(first) + 1
    return total
