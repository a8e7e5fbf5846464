"""Processes that hang: in one uninterruptible wait from a first look to a last one, without having run in between.

State D alone is no fault: every process that waits for a disk is in it. What is in it again at the next look, and was not scheduled once
since the first (its context switches are the same), has not moved. Where the first look sees none, there is no second.
"""

from __future__ import annotations

import os
import re
import time

from ...core import processes
from ...core.files import read_text

LOOKS_S = (3.0, 7.0)  # waits between looks: what still hangs after the first is given the second, ten seconds in all
# In the kernel's own words: what waits by intention, and shows the same state. A parent waits for its vfork()ed child, and a paused
# container's processes are frozen.
BY_INTENTION = re.compile(r"vfork|^_*(do_fork|kernel_clone|refrigerator)$|cgroup_enter_frozen|do_freezer")


def hung(root="/", looks_s=LOOKS_S, sleep=time.sleep, proc=None):
    """Return ``{"waited_s", "processes", "kernel_threads"}``; None on a recorded node, which has no processes.

    A process is ``{"pid", "name", "wait"}``: its name and not its command line, which may hold a secret, and where the kernel says that
    it waits (None where only root may know). Threads of the kernel have the same, and are apart: some wait so by design.
    """
    if proc is None and os.path.realpath(root) != "/":
        return None
    proc = proc or "/proc"
    suspects, waited_s = _waiting(proc), 0.0
    for pause in looks_s:
        if all(item["kernel"] for item in suspects.values()):
            break
        sleep(pause)
        waited_s += pause
        again = _waiting(proc)
        suspects = {pid: item for pid, item in suspects.items() if again.get(pid) == item}
    found = {False: [], True: []}
    for pid, item in sorted(suspects.items()):
        wait = _wait_of(pid, proc)
        if not (wait and BY_INTENTION.search(wait)):
            found[item["kernel"]].append({"pid": pid, "name": item["name"], "wait": wait})
    return {"waited_s": waited_s, "processes": found[False], "kernel_threads": found[True]}


def _waiting(proc):
    """Return ``{pid: ...}`` of what is in state D now; two looks at what has not moved are equal."""
    found = {}
    for pid, stat in processes.table(proc).items():
        if stat.state == "D":
            status = read_text("%s/%d/status" % (proc, pid)) or ""
            name = re.search(r"^Name:\t(.*)$", status, re.MULTILINE)
            found[pid] = {
                "name": name.group(1) if name else "?",
                "started": stat.started,
                "kernel": processes.is_of_kernel(pid, stat),
                "switches": re.findall(r"^\w*voluntary_ctxt_switches:\t(\d+)$", status, re.MULTILINE),
            }
    return found


def _wait_of(pid, proc):
    """Return the kernel's function in which ``pid`` waits, None where it does not tell (it writes 0)."""
    text = read_text("%s/%d/wchan" % (proc, pid))
    return None if text in (None, "", "0") else text
