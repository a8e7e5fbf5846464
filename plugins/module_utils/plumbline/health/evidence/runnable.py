"""What runs on a node besides Plumbline: who is behind its load average now.

The load average counts tasks that run or wait for a processor, and tasks in an uninterruptible sleep (proc_loadavg(5)). It covers the
minutes before, which include what Plumbline itself started, and in a container it is the whole machine's. So it is a suspicion. Here the
same tasks are counted now, a few times, without those that are ours, and the processes are named.
"""

from __future__ import annotations

import os
import re
import time

from ...core import processes
from ...core.files import read_text

SAMPLES = 5
APART_S = 0.1
# A command of this form, or started by one, is Ansible's: its playbook and workers here (ansible-playbook, ansible-runner), or its modules
# and the shell that they are sent to on a node ("/bin/sh -c '... && sleep 0'"). A job in a home folder of that name is not.
OURS = re.compile(r"(^|[ /])(ansible(-[a-z]+)?|AnsiballZ_\w+\.py)( |$)|&& sleep 0")


def others(proc="/proc", samples=SAMPLES, apart_s=APART_S, sleep=time.sleep):
    """Return ``{"mean", "top"}``: how many threads that are not ours run or block, on average, and by which processes.

    ``top`` is a list of ``{"pid", "command", "mean"}``, the busiest first, five at most.
    """
    seen, commands = {}, {}
    for number in range(samples):
        if number:
            sleep(apart_s)
        table = _parents(proc)
        ours = _ours(table, proc, commands)
        for pid in table:
            if pid not in ours:
                count = _busy_threads(pid, proc)
                if count:
                    seen[pid] = seen.get(pid, 0) + count
    top = sorted(seen.items(), key=lambda item: (-item[1], item[0]))
    return {
        "mean": round(sum(seen.values()) / float(samples), 2),
        "top": [
            {"pid": pid, "command": _command(proc, pid, commands)[:80], "mean": round(count / float(samples), 2)} for pid, count in top[:5]
        ],
    }


def _parents(proc):
    """Return ``{pid: parent}`` of what is no thread of the kernel."""
    return {pid: stat.parent for pid, stat in processes.table(proc).items() if not processes.is_of_kernel(pid, stat)}


def _ours(table, proc, commands):
    """Return the pids that are Plumbline's: this process, what it runs below, and what Ansible runs."""
    # Not its ancestors: below init or a login shell there is everything else too.
    ours = {os.getpid()}
    marked = {pid for pid in table if OURS.search(_command(proc, pid, commands))}
    for pid in table:
        chain, here = set(), pid
        while here in table and here not in chain:
            if here in marked or here in ours:
                ours.add(pid)
                break
            chain.add(here)
            here = table[here]
    return ours


def _busy_threads(pid, proc):
    """Return how many threads of ``pid`` run, wait for a processor, or sleep uninterruptibly."""
    folder = "%s/%d/task" % (proc, pid)
    try:
        states = processes.table(folder).values()
    except OSError:
        return 0
    return sum(1 for stat in states if stat.state in ("R", "D"))


def _command(proc, pid, commands):
    """Return the command line, of a process without one its name in brackets, as ps(1) does."""
    if pid not in commands:
        try:
            with open("%s/%d/cmdline" % (proc, pid), "rb") as stream:
                commands[pid] = stream.read(4096).replace(b"\0", b" ").decode(errors="replace").strip()
        except OSError:
            commands[pid] = ""
        if not commands[pid]:
            name = read_text("%s/%d/comm" % (proc, pid))
            commands[pid] = "[%s]" % name.strip() if name else "[gone]"
    return commands[pid]
