"""Runs the worker program, in a virtual environment or in a container, and reads what it left; no process stays behind."""

from __future__ import annotations

import inspect
import json
import os
import subprocess
import time

from ..core import processes
from . import torch_worker

WORKER = "torch_worker.py"
CONTAINER = "plumbline-gpu-baseline"
GRACE_S = 5
# Seconds that each phase may take beyond its own time: kernels are compiled, memory is given and taken.
SLACK_S = 60
# Runs $1 and what follows under the Python that the program `vllm` is for, or under the image's own.
_IN_IMAGE = (
    'program=$(command -v vllm 2> /dev/null) && IFS= read -r first < "$program" || first=; '
    'case $first in "#!"*python*) exec ${first#??} "$@" ;; esac; exec python3 "$@"'
)


def specification(devices, seconds, sizes):
    """Return what the worker reads: the devices, how long each phase takes, sizes, and how long anything may take at most.

    ``seconds`` has ``matrix``, ``memory``, ``transfer``, ``peer`` and ``start``; ``sizes`` has ``matrix``, ``memory_bytes`` and
    ``transfer_bytes``.
    """
    whole = [item["visible"] for item in devices if item["kind"] == "cuda" and not item["mig"]]
    longest = longest_s(len(devices), len(whole), seconds)
    return {
        "devices": devices,
        "peers": whole if len(whole) > 1 else [],
        "matrix_s": seconds["matrix"],
        "memory_s": seconds["memory"],
        "transfer_s": seconds["transfer"],
        "peer_s": seconds["peer"],
        "start_s": seconds["start"],
        "slack_s": SLACK_S,
        "patience_s": longest,
        "deadline_s": longest + 30,
        "matrix_size": sizes["matrix"],
        "memory_bytes": sizes["memory_bytes"],
        "transfer_bytes": sizes["transfer_bytes"],
    }


def longest_s(devices, whole, seconds):
    """Return the seconds after which the program must be done, whatever hangs: each phase waits for no longer than its own bound."""
    together = seconds["start"] + seconds["matrix"] + 2 * seconds["memory"] + 2 * seconds["transfer"] + 5 * SLACK_S
    turns = devices * torch_worker.TURNS * 3 * seconds["transfer"] + 2 * SLACK_S
    peers = whole * (whole - 1) * (seconds["peer"] + 1) + seconds["start"] + SLACK_S if whole > 1 else 0
    return int(together + turns + peers)


def command(folder, python, image, docker, label, on_gpus):
    """Return the argv: under ``python``, or in a new container of ``image`` that goes away with the program."""
    worker = [os.path.join(folder, WORKER), "--folder", folder]
    if not image:
        return [python, *worker]
    return [
        docker, "run", "--rm", "--name", CONTAINER, "--label", "%s=gpu_baseline" % label, "--network", "none", "--ipc", "host",
        "--ulimit", "memlock=-1:-1", "--pull", "never", *(["--gpus", "all"] if on_gpus else []), "--volume", "%s:%s" % (folder, folder),
        "--entrypoint", "sh", image, "-c", _IN_IMAGE, "sh", *worker,
    ]  # fmt: skip


def prepare(folder, spec):
    """Put the program and what it reads into the folder."""
    with open(os.path.join(folder, WORKER), "w", encoding="utf-8") as script:
        script.write(inspect.getsource(torch_worker))
    with open(os.path.join(folder, "spec.json"), "w", encoding="utf-8") as text:
        json.dump(spec, text)


def remove_container(docker):
    """Remove the container, if one of an earlier call is still there."""
    try:
        subprocess.run([docker, "rm", "--force", CONTAINER], stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired):
        pass  # what stays in the way is told by the engine when the next one is made


def run(argv, folder, timeout_s, container=False):
    """Run the program; return ``(exit status or None at the time-out, the end of its output)``. Raises OSError when it does not start."""
    path = os.path.join(folder, "program.log")
    if container:
        remove_container(argv[0])
    with open(path, "wb") as log:
        process = subprocess.Popen(
            argv, env=processes.base_environment({}), cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )
        try:
            deadline = time.monotonic() + timeout_s
            while process.poll() is None and time.monotonic() < deadline:
                time.sleep(0.1)
            status = process.poll()
        finally:
            processes.end_group(process, GRACE_S)
            if container:
                remove_container(argv[0])
    return status, tail(path)


def tail(path, size=2000):
    """Return the end of a log; ``""`` where there is none."""
    try:
        with open(path, "rb") as log:
            log.seek(max(0, os.path.getsize(path) - size))
            return log.read().decode("utf-8", "replace")
    except OSError:
        return ""


def left(folder, count):
    """Return ``(states of the devices, state of the peers, {"exits", "hung"})``; {} for what was not written."""
    devices = [read(folder, "device%d" % number) for number in range(count)]
    for number, state in enumerate(devices):
        state["log"] = tail(os.path.join(folder, "device%d.log" % number))
    peers = read(folder, "peers")
    return devices, dict(peers, log=tail(os.path.join(folder, "peers.log"))) if peers else {}, read(folder, "conductor")


def read(folder, name):
    """Return a JSON object that the program left; {} for none, and for what is none."""
    try:
        with open(os.path.join(folder, name + ".json"), encoding="utf-8") as text:
            value = json.load(text)
    except (OSError, ValueError):
        return {}
    return value if isinstance(value, dict) else {}
