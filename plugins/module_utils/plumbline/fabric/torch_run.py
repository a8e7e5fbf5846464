"""Run torchrun under a time limit and leave no process behind."""

from __future__ import annotations

import json
import os
import subprocess
import time

from ..core import processes

GRACE_S = 5  # from "all ranks done" to the end of torchrun, and from SIGTERM to SIGKILL


def states(folder):
    """Return the state files of the local ranks, by local rank."""
    found = {}
    for name in sorted(os.listdir(folder)):
        if name.startswith("rank") and name.endswith(".json"):
            with open(os.path.join(folder, name), encoding="utf-8") as text:
                found[int(name[4:-5])] = json.load(text)
    return found


def finished(folder, count):
    """Return whether all ``count`` local ranks wrote that they are done."""
    found = states(folder)
    return len(found) == count and all(item["stage"] == "done" for item in found.values())


def run(command, env, folder, count, timeout_s):
    """Run ``command``; return ``(exit status or None at the timeout, seconds, the log's end)``.

    torchrun waits up to 300 s for the other nodes' agents after its own ranks are done: a peer that dies
    just then must not cost that time, so ranks that are all done are an end too (status 0).
    """
    log_path = os.path.join(folder, "torchrun.log")
    started = time.monotonic()
    done_at = None
    with open(log_path, "wb") as log:
        process = subprocess.Popen(command, env=env, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        status = None
        try:
            while True:
                status = process.poll()
                now = time.monotonic()
                if status is not None:
                    break
                if done_at is None and finished(folder, count):
                    done_at = now
                if done_at is not None and now - done_at > GRACE_S:
                    status = 0
                    break
                if now - started > timeout_s:
                    break
                time.sleep(0.2)
        finally:
            processes.end_group(process, GRACE_S)
    with open(log_path, "rb") as log:
        log.seek(max(0, os.path.getsize(log_path) - 8000))
        tail = log.read().decode("utf-8", "replace")
    return status, time.monotonic() - started, tail
