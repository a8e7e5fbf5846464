"""Processes that hang in the kernel: a server of files that does not answer, a disk or a GPU that is lost."""

from __future__ import annotations

from ...core.fact import reason

NAMED = 5


def check_hung(evidence, expect):
    """Processes in one uninterruptible wait over all looks: a wait for a disk passes sooner. Threads of the kernel do not count."""
    seen = evidence["hung"]
    threshold = "no process in one uninterruptible wait over 10 s"
    if seen is None:
        return [reason("processes.hung", "skipped", "a recorded node has no processes", threshold)]
    if not seen["processes"]:
        return [reason("processes.hung", "healthy", "none", threshold)]
    named = ["%s (pid %d%s)" % (each["name"], each["pid"], _where(each)) for each in seen["processes"][:NAMED]]
    more = len(seen["processes"]) - NAMED
    text = "%d did not move for %g s: %s%s" % (
        len(seen["processes"]), seen["waited_s"], ", ".join(named), " and %d more" % more if more > 0 else "",
    )  # fmt: skip
    remedy = "look what they wait for (/proc/<pid>/stack, the kernel log, mounts that do not answer); what stays so only a reboot ends"
    return [reason("processes.hung", "degraded", text, threshold, remedy)]


def _where(item):
    return ", in %s" % item["wait"] if item["wait"] else ""
