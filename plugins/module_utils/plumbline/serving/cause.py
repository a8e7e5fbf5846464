"""Why a server failed, in the words of its own log.

A failing vLLM says it many times: the process that met the error first, then every process that waited for it. The first is the
cause, the rest are echoes. Lines carry prefixes: vLLM's ``(Worker_TP0 pid=1)``, Ray's ``(RayWorkerWrapper pid=2, ip=10.0.0.5)``, both,
torch's ``[rank0]:``, colours, and Ray's suffix ``[repeated 3x across cluster]``.
"""

from __future__ import annotations

import re

LIMIT = 500

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_REPEATED = re.compile(r"\s*\[repeated \d+x across cluster\].*$")
_PREFIX = re.compile(r"^(?:(?:\([^()]*(?:pid|ip)=[^()]*\)|\[rank\d+\]:)\s*)+")
_LEVEL = re.compile(r"^(ERROR|CRITICAL|WARNING|INFO|DEBUG) \d\d-\d\d \d\d:\d\d:\d\d \[[^\]]*\]\s*")
_EXCEPTION = re.compile(r"^(?:[A-Za-z_][\w.]*\.)?(?:[A-Z]\w*)?(?:Error|Exception|Exit|Interrupt|Timeout): \S")
# What is said of a failure elsewhere: never its cause.
_ECHO = re.compile(
    r"Engine core initialization failed|See root cause above|EngineDeadError|EngineCore encountered an issue|"
    r"See stack trace|WorkerProc initialization failed|stack trace above for the root cause|ActorDiedError|RayTaskError"
)
# An error, but most often because another process ended first: the cause only where nothing else is one.
_CONSEQUENCE = re.compile(r"(?:timed out|Timed out|[Cc]losed by (?:remote )?peer|reset by peer|Broken pipe|^EOFError)")
_WITHOUT_TRACEBACK = re.compile(
    r"error: (?:unrecognized arguments|argument|the following)|[Aa]ddress already in use|No space left on device|"
    r"Out of memory|\bKilled\b|Segmentation fault|command not found|executable file not found|^(?:\S+: )+(?:\d+: )?\S+: not found$|"
    r"Error response from daemon|died unexpectedly|Placement group creation timed out|No module named|No available node types"
)
_WAITING = "Waiting for creating a placement group"
_WORKER_STARTED = re.compile(r"world_size=\d+ rank=|oading model|Loading weights|Model loading took")
_NCCL = re.compile(r"NCCL [Ee]rror|DistBackendError")
_NCCL_WARN = re.compile(r"NCCL WARN (.*)")


def bare(line):
    """Return ``line`` without colours, worker prefixes, Ray's suffix, and the logger's level, time and source."""
    return _LEVEL.sub("", _undecorated(line)).strip()


def _undecorated(line):
    return _PREFIX.sub("", _REPEATED.sub("", _ANSI.sub("", line)).strip())


def _lines(text):
    """Return ``(said, quiet)`` of each line; quiet is one that its logger held to be no error."""
    found = []
    for line in text.splitlines():
        plain = _undecorated(line)
        level = _LEVEL.match(plain)
        said = plain[level.end() :] if level else plain
        found.append((said.strip(), bool(level) and level.group(1) in ("WARNING", "INFO", "DEBUG")))
    return found


def _told(lines, index):
    """Return the exception at ``index`` with the line that holds what its first line only announces."""
    said = lines[index][0]
    following = [line for line, _ in lines[index + 1 : index + 8] if line]
    if re.search(r"\d+ validation errors? for", said) and following:
        return "%s: %s" % (said, following[0])
    if _NCCL.search(said):
        for position, line in enumerate(following[:-1]):
            if line == "Last error:":
                return "%s: %s" % (said, following[position + 1])
        # "run with NCCL_DEBUG=INFO for details": where it was, NCCL's own last warning is the detail.
        warnings = [match.group(1) for match in (_NCCL_WARN.search(line) for line, _ in lines[:index]) if match]
        if warnings:
            return "%s: NCCL WARN %s" % (said, warnings[-1])
    return said


def _exceptions(lines):
    """Return ``(causes, consequences, echoes)`` in the order of the log."""
    causes, consequences, echoes = [], [], []
    ignored = False
    for index, (said, quiet) in enumerate(lines):
        if said.startswith("Exception ignored in"):
            ignored = True
        elif _ECHO.search(said):
            if not quiet:
                echoes.append(said)
        elif _EXCEPTION.match(said) and not quiet:
            if ignored:
                ignored = False
            elif _CONSEQUENCE.search(said):
                consequences.append(_told(lines, index))
            else:
                causes.append(_told(lines, index))
    return causes, consequences, echoes


def _still_waiting(lines):
    """Return Ray's last word on a placement group that never came, or ``""``."""
    waiting = ""
    for said, _ in lines:
        if _WAITING in said:
            waiting = said
        elif _WORKER_STARTED.search(said):
            waiting = ""
    return waiting


def root_cause(text):
    """Return the line of a failed server's log ``text`` that says why, at most 500 characters, or ``""`` when it says nothing.

    Logs of several processes may be joined, the head's first: an error that another process's end brings about (a connection closed, a
    timeout) yields to any other one.
    """
    lines = _lines(text)
    causes, consequences, echoes = _exceptions(lines)
    for found in (
        causes,
        [said for said, quiet in lines if not quiet and _WITHOUT_TRACEBACK.search(said) and not _ECHO.search(said)],
        consequences,
        [_still_waiting(lines)],
        echoes,
    ):
        if found and found[0]:
            return found[0][:LIMIT]
    return ""
