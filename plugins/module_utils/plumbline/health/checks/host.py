"""How a node's kernel is set, where something here depends on it: locked memory, huge pages, frequency governors."""

from __future__ import annotations

from ...core.fact import reason
from .bound import NO_EXPECTATION, NOT_TOLD, size
from .infiniband import has_infiniband

LOCK_REMEDY = (
    "raise it for the user that serves: memlock unlimited in /etc/security/limits.conf, LimitMEMLOCK=infinity for a service, "
    "--ulimit memlock=-1 and IPC_LOCK for a container"
)


def check_host(evidence, expect):
    """The memory that may be locked; transparent huge pages and governors where the SKU says what they should be."""
    seen = evidence["host_settings"]
    return [
        _memory_lock(seen["memory_lock"], bool(expect.get("ib_ports")) or has_infiniband(evidence, expect)),
        _setting("memory.huge_pages", seen["huge_pages"], expect.get("huge_pages"), "/sys/kernel/mm/transparent_hugepage/enabled"),
        _governors(seen, expect.get("cpu_governor")),
    ]


def _memory_lock(seen, needed):
    """Judge the limit: memory that InfiniBand reads and writes has to be locked, and NCCL gives up where it may not be.

    No worse than degraded: what serves in a container has the container's limit, and the fabric's own tests show what this one does.
    """
    check, threshold = "memory.lock", "no limit on locked memory, which InfiniBand needs"
    text = _lock_words(seen) if seen else "/proc does not tell the limit"
    if not needed:
        return reason(check, "skipped", text, "only judged where there is InfiniBand")
    if seen is None:
        return reason(check, "incomplete", text, threshold, NOT_TOLD)
    good = seen["limit_bytes"] is None or seen["lifted"]
    return reason(check, "healthy" if good else "degraded", text, threshold, None if good else LOCK_REMEDY)


def _lock_words(seen):
    if seen["limit_bytes"] is None:
        return "no limit"
    return "%s may be locked%s" % (size(seen["limit_bytes"]), ", and CAP_IPC_LOCK lifts that" if seen["lifted"] else "")


def _setting(check, seen, wanted, place):
    """Compare a setting with what the SKU says; without that it is shown, and not judged."""
    if wanted is None:
        return reason(check, "skipped", seen or "not told by this kernel", NO_EXPECTATION)
    threshold = " or ".join(wanted)
    if seen is None:
        return reason(check, "incomplete", "not told by this kernel", threshold, "look at %s" % place)
    good = seen in wanted
    return reason(check, "healthy" if good else "degraded", seen, threshold, None if good else "write it to %s" % place)


def _governors(seen, wanted):
    """Judge the governors. In a virtual machine there are none: the host sets the frequency."""
    found = seen["governors"]
    if not found and seen["virtual"]:
        return reason("cpu.governor", "skipped", "none in a virtual machine: its host sets the frequency", wanted or NO_EXPECTATION)
    others = [name for name in found if name != wanted] if wanted else []
    return _setting(
        "cpu.governor",
        ", ".join(others or found) or None,
        [wanted] if wanted else None,
        "/sys/devices/system/cpu/cpu*/cpufreq/scaling_governor",
    )
