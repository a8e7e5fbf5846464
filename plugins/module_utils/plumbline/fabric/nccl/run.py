"""Run nccl-tests under a time limit, keep what they say, and leave no process behind."""

from __future__ import annotations

import glob
import os
import re
import subprocess
import time

from ...core import processes
from ...core.scrub import scrub_text
from . import command as nccl_command
from . import output as nccl_output

LOG_LIMIT = 64 * 1024 * 1024  # bytes read of one run's output: 512 ranks on 64 nodes print about 10 MB


def gpus():
    """Return how many NVIDIA GPUs this node (or container) has, by its device files; by the driver's list without any."""
    files = [path for path in glob.glob("/dev/nvidia[0-9]*") if re.search(r"nvidia\d+$", path)]
    return len(files) or len(glob.glob("/proc/driver/nvidia/gpus/*"))


def usage(program, env):
    """Return ``(text of -h, None)``, or ``(None, why the program does not start)``. ``-h`` needs no GPU and no MPI."""
    try:
        done = subprocess.run(
            [program, "-h"], env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError) as error:
        return None, str(error)
    text = done.stdout + done.stderr
    if "USAGE" not in text:
        return None, (text.strip().splitlines() or [f"exit status {done.returncode} and no word"])[-1][:300]
    return text, None


def reaches(address, env):
    """Return why mpirun, in the environment ``env``, could not start its daemon at an address by ssh, None when it can."""
    command = [*nccl_command.ssh_argv(env), "-o", "BatchMode=yes", "-o", "ConnectTimeout=10", address, "true"]
    try:
        done = subprocess.run(command, env=env, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.SubprocessError) as error:
        return str(error)
    return None if done.returncode == 0 else (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1][:300]


def run(argv, env, folder, timeout_s):
    """Run a command; return ``(exit status, None at the timeout; seconds; all it printed)``."""
    path = os.path.join(folder, "output.log")
    started = time.monotonic()
    with open(path, "wb") as log:
        process = subprocess.Popen(argv, env=env, cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        try:
            status = process.wait(max(timeout_s, 1))
        except subprocess.TimeoutExpired:
            status = None
        finally:
            processes.end_group(process)
    with open(path, "rb") as log:
        text = log.read(LOG_LIMIT).decode("utf-8", "replace")
    return status, time.monotonic() - started, text


def document(text, asked, folder):
    """Return ``(JSON document or None, problem or None)``: the file that the test says it wrote, if one was asked for.

    The path in the text counts, not the one that was asked for: the tests go to ``.0``, ``.1`` … where a file is.
    """
    if not asked:
        return None, None
    path = nccl_output.json_path(text) or os.path.join(folder, asked)
    if os.path.dirname(os.path.abspath(path)) != os.path.abspath(folder):
        return None, f"the JSON went to {path}, which is not where it was sent"
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return nccl_output.load_json(stream.read()), None
    except (OSError, ValueError) as error:
        return None, f"no readable JSON ({error}): the text counts"


# From most to least telling.
TELLING = (
    re.compile(r"error while loading shared libraries.*"),
    re.compile(r"NCCL WARN .*(?:Failed to initialize|No device|not found|unhandled|Mismatch|memory).*", re.I),
    re.compile(r".*Test (?:NCCL|CUDA|timeout).*"),
    re.compile(r"Invalid number of GPUs.*"),
    re.compile(r"NCCL WARN .*"),
    re.compile(r".*(?:There are not enough slots|Permission denied|Host key verification|command not found|No such file).*"),
    re.compile(r"ORTE.*|PRTE.*"),
)


def cause(text):
    """Return the lines of an output that say best why a run failed."""
    found = []
    for pattern in TELLING:
        match = pattern.search(text)
        if match and scrub_text(match.group().strip())[:250] not in found:
            found.append(scrub_text(match.group().strip())[:250])
        if len(found) == 2:
            break
    if not found:
        lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("#") and "NCCL INFO" not in line]
        found = lines[-2:]
    return "; ".join(map(scrub_text, found))[:500] or "nothing was said"
