"""The processors of a node: how many, and how busy."""

from __future__ import annotations

from ...core.fact import reason
from .bound import bound


def check_cpu(evidence, expect):
    """Processors online against the expected count, and the load they carry."""
    seen = evidence["cpu"]
    exact = expect.get("cpu_count")
    if exact is None:
        count = bound(
            "cpu.count",
            seen["count"],
            expect.get("cpu_count_min"),
            True,
            "{} online".format,
            "look for processors taken offline (lscpu), or use a larger size",
        )
    elif seen["count"] is None:
        count = reason("cpu.count", "incomplete", "the list of online processors is not readable", "%d online" % exact)
    else:
        good = seen["count"] == exact
        count = reason(
            "cpu.count",
            "healthy" if good else "failed",
            "%d online" % seen["count"],
            "%d online" % exact,
            None if good else "look for processors taken offline (lscpu); otherwise replace the node",
        )
    return [count, _load(seen, expect.get("load_per_cpu_max"))]


def _load(seen, limit):
    """The load average, which holds Plumbline's own work too; beyond the limit it is somebody else's only where somebody is seen."""
    per_cpu = seen["load"][0] / seen["count"] if seen["load"] and seen["count"] else None
    found = bound(
        "cpu.load",
        per_cpu,
        limit,
        False,
        "{:.2f} per processor over a minute".format,
        "stop what else runs there: it will spoil the measurements",
        "degraded",
    )
    others = seen.get("others")
    if found["status"] != "degraded" or others is None:
        return found
    text = "%s; now %.2f per processor are not Plumbline's" % (found["seen"], others["mean"] / seen["count"])
    if others["top"]:
        text += ": " + ", ".join("%s (pid %d, %.1f)" % (item["command"], item["pid"], item["mean"]) for item in others["top"][:3])
    # The same measure as the load average and so the same limit: tasks that run, wait or block, for each processor.
    if others["mean"] / seen["count"] > limit:
        return dict(found, seen=text)
    return dict(found, status="healthy", seen=text, remedy=None)
