"""Who serves on this node: one run at a time, by name.

Each start of a layout ends whatever of Plumbline serves on its nodes, so two runs against the same nodes would end each other. The lock is
a file with its holder's name in it, in ``/run``, which a reboot empties as it ends what is served. It is held over the whole of a run's
serving, also between two layouts, when no process tells that the run goes on. The kernel's own lock on the file is held only for the
moment of a decision.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import time

# A holder without any process on the node, that has not come back for as long: between two layouts are a minute or two.
STALE_S = 900


def path_of(uid=None):
    """Return the lock's path: one for the node where root serves, as is usual, one for each user who may not write there."""
    uid = os.geteuid() if uid is None else uid
    return "/run/plumbline-serving.lock" if uid == 0 else "/tmp/plumbline-serving-%d.lock" % uid  # noqa: S108 - opened without following links


def take(path, holder, busy, gone="", now=None):
    """Take or renew the lock; return ``(former holder, why it was replaced)``, where the former is None when it was free or ours.

    ``holder`` has a ``token`` that no other run has. ``busy`` tells whether processes of ours run here, and ``gone`` is the token of
    a holder that is known to have ended. The second is ``""`` when the former holds it still and nothing was taken. Raises OSError.
    """
    now = time.time() if now is None else now
    with _opened(path) as stream:
        former = _read(stream)
        why = _replaceable(former, holder["token"], busy, gone, now)
        if former and not why:
            return former, ""
        ours = bool(former) and former["token"] == holder["token"]
        since = former["since"] if ours else now
        _write(stream, dict(holder, since=since, renewed=now, kept=False))
        return (None, "") if ours else (former, why)


def release(path, token, kept):
    """Give the lock back, if it is that holder's; ``kept`` when it leaves a server running, which is noted. Raises OSError."""
    if not os.path.exists(path):
        return
    with _opened(path) as stream:
        former = _read(stream)
        if former and former["token"] == token:
            _write(stream, dict(former, kept=True) if kept else None)


def break_it(path, look_only=False):
    """Take the lock from whoever holds it; return that holder, None when it was free. Raises OSError."""
    if not os.path.exists(path):
        return None
    with _opened(path) as stream:
        former = _read(stream)
        if former and not look_only:
            _write(stream, None)
        return former


def holder_of(path):
    """Return the holder, None when it is free. Raises OSError."""
    return break_it(path, look_only=True)


def would_replace(former, holder, busy, gone="", now=None):
    """Return why :func:`take` would replace ``former``, ``""`` when it would not."""
    return _replaceable(former, holder["token"], busy, gone, time.time() if now is None else now)


def described(holder):
    """Return who holds it, as words: run, user and controller, process, since when, layout."""
    since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(holder["since"]))
    layout = ", layout %s" % holder["layout"] if holder.get("layout") else ""
    return "run %s of %s@%s (process %s there), since %s%s" % (
        holder.get("run"), holder.get("user"), holder.get("controller"), holder.get("pid"), since, layout,
    )  # fmt: skip


def _replaceable(former, token, busy, gone, now):
    if not former:
        return ""
    if former["token"] == token:
        return "ours"
    if former.get("kept"):
        return "it had ended and left its server running"
    if gone and former["token"] == gone:
        return "its ansible-playbook has ended"
    age_s = now - former["renewed"]
    if not busy and age_s > STALE_S:
        return "nothing of it runs here, and it has not come back for %d min" % (age_s // 60)
    return ""


@contextlib.contextmanager
def _opened(path):
    """Open the file, which nobody removes: who waits for it would then wait for a file that nobody sees. No link is followed."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
    with os.fdopen(descriptor, "r+", encoding="utf-8") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        yield stream


def _read(stream):
    """Return the holder; a file that is empty, or that a full disk cut, has none."""
    try:
        found = json.loads(stream.read() or "null")
        return found if found and found["token"] and float(found["since"]) and float(found["renewed"]) else None
    except (ValueError, KeyError, TypeError):
        return None


def _write(stream, holder):
    stream.seek(0)
    stream.truncate()
    stream.write(json.dumps(holder) + "\n" if holder else "")
    stream.flush()
