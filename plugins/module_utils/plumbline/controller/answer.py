"""How a node is asked whether its Python answers, and what its answer means."""

from __future__ import annotations

import json
import re
import shlex

PYTHON_MIN = "3.9"
# Seconds for a Python to start and say its version. It takes hundredths of a second; a node that swaps or whose file server is slow
# takes seconds. What takes longer will not carry a measurement.
TIMEOUT_S = 20
# What timeout(1) exits with when it ended the command: by its signal, or by SIGKILL after the grace.
TIMED_OUT = (124, 137)
GRACE_S = 2
QUESTION = "import json, platform, sys; print(json.dumps([platform.python_version(), sys.executable]))"
# A node without timeout(1) is asked all the same.
COMMAND = "if command -v timeout > /dev/null; then timeout -k %d %d %s; else %s; fi"


def bound(value):
    """Return a time-out in whole seconds; raise ValueError for what is none."""
    seconds = int(value)
    if seconds < 1:
        raise ValueError("preflight_node: timeout_s is %d, expected at least 1" % seconds)
    return seconds


def command(interpreter, timeout_s):
    """Return the shell command that asks ``interpreter``, a path or a command line, for its version."""
    question = "%s -c %s" % (interpreter, shlex.quote(QUESTION))
    return COMMAND % (GRACE_S, timeout_s, question, question)


def read(stdout, python_min):
    """Return the module's result from what the node printed; None where that is no answer, or not a good one."""
    last = (stdout or "").strip().rpartition("\n")[2]
    try:
        version, executable = json.loads(last)
        enough = _numbers(version) >= _numbers(python_min)
    except (ValueError, TypeError):
        return None
    return {"changed": False, "ping": "pong", "python_version": version, "python": executable} if enough else None


def _numbers(version):
    match = re.fullmatch(r"(\d+)(?:\.(\d+))?(?:\.(\d+))?.*", str(version))
    if match is None:
        raise ValueError("%r is no version" % (version,))
    return tuple(int(part or 0) for part in match.groups())


def hung(interpreter, timeout_s):
    """Return the sentence about a node whose Python starts and does not answer."""
    return (
        "SSH answers, but %s did not answer within %d s and was ended. Log in and try `%s -c 1`: a process that is stopped, a full"
        " process table or a file system that hangs (`cat /proc/pressure/io`, `ps -eo stat,wchan,cmd | grep ^D`) keeps it."
        % (interpreter, timeout_s, interpreter)
    )
