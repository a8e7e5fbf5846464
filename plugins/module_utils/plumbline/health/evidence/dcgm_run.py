"""Runs ``dcgmi``: which GPUs DCGM knows, and its diagnostic, in a time limit and without leaving it running.

The diagnostic itself is a child of the host engine, not of dcgmi. A dcgmi that is told to end (SIGTERM) tells the host engine to stop it,
and waits 25 s at most (``ExecuteDiagOnServer`` in ``dcgmi/Diag.cpp``); one that is killed leaves it running. Where no host engine runs,
``dcgmi diag`` starts one inside itself; no other command of dcgmi does.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time

from ...core import processes
from ...machine import nvidia

PLACES = ":/usr/bin:/usr/local/bin:/opt/nvidia/bin"
# With this in its environment dcgmi does not run a diagnostic, it stops one (CommandLineParser.cpp).
STOPS_ONE = "DCGMI_STOP_DIAG_HOSTNAME"
NO_HOST_ENGINE = ("unable to establish a connection", "unable to connect to host engine", "connection invalid/disconnected")
DISCOVERY_S = 60
STOP_S = 30


class DcgmError(Exception):
    """dcgmi did not say which GPUs there are; the text has its words. ``no_engine`` when it reached no host engine."""

    def __init__(self, text, no_engine=False):
        super().__init__(text)
        self.no_engine = no_engine


def find(path=None):
    """Return the dcgmi to run, or None. A ``path`` given must be an executable file."""
    if path:
        return path if os.path.isfile(path) and os.access(path, os.X_OK) else None
    return shutil.which("dcgmi", path=os.environ.get("PATH", "") + PLACES)


def _environment():
    return dict({key: value for key, value in os.environ.items() if key != STOPS_ONE}, LC_ALL="C")


def discover(tool, timeout_s=DISCOVERY_S):
    """Return ``[{"id", "bus_id", "uuid"}]`` of the GPUs that the host engine knows; raise :class:`DcgmError`."""
    try:
        done = subprocess.run(
            [tool, "discovery", "-l"], stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s, check=False, env=_environment()
        )
    except subprocess.TimeoutExpired as error:
        raise DcgmError("`dcgmi discovery -l` did not answer within %g s" % timeout_s) from error
    except OSError as error:
        raise DcgmError("%s did not start: %s" % (tool, error)) from error
    said = (done.stdout + done.stderr).decode(errors="replace")
    if any(words in said.lower() for words in NO_HOST_ENGINE):
        raise DcgmError("no host engine answers", no_engine=True)
    gpus = parse_discovery(said)
    if done.returncode or not gpus:
        raise DcgmError("`dcgmi discovery -l` ended with %d: %s" % (done.returncode, " ".join(said.split())[-300:] or "nothing"))
    return gpus


def parse_discovery(text):
    """Return the GPUs in the table of ``dcgmi discovery -l``; one without a readable PCI address has ``bus_id`` None.

    Tables of other things (switches, processors) come after it, each with a heading of its own.
    """
    gpus, in_gpus = [], False
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.strip().strip("|").split("|")]
        if len(cells) != 2 or not line.strip().startswith("|"):
            continue
        number, info = cells
        if not re.fullmatch("[0-9]{0,6}", number):
            in_gpus = number == "GPU ID"
        elif in_gpus:
            if number:
                gpus.append({"id": int(number), "bus_id": None, "uuid": None})
            if gpus:
                _note(gpus[-1], info)
    return gpus


def _note(gpu, info):
    address = re.match(r"PCI Bus ID:\s*(\S+)", info)
    if address:
        try:
            gpu["bus_id"] = nvidia.normal_bus_id(address.group(1))
        except nvidia.NvidiaError:
            gpu["bus_id"] = None
    uuid = re.match(r"Device UUID:\s*(GPU-\S+)", info)
    if uuid:
        gpu["uuid"] = uuid.group(1)


def command(tool, what, entities=()):
    """Return the arguments of a diagnostic. ``what`` is a level or a test's name; ``entities`` DCGM's numbers or UUIDs, none for all."""
    # Verbose, since why a test was skipped is told only then (AddInfoVerboseForGpu in nvvs).
    return [tool, "diag", "-r", str(what), "-j", "-v"] + (["-i", ",".join(map(str, entities))] if entities else [])


def diagnose(argv, timeout_s, stop_s=STOP_S):
    """Run a diagnostic; return ``{"stdout", "stderr", "exit_code", "timed_out", "error", "duration_s"}``.

    ``exit_code`` is negative for a signal, None where it had to be ended. ``error`` says why it did not start.
    """
    seen = {"stdout": "", "stderr": "", "exit_code": None, "timed_out": False, "error": None, "duration_s": 0.0}
    began = time.monotonic()
    # A host engine inside dcgmi writes its statistics where it stands.
    folder = tempfile.mkdtemp(prefix="plumbline-dcgm-")
    try:
        with open(os.path.join(folder, "stdout"), "w+b") as out, open(os.path.join(folder, "stderr"), "w+b") as err:
            process = subprocess.Popen(
                argv, stdin=subprocess.DEVNULL, stdout=out, stderr=err, cwd=folder, env=_environment(), start_new_session=True
            )
            try:
                seen["exit_code"] = process.wait(timeout=timeout_s)
            except subprocess.TimeoutExpired:
                seen["timed_out"] = True
            finally:
                processes.end_group(process, grace_s=stop_s)
            for name, stream in (("stdout", out), ("stderr", err)):
                stream.seek(0)
                seen[name] = stream.read().decode(errors="replace")
    except OSError as error:
        seen["error"] = "%s did not start: %s" % (argv[0], error)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    seen["duration_s"] = round(time.monotonic() - began, 3)
    return seen
