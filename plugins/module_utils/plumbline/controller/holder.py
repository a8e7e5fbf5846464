"""Who runs this ``ansible-playbook``, so that a lock on a node can name it, and whether the one that a lock names still runs."""

from __future__ import annotations

import getpass
import os
import socket

from ..core import processes


def this_run(pid=None):
    """Return the holder that this run is: its id, user, controller and process. Asked by a worker, whose parent is ansible-playbook."""
    pid = os.getppid() if pid is None else pid
    stat = processes.stat_of(pid)
    found = {
        "run": os.environ.get("PLUMBLINE_RUN_ID", "without an id"),
        "user": _user(),
        "controller": socket.gethostname(),
        "place": _place(),
        "pid": pid,
        "started": stat.started if stat else 0,
    }
    found["token"] = "/".join(str(found[key]) for key in ("run", "controller", "place", "pid", "started"))
    return found


def has_ended(holder, ours):
    """Tell whether a holder's process is known to have ended: it was on this very system, and is no longer there, or is another."""
    if not ours["place"] or (holder.get("controller"), holder.get("place")) != (ours["controller"], ours["place"]):
        return False
    stat = processes.stat_of(int(holder["pid"]))
    return stat is None or processes.is_dead(stat) or stat.started != holder.get("started")


def _user():
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container whose user has no name
        return str(os.getuid())


def _place():
    """Return what two processes that see each other's pids share: this boot of the kernel and the pid namespace; ``""`` without /proc."""
    try:
        with open("/proc/sys/kernel/random/boot_id", encoding="ascii") as stream:
            return "%s %s" % (stream.read().strip(), os.readlink("/proc/self/ns/pid"))
    except OSError:
        return ""
