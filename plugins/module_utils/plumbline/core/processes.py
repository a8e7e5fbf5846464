"""Start, find and end processes: those of one serving run, or those of one program, and no others.

Ray and vLLM re-parent, rename and re-group their children, so neither a pid file nor a process group finds them all. Each process is
started with two marks that its children inherit (:mod:`.marks`), and is found by either: its environment, which a title may
overwrite, and a limit, which nothing overwrites. A process of somebody else's carries neither and is never touched.

A program that a module waits for (torchrun, mpirun, Azure NHC, rsync) leads a process group of its own, and is ended with it.
"""

from __future__ import annotations

import functools
import os
import signal
import subprocess
import time
from typing import NamedTuple

from . import marks

MARK = marks.NAME
GRACE_S = 5.0  # from SIGTERM to SIGKILL
KILL_S = 10.0  # for the kernel to take away what got SIGKILL; a process in an uninterruptible call takes longer

KTHREADD = 2  # the parent of the kernel's own threads
BLANK_ATTEMPTS = 10
BLANK_S = 0.005  # an execve takes some hundred microseconds


class Stat(NamedTuple):
    """What ``/proc/<pid>/stat`` says: state (``R``, ``S``, ``Z`` ...), parent's pid, process group, start in ticks since boot."""

    state: str
    parent: int
    group: int
    started: int


def pids(proc="/proc"):
    """Return the pids of this pid namespace, as :func:`os.listdir` orders them."""
    return [int(name) for name in os.listdir(proc) if name.isdigit()]


def stat_of(pid, proc="/proc"):
    """Return the :class:`Stat` of ``pid``, None when it is gone (proc_pid_stat(5))."""
    try:
        with open("%s/%d/stat" % (proc, pid), encoding="utf-8", errors="replace") as stream:
            # The command in parentheses may hold blanks and parentheses: read from the last one.
            fields = stream.read().rpartition(")")[2].split()
        return Stat(fields[0], int(fields[1]), int(fields[2]), int(fields[19]))
    except (OSError, IndexError, ValueError):
        return None


def table(proc="/proc"):
    """Return ``{pid: Stat}`` of every process that can be read."""
    found = {pid: stat_of(pid, proc) for pid in pids(proc)}
    return {pid: stat for pid, stat in found.items() if stat is not None}


def environment_of(pid):
    """Return the environment of ``pid`` as a dict; empty when it is gone, a kernel thread or not ours to read."""
    return _environment(_environ(pid) or b"")


def _environ(pid):
    """Return the bytes of the environment: ``b""`` for a thread of the kernel or in the middle of an execve, None when unreadable."""
    try:
        with open("/proc/%d/environ" % pid, "rb") as stream:
            return stream.read()
    except OSError:
        return None


def _environment(raw):
    pairs = (item.split(b"=", 1) for item in raw.split(b"\0") if b"=" in item)
    return {key.decode(errors="replace"): value.decode(errors="replace") for key, value in pairs}


def is_running(pid):
    """Tell whether ``pid`` exists and is not a zombie."""
    stat = stat_of(pid)
    return stat is not None and not is_dead(stat)


def is_dead(stat):
    """Tell whether a :class:`Stat` is that of a process which has ended and only waits to be collected."""
    return stat.state in ("Z", "X")


def is_of_kernel(pid, stat):
    """Tell whether a process is a thread of the kernel, or what starts these."""
    return KTHREADD in (pid, stat.parent)


def parent_of(pid):
    """Return the parent's pid, 0 when ``pid`` is gone or its parent lies outside of this pid namespace."""
    stat = stat_of(pid)
    return stat.parent if stat else 0


def descendants(pid, found):
    """Return the pids below ``pid`` in a :func:`table`; an orphan is no longer below who started it."""
    below, queue = [], [pid]
    while queue:
        current = queue.pop()
        children = [child for child, stat in found.items() if stat.parent == current]
        below += children
        queue += children
    return below


def command_of(pid):
    """Return the command line of ``pid`` (a title that the process gave itself, cut to 120 characters)."""
    try:
        with open("/proc/%d/cmdline" % pid, "rb") as stream:
            return stream.read().replace(b"\0", b" ").decode(errors="replace").strip()[:120]
    except OSError:
        return ""


def marked(serve_id=None, measurements=False):
    """Return the running pids that carry a mark: of ``serve_id``, or of any serving run when it is None.

    With ``measurements`` also those of modules that measure. Who asks, and what it was started by, is never among them.
    A process that is just being replaced (execve) has no environment for a moment: who shows a blank one is asked again. One that
    may not be read, or is overwritten by a title, is not: the limit tells.
    """
    mine = lineage(os.getpid(), table())
    asked, found = [pid for pid in pids() if pid not in mine], []
    for _attempt in range(BLANK_ATTEMPTS):
        blank = []
        for pid in asked:
            if marks.is_ours(marks.limit_of(pid), serve_id, measurements):
                found.append(pid)
                continue
            raw = _environ(pid)
            if raw and _carries(_environment(raw), serve_id):
                found.append(pid)
            elif raw == b"" and _may_have_environment(pid):
                blank.append(pid)
        asked = blank
        if not asked:
            break
        time.sleep(BLANK_S)
    return sorted(pid for pid in found if is_running(pid))


