"""Start, find and end the processes of one serving run, and only those.

Ray and vLLM re-parent, rename and re-group their children, so neither a pid file nor a process group finds them all.
What every child keeps is its environment: each process is started with ``PLUMBLINE_SERVE_ID=<id>`` and is found again by it in
``/proc/<pid>/environ``. A process of somebody else's never carries the mark and is never touched.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time

MARK = "PLUMBLINE_SERVE_ID"


def environment_of(pid):
    """Return the environment of ``pid`` as a dict; empty when it is gone, a kernel thread or not ours to read."""
    try:
        with open("/proc/%d/environ" % pid, "rb") as stream:
            raw = stream.read()
    except OSError:
        return {}
    pairs = (item.split(b"=", 1) for item in raw.split(b"\0") if b"=" in item)
    return {key.decode(errors="replace"): value.decode(errors="replace") for key, value in pairs}


def is_running(pid):
    """Tell whether ``pid`` exists and is not a zombie."""
    try:
        with open("/proc/%d/stat" % pid, encoding="utf-8", errors="replace") as stream:
            return stream.read().rsplit(")", 1)[1].split()[0] not in ("Z", "X")
    except (OSError, IndexError):
        return False


def parent_of(pid):
    """Return the parent's pid, 0 when ``pid`` is gone or its parent lies outside of this pid namespace."""
    try:
        with open("/proc/%d/stat" % pid, encoding="utf-8", errors="replace") as stream:
            return int(stream.read().rsplit(")", 1)[1].split()[1])
    except (OSError, IndexError, ValueError):
        return 0


def command_of(pid):
    """Return the command line of ``pid`` (a title that the process gave itself, cut to 120 characters)."""
    try:
        with open("/proc/%d/cmdline" % pid, "rb") as stream:
            return stream.read().replace(b"\0", b" ").decode(errors="replace").strip()[:120]
    except OSError:
        return ""


def marked(serve_id=None):
    """Return the running pids that carry the mark: of ``serve_id``, or of any serving run when it is None."""
    found = []
    for entry in os.listdir("/proc"):
        if entry.isdigit() and int(entry) != os.getpid():
            value = environment_of(int(entry)).get(MARK)
            if value is not None and (serve_id is None or value == serve_id) and is_running(int(entry)):
                found.append(int(entry))
    return sorted(found)


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
        )
    return process.pid


def stop(serve_id=None, grace_s=10.0):
    """End every process that carries the mark; return the list of ``(pid, command)`` that were ended.

    SIGTERM first, SIGKILL after ``grace_s`` seconds. Raises RuntimeError when one survives both.
    """
    ended = [(pid, command_of(pid)) for pid in marked(serve_id)]
    for signum, patience in ((signal.SIGTERM, grace_s), (signal.SIGKILL, 10.0)):
        deadline = time.monotonic() + patience
        pids = marked(serve_id)
        for pid in pids:
            try:
                os.kill(pid, signum)
            except ProcessLookupError:
                continue
        while pids and time.monotonic() < deadline:
            time.sleep(0.2)
            pids = marked(serve_id)
        if not pids:
            return ended
    raise RuntimeError("still running after SIGKILL: %s" % ", ".join("%d %s" % (pid, command_of(pid)) for pid in pids))


def base_environment(extra):
    """Return a small, reproducible environment with ``extra`` on top; values become strings."""
    env = {key: os.environ[key] for key in ("PATH", "HOME", "LANG", "LD_LIBRARY_PATH", "CUDA_HOME", "TMPDIR") if key in os.environ}
    env.setdefault("PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin")
    env.setdefault("HOME", "/root")
    env.update({key: str(value) for key, value in (extra or {}).items()})
    return env
