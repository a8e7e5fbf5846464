"""Run ib_write_bw on all ports at once: the servers of one node, or the clients of the other; leave no process behind."""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
import time

from ...core import processes
from ...machine import infiniband
from . import output as perftest

# Where NHC keeps its CUDA build: on Azure's HPC images, and in its container (its AZ_NHC_ROOT).
FOLDERS = ("/opt/azurehpc/test/azurehpc-health-checks/bin", "/azure-nhc/bin")
RETRY_S = 1


def find_program(name):
    """Return the path of ib_write_bw, None when it is not there."""
    if os.path.sep in name:
        return name if os.access(name, os.X_OK) else None
    return shutil.which(name, path=os.pathsep.join([os.environ.get("PATH", ""), *FOLDERS]))


def find_ports(devices, root="/"):
    """Return the ports to measure as ``device/number``: all of InfiniBand, or those of the devices named."""
    ports = infiniband.ports(root, infiniband.LINK_LAYER)
    return [port.name for port in ports if not devices or port.device in devices]


def numa_node(port, root="/"):
    """Return the NUMA node of a port's device where numactl can bind to it, else None."""
    return infiniband.numa_node(port.split("/")[0], root) if shutil.which("numactl") else None


class Port:
    """One port's process, started again while nobody listens at the other end."""

    def __init__(self, port, argv, folder):
        self.port, self.argv = port, argv
        self.path = os.path.join(folder, port.replace("/", "_") + ".log")
        self.process, self.next_start, self.status = None, 0.0, None

    def text(self):
        if not os.path.exists(self.path):
            return ""
        with open(self.path, encoding="utf-8", errors="replace") as log:
            return log.read()

    def step(self, now, retry):
        """Start or restart what has to run; return whether this port has come to its end."""
        if self.process is None:
            if now >= self.next_start:
                with open(self.path, "wb") as log:
                    self.process = subprocess.Popen(
                        self.argv, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT, start_new_session=True
                    )
            return False
        self.status = self.process.poll()
        if self.status is None:
            return False
        if retry and self.status != 0 and perftest.not_listening(self.text()):
            self.process, self.next_start = None, now + RETRY_S
            return False
        return True


def run(commands, folder, timeout_s, retry=False):
    """Run ``{port: argv}`` at the same time; return ``{port: {"status", "text", "timed_out"}}``.

    With ``retry`` (clients) a process that found nobody listening is started again until the time is over.
    """
    ports = [Port(port, argv, folder) for port, argv in commands.items()]
    open_ports, end = list(ports), time.monotonic() + timeout_s
    try:
        while open_ports and time.monotonic() < end:
            now = time.monotonic()
            open_ports = [port for port in open_ports if not port.step(now, retry)]
            time.sleep(0.1)
    finally:
        for port in ports:
            if port.process is not None and port.process.poll() is None:
                processes.end_group(port.process)
    late = {port.port for port in open_ports}
    return {port.port: {"status": port.status, "text": port.text(), "timed_out": port.port in late} for port in ports}


def outcome(done, size_bytes, timeout_s):
    """Return ``{"gbit_s", "problem", "connected"}`` of one client's run, for ``judge_port``."""
    text = done["text"]
    if done["status"] == 0:
        try:
            found = {"gbit_s": perftest.average_gbit_s(text, size_bytes), "problem": None, "connected": True}
        except perftest.Unfinished as error:
            return {"gbit_s": None, "problem": "its text was not understood: %s" % error, "connected": True, "unfinished": True}
        except ValueError as error:
            return {"gbit_s": None, "problem": "its text was not understood: %s" % error, "connected": True}
        return dict(found, both_ways=True) if perftest.both_ways(text) else found
    said = perftest.telling_line(text)
    if perftest.not_listening(text):
        return {"gbit_s": None, "problem": said, "connected": False}
    if done["timed_out"]:
        return {"gbit_s": None, "problem": "not done after %g s: %s" % (timeout_s, said), "connected": True}
    return {"gbit_s": None, "problem": "ended with status %s: %s" % (done["status"], said), "connected": True}


def shown(commands):
    """Return the commands as one line that a person can run."""
    return " & ".join(shlex.join(argv) for argv in commands.values())