def lineage(pid, found):
    """Return ``pid``, its parent, and so on up, in a :func:`table`."""
    line = []
    while pid in found and pid not in line:
        line.append(pid)
        pid = found[pid].parent
    return line


def _carries(env, serve_id):
    value = env.get(MARK)
    return value is not None and (serve_id is None or value == serve_id)


def _may_have_environment(pid):
    """Tell whether ``pid`` runs and is no thread of the kernel, which has none."""
    stat = stat_of(pid)
    return stat is not None and not is_dead(stat) and not is_of_kernel(pid, stat)


def start(argv, serve_id, env, log_path, cwd="/"):
    """Start ``argv`` detached from this module, marked, with output appended to ``log_path``; return its pid.

    Raises OSError when the program cannot be started or the log cannot be written.
    """
    os.makedirs(os.path.dirname(log_path), exist_ok=True)
    with open(log_path, "ab") as log:
        process = subprocess.Popen(  # noqa: S603 - argv is built by our own command builder
            argv,
            env=dict(env, **{MARK: serve_id}),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            start_new_session=True,
            close_fds=True,
            preexec_fn=functools.partial(marks.belong, marks.serving(serve_id)),  # modules have one thread
        )
    return process.pid


class Survivors(RuntimeError):
    """Processes outlived SIGKILL. ``ended`` is all that was told to end as ``(pid, command)``, ``left`` the pids that still run."""

    def __init__(self, ended, left):
        super().__init__("still running after SIGKILL: %s" % ", ".join(map(described, left)))
        self.ended = ended
        self.left = left


def described(pid):
    """Return pid and title, with the state of a process in an uninterruptible call: it ends when the call does."""
    stat = stat_of(pid)
    waits = " (state D: in an uninterruptible call)" if stat and stat.state == "D" else ""
    return "%d %s%s" % (pid, command_of(pid), waits)


def stop(serve_id=None, grace_s=10.0, measurements=False, kill_s=KILL_S):
    """End every process that :func:`marked` finds; return the list of ``(pid, command)`` that were ended.

    SIGTERM first, SIGKILL after ``grace_s`` seconds. Raises :class:`Survivors` when one survives both and ``kill_s`` more seconds.
    """
    titles = {}

    def find():
        found = marked(serve_id, measurements)
        titles.update({pid: command_of(pid) for pid in found if pid not in titles})
        return found

    left = signal_until_gone(find, signal.SIGTERM, grace_s) and signal_until_gone(find, signal.SIGKILL, kill_s)
    ended = sorted(titles.items())
    if left:
        raise Survivors(ended, left)
    return ended


def end_group(process, grace_s=GRACE_S):
    """End a ``Popen`` that was started with ``start_new_session=True``, and all that it started.

    SIGTERM to its process group; once that is gone, or after ``grace_s`` seconds, SIGKILL to what is left of it and to
    everything below it: torchrun and mpirun give their workers groups of their own. What ended by itself is fine.
    """
    below = {}  # {pid: start}, since a pid that is handed out again has another start

    def look():
        """Return the processes now, after noting which of them are below ours: an orphan cannot be found later."""
        process.poll()  # collects it when it has ended
        found = {pid: stat for pid, stat in table().items() if not is_dead(stat)}
        ours = [process.pid] if process.returncode is None else []
        for pid in ours + [pid for pid, started in below.items() if pid in found and found[pid].started == started]:
            below.update({child: found[child].started for child in descendants(pid, found)})
        return found

    def group():
        return [pid for pid, stat in look().items() if stat.group == process.pid]

    def everything():
        return [pid for pid, stat in look().items() if stat.group == process.pid or below.get(pid) == stat.started]

    signal_until_gone(group, signal.SIGTERM, grace_s)
    signal_until_gone(everything, signal.SIGKILL, KILL_S)
    process.poll()


def signal_until_gone(find, signum, patience_s):
    """Send a signal, once each, to the pids that ``find`` returns, until it returns none; return those left after ``patience_s``."""
    deadline, told = time.monotonic() + patience_s, set()
    while True:
        left = find()
        for pid in left:
            if pid not in told:
                send(pid, signum)
        told.update(left)
        if not left or time.monotonic() >= deadline:
            return left
        time.sleep(0.1)


def send(pid, signum):
    """Signal a process that may be gone already, or be somebody else's by now."""
    try:
        os.kill(pid, signum)
    except (ProcessLookupError, PermissionError):
        pass


def base_environment(extra):
    """Return a small, reproducible environment with ``extra`` on top; values become strings."""
    env = {key: os.environ[key] for key in ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "CUDA_HOME", "TMPDIR") if key in os.environ}
    env.setdefault("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    env.setdefault("HOME", "/root")
    env.update({key: str(value) for key, value in (extra or {}).items()})
    return env
