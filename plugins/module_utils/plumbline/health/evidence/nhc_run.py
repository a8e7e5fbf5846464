"""Runs Azure NHC on a node: a fresh folder each time, a copy of the conf, an end that leaves nothing running.

What ``run-health-checks.sh`` does to files, and what follows from it (Azure/azurehpc-health-checks, May 2026):

- Without ``-c`` it appends a check of ``mlx5_an0`` and ``eth1`` to the conf that it ships, and with ``-e`` it writes
  ``<conf>_appended.conf`` beside it. With ``-c`` alone it writes to neither: we pass a copy, with those lines added.
- XIDs that stand in the log file already count as "reported before" and pass: the log's path is new each time.
- ``-t`` bounds the whole run, not one check; 500 s is less than a slow node takes.
- It starts ``docker run --name=aznhc``: killing the script leaves the container, which is why it is removed by its mount.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
import time

from ...core import processes
from . import nhc_log, nhc_places
from .nhc_conf import copy_conf

CONTAINER = "aznhc"
KEEP_RUNS = 5
# What docker needs to fetch the image the first time, and NHC to end after its own timeout (1 + 3 + 1 s, by its source).
GRACE_S = 300


def fresh_folder(base):
    """Make and return a new folder below ``base``; of the older ones, :data:`KEEP_RUNS` stay."""
    os.makedirs(base, mode=0o755, exist_ok=True)
    old = sorted(name for name in os.listdir(base) if name.startswith("run-"))
    for name in old[: max(0, len(old) - KEEP_RUNS + 1)]:
        shutil.rmtree(os.path.join(base, name), ignore_errors=True)
    return tempfile.mkdtemp(dir=base, prefix=time.strftime("run-%Y%m%dT%H%M%SZ-", time.gmtime()))


def run(script, base, sku, timeout_s=1200, conf=None, has_accelerated=False, grace_s=GRACE_S):
    """Run NHC; return ``{"error", "log", "conf", "checks", "text", "parsed", "rc", "timed_out", "duration_s", "command"}``.

    ``error`` says why there is no log to judge; ``text`` is the log and ``parsed`` what :func:`nhc_log.parse` read in it.
    Seconds throughout.
    """
    seen = {"error": None, "log": None, "conf": None, "checks": [], "text": "", "parsed": nhc_log.parse(""), "rc": None,
            "timed_out": False, "duration_s": 0.0, "command": None}  # fmt: skip
    places = nhc_places.confs(script, sku, conf)
    source = next((place for place in places if os.path.isfile(place)), None)
    if source is None:
        seen["error"] = "there is no conf for this size at %s; NHC itself would exit 0 here" % " or ".join(places)
        return seen
    try:
        folder = fresh_folder(base)
        seen["conf"], seen["log"] = os.path.join(folder, "nhc.conf"), os.path.join(folder, "nhc.log")
        seen["checks"] = copy_conf(source, seen["conf"], has_accelerated, sku)
    except OSError as error:
        seen["error"] = "the folder for the run could not be made: %s" % error
        return seen
    command = [script, "-a", "-v", "-t", "%d" % timeout_s, "-c", seen["conf"], "-o", seen["log"]]
    seen["command"] = " ".join(command)
    started = time.monotonic()
    output = os.path.join(folder, "output.txt")
    try:
        with open(output, "wb") as stream:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=stream, stderr=subprocess.STDOUT, cwd=folder, start_new_session=True
            )
    except OSError as error:
        seen["error"] = "%s did not start: %s" % (script, error)
        return seen
    try:
        seen["rc"] = process.wait(timeout=timeout_s + grace_s)
    except subprocess.TimeoutExpired:
        seen["timed_out"] = True
    finally:
        processes.end_group(process, grace_s=10)
        if seen["rc"] is None:
            remove_container(seen["log"])
    seen["duration_s"] = round(time.monotonic() - started, 3)
    for path in (seen["log"], output):
        try:
            with open(path, encoding="utf-8", errors="replace") as stream:
                seen["text"] = stream.read()
        except OSError:
            continue
        seen["parsed"] = nhc_log.parse(seen["text"])
        if seen["parsed"]["ran"]:
            break  # else docker did not start, and its message is in the other file
    if seen["timed_out"]:
        # It may have died between raising the clocks and giving them back.
        seen["error"] = "NHC did not end within %d s and was killed; GPU clocks may be as it raised them" % (timeout_s + grace_s)
    elif not seen["parsed"]["ran"]:
        tail = " ".join(seen["text"].split())[-300:] or "nothing"
        seen["error"] = "NHC ran no check (exit code %s); it said: %s" % (seen["rc"], tail)
    return seen


def remove_container(log):
    """Remove NHC's container if it is the one of this run: the one that has ``log`` mounted. Nobody else's."""
    docker = shutil.which("docker")
    if not docker:
        return False
    try:
        shown = subprocess.run(
            [docker, "inspect", "--format", "{{.Id}} {{range .Mounts}}{{.Source}} {{end}}", CONTAINER],
            stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False,
        )  # fmt: skip
        words = shown.stdout.decode(errors="replace").split()
        if shown.returncode != 0 or log not in words[1:]:
            return False
        subprocess.run([docker, "rm", "-f", words[0]], stdin=subprocess.DEVNULL, capture_output=True, timeout=120, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return False
    return True
