"""The two marks by which a process of ours is known among all others.

- A number in its limit of file locks (``RLIMIT_LOCKS``). Linux has not enforced that limit since 2.4.25 (getrlimit(2)), so the number has
  no effect. It is inherited by fork and execve, through setsid and when a parent dies. No title that a process gives itself touches
  it, everybody may read it in ``/proc/<pid>/limits``, and it needs neither root nor a writable cgroup.
- ``PLUMBLINE_SERVE_ID=<id>`` in its environment. It reaches into containers too. vLLM's EngineCore, and whatever else uses setproctitle,
  writes its title over it.

The number says which of our things it is: a program of the serving run with that id, or a module of ours that measures, with all that
it starts.
"""

from __future__ import annotations

import resource
import zlib

NAME = "PLUMBLINE_SERVE_ID"

_LOCKS = 10  # RLIMIT_LOCKS in asm-generic/resource.h; Python's module does not name it
_LINE = "Max file locks"
# 24 bits that nobody sets by chance, above 32 bits of the id. The measuring one is higher: without root a limit can only be lowered, and
# a module that measures starts the serving program.
_SERVING = 0x504C42
_MEASURING = 0x504C43


def serving(serve_id):
    """Return the number for the programs of one serving run."""
    return (_SERVING << 32) | zlib.crc32(serve_id.encode("utf-8"))


def measuring():
    """Return the number for modules that measure, and for what they start."""
    return _MEASURING << 32


def belong(number):
    """Give this process, and all that it starts from now on, the number; where a lower limit forbids it, the other mark has to do."""
    try:
        resource.setrlimit(_LOCKS, (number, number))
    except (OSError, ValueError):
        pass


def limit_of(pid, proc="/proc"):
    """Return the limit of file locks of ``pid``, None when it is unlimited or the process is gone."""
    try:
        with open("%s/%d/limits" % (proc, pid), encoding="utf-8", errors="replace") as stream:
            for line in stream:
                if line.startswith(_LINE):
                    return int(line[len(_LINE) :].split()[0])
    except (OSError, ValueError, IndexError):
        pass
    return None


def is_ours(limit, serve_id=None, measurements=False):
    """Tell whether a limit is that of ``serve_id``, or of any serving run when it is None; with ``measurements`` those as well."""
    if limit is None:
        return False
    kind = limit >> 32
    if kind == _SERVING:
        return serve_id is None or limit == serving(serve_id)
    return measurements and kind == _MEASURING
