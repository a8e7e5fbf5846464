"""Which process a worker was that the log calls by its rank: ``VllmWorker-1`` is the one that wrote as ``Worker_TP1 pid=4086``."""

from __future__ import annotations

import re

_DIED = re.compile(r"Worker proc VllmWorker-(\d+) died")
_RANK = re.compile(r"\brank (\d+) in world size \d+ is assigned")
_NAME = re.compile(r"^Worker(?:_DP\d+)?(?:_PP(?P<pp>\d+))?(?:_TP(?P<tp>\d+))?(?:_EP\d+)? pid=(?P<pid>\d+)$")
_PID = re.compile(r"^Worker\S* pid=(\d+)$")


def pids(read):
    """Return ``{rank: pid}`` of the workers that wrote the lines ``read`` (``lines.Line``), as far as they tell.

    By their own word where it is whole, else by their names, which have the pipeline's stage and the place in it.
    """
    told, named = {}, {}
    for line in read:
        pid, rank = _PID.match(line.process or ""), _RANK.search(line.said)
        if pid and rank:
            told[int(rank.group(1))] = int(pid.group(1))
        name = _NAME.match(line.process or "")
        if name and (name.group("pp") or name.group("tp")):
            named[(int(name.group("pp") or 0), int(name.group("tp") or 0))] = int(name.group("pid"))
    wide = 1 + max((tp for _pp, tp in named), default=0)
    return {**{pp * wide + tp: pid for (pp, tp), pid in named.items()}, **told}


def who_died(text, read):
    """Return which process a line on a dead worker is about, ``""`` where it is on none or the log does not tell."""
    died = _DIED.search(text)
    pid = pids(read).get(int(died.group(1))) if died else None
    return "it was rank %s, pid %d; " % (died.group(1), pid) if pid else ""
