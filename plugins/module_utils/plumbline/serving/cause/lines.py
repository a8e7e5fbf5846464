"""The lines of a server's log: who wrote each, when, how grave its logger held it to be, and what it says.

Lines carry prefixes, in any order and several at once: vLLM's ``(Worker_TP0 pid=1)``, Ray's ``(RayWorkerWrapper pid=2, ip=10.0.0.5)``
and ``(raylet)``, torch's ``[rank0]:``, colours, those of journald, Docker Compose and Kubernetes, and Ray's suffix
``[repeated 3x across cluster]``. Headers of loggers are vLLM's (with and without brackets, as before 0.8), glog's in torch, torch's in
Python, Ray's in C++ and in Python, and uvicorn's.
"""

from __future__ import annotations

import re
from typing import NamedTuple

WORKER, ENGINE, SERVER = 0, 1, 2  # the process tree from below: the one that meets an error first
QUIET = ("WARNING", "INFO", "DEBUG")
# Of a line longer than this only the beginning is read: an engine prints its configuration in one.
_LONGEST = 2000
_LETTERS = {"E": "ERROR", "F": "CRITICAL", "C": "CRITICAL", "W": "WARNING", "I": "INFO", "D": "DEBUG"}

# A colour may have lost its escape on the way (pasted, or written by a logger as #033).
_ANSI = re.compile(r"(?:\x1b|#033|\bESC)\[[0-9;]*[A-Za-z]|^(?:\[\d{1,2}(?:;\d+)*m)+|(?<=\))\[0m")
_REPEATED = re.compile(r"(?:\[\d+m)? ?\[repeated \d+x across cluster\].*$")
_OUTER = re.compile(
    r"^(?:[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d \S+ (?!kernel)[\w.@/-]+(?:\[\d+\])?: "  # journald, but not the kernel's own lines
    r"|[\w.-]+-\d+\s+\| "  # docker compose
    r"|\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:?\d\d)\s(?:std(?:out|err) [FP] )?)"  # docker logs -t, a kubelet's file
)
_PROCESS = re.compile(r"^\(((?:[^()]*\b)?(?:pid|ip)=[^()]*|raylet(?:, ip=[^()]*)?|autoscaler[^()]*|gcs_server)\) ?")
_RANK = re.compile(r"^\[rank(\d+)\]: ?")
_DATE = r"(?:\d{4}-)?(?P<month>\d\d)-(?P<day>\d\d) (?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)(?:[.,]\d+)?"
_VLLM = re.compile(r"^(?P<level>ERROR|CRITICAL|WARNING|INFO|DEBUG) %s \[?(?P<source>[^\]\s]*)\](?: |$)" % _DATE)
_HEADERS = (
    _VLLM,
    re.compile(
        r"^\[(?P<letter>[EWIF]) ?(?:(?P<month>\d{1,2}?)(?P<day>\d\d) (?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)[.\d]*)? ?"
        r"(?P<source>[\w./]+:\d+)\] ?"
    ),
    re.compile(
        r"^(?P<letter>[EWIF])(?P<month>\d\d)(?P<day>\d\d) (?P<hour>\d\d):(?P<minute>\d\d):(?P<second>\d\d)\.\d+ +\d+ "
        r"(?P<source>\S+:\d+)\] ?"
    ),
    re.compile(r"^\[%s (?P<letter>[EWIFCD]) \d+ \d+\] (?:\(\w+\) )?(?P<source>[\w./]+:\d+): ?" % _DATE),
    re.compile(r"^%s\s+(?:- )?(?P<level>ERROR|CRITICAL|WARNING|INFO|DEBUG)\b[\s:-]*(?P<source>[\w./]+\.py:\d+)?(?: -- )?" % _DATE),
)
# What tells its weight without a header that could be cut off.
_SOFT = (
    (re.compile(r"^(?:ERROR|CRITICAL):"), "ERROR"),
    (re.compile(r"^(?:WARNING|INFO|DEBUG|TRACE)\b"), "INFO"),
    (re.compile(r"^\S+(?: \S+)?:\d+: \w*Warning: |^\w*Warning: "), "WARNING"),
    (re.compile(r"NCCL (?:INFO|TRACE)\b"), "INFO"),
    (re.compile(r"NCCL WARN\b"), "WARNING"),
)


class Line(NamedTuple):
    """One line: ``log`` the number of its log, ``number`` its own there from 1, ``seconds`` a time that can be compared or None.

    ``said`` has the indentation that the writer gave it; ``level`` is "" where no logger wrote it.
    """

    log: int
    number: int
    process: str
    role: int
    level: str
    source: str
    seconds: int | None
    said: str

    @property
    def quiet(self):
        """Whether its logger held it to be no error."""
        return self.level in QUIET


def _undecorated(raw):
    """Return ``(process, rank, rest)`` of a line without colours and prefixes; the innermost process wrote it."""
    rest = _OUTER.sub("", _REPEATED.sub("", _ANSI.sub("", raw)), count=1).rstrip()
    process, rank = "", ""
    while True:
        match = _PROCESS.match(rest)
        if match:
            process = match.group(1).strip()
        else:
            match = _RANK.match(rest)
            if not match:
                return process, rank, rest
            rank = match.group(1)
        rest = rest[match.end() :]


def _role(process, rank):
    name = process.split(" ")[0]
    if rank or re.search(r"Worker|^raylet|^pid=|^Rank", name):
        return WORKER
    return SERVER if re.match(r"Api|API", name) else ENGINE


def _seconds(found):
    if not found.get("hour"):
        return None
    day = int(found["month"]) * 31 + int(found["day"])
    return ((day * 24 + int(found["hour"])) * 60 + int(found["minute"])) * 60 + int(found["second"])


def _header(rest):
    """Return ``(level, source, seconds, said)`` of a line without prefixes."""
    for pattern in _HEADERS:
        match = pattern.match(rest)
        if match:
            found = match.groupdict()
            level = found.get("level") or _LETTERS[found["letter"]]
            said = rest[match.end() :]
            return level, found.get("source") or "", _seconds(found), _RANK.sub("", said)
    for pattern, level in _SOFT:
        if pattern.search(rest):
            return level, "", None, rest
    return "", "", None, rest


def read(text, log=0):
    """Return the lines of ``text`` as :class:`Line`; a progress bar's carriage returns part a line without counting."""
    lines = []
    for number, whole in enumerate(text.split("\n"), 1):
        for raw in whole.split("\r"):
            process, rank, rest = _undecorated(raw[:_LONGEST])
            level, source, seconds, said = _header(rest)
            process = process or ("rank%s" % rank if rank else "")
            lines.append(Line(log, number, process, _role(process, rank), level, source, seconds, said.rstrip()))
    return lines


def bare(line):
    """Return ``line`` without colours, worker prefixes, Ray's suffix, and the logger's level, time and source."""
    return _VLLM.sub("", _undecorated(line.strip())[2].strip(), count=1).strip()
