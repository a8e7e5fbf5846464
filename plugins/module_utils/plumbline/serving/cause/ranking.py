"""Which of a failure's candidates is the cause, and which two are the next best."""

from __future__ import annotations

from typing import NamedTuple

from . import candidates, kinds, lines, workers

LIMIT = candidates.LIMIT
# By so much a parent may write before the child whose error it tells: clocks with whole seconds, and Ray's forwarding of logs.
_LAG_S = 2
_ALSO = 160
_MOST = 3
# What begins alike is the same error, told by another process or once more on the way out.
_SAME = 100


class Cause(NamedTuple):
    """One cause: ``text`` at most 500 characters, ``line`` its number in the log from 1, ``process`` as the log names it or "".

    ``kind`` and ``remedy`` are "" where the words are of no kind that is known; ``log`` is the log's name, and ``weight`` says how much it
    explains (``kinds``): what another process's end brings about has at most ``kinds.CONSEQUENCE``.
    """

    text: str
    line: int
    process: str
    kind: str
    remedy: str
    log: str = ""
    weight: int = 0


def _times(read):
    """Return for each line the time when it was written, as far as the lines before it say; 0 before the first that says."""
    known, last = {}, 0
    for line in read:
        if line.seconds is not None:
            last = line.seconds
        known[line] = last
    return known


def _ranked(found, times):
    """Return ``found``, the cause first: by what it explains, then by time and the process tree together, then by place."""

    def key(candidate):
        line = candidate.line
        moment = times[line] + _LAG_S * line.role
        return (-candidate.meaning.weight + 5 * candidate.linked, moment, line.role, line.log, line.number)

    return sorted(found, key=key)


def causes_of_logs(logs, most=_MOST):
    """Return the ``most`` best :class:`Cause` of ``logs``, pairs of a name and a text, the head's server first; [] where none failed."""
    read = [line for number, (_name, text) in enumerate(logs) for line in lines.read(text, number)]
    best = []
    for candidate in _ranked(candidates.collect(read), _times(read)):
        meaning, line = candidate.meaning, candidate.line
        if any(candidate.text[:_SAME] == other.text[:_SAME] for other in best):
            continue
        remedy = workers.who_died(candidate.text, read) + meaning.remedy if meaning.kind == "died" else meaning.remedy
        best.append(Cause(candidate.text, line.number, line.process, meaning.kind, remedy, logs[line.log][0], meaning.weight))
        if len(best) == most:
            break
    return best


def causes(text, most=_MOST):
    """Return the ``most`` best :class:`Cause` of a failed server's log ``text``, the best first; [] when it says nothing of a failure."""
    return causes_of_logs([("", text)], most)


def root_cause(text):
    """Return the line of a failed server's log ``text`` that says why, at most 500 characters, or ``""`` when it says nothing.

    Logs of several processes may be joined, the head's first: an error that another process's end brings about (a connection closed, a
    timeout) yields to any other one.
    """
    best = causes(text, 1)
    return best[0].text if best else ""


def told(best):
    """Return ``(seen, remedy)`` of ranked causes for a reason: the first in full, the others short, without mere echoes."""
    if not best:
        return "", ""
    others = [cause.text[:_ALSO] for cause in best[1:_MOST] if cause.weight > kinds.ECHO + 5]
    return best[0].text + "".join("; also: " + text for text in others), best[0].remedy
