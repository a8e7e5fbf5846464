"""Whether an engine can give a container NVIDIA GPUs (``--gpus``, a device request), before one is asked for.

What it takes is in moby's ``daemon/nvidia_linux.go``: as the engine starts, it looks for ``nvidia-container-runtime-hook`` in its own PATH,
and without it says ``could not select device driver "" with capabilities: [[gpu]]``. Since 29 it may do with ``nvidia-cdi-hook`` and CDI
specifications instead (moby pull request 50228). A runtime named ``nvidia`` is what ``nvidia-ctk runtime configure`` adds; ``--gpus``
works without it, and does not work with it alone (toolkit-base has the runtime and no hook).
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess

from ...core import fact, processes
from ...core.files import read_int, read_text
from .engine import SOCKET

CHECK = "serve.toolkit"
HOOK, CDI_HOOK, CTK = "nvidia-container-runtime-hook", "nvidia-cdi-hook", "nvidia-ctk"
CDI_SINCE = 29
PIDFILE = "docker.pid"
_SLACK_S = 60  # the time of boot, from which a start is counted, moves as a clock is set right
_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_EXPECTED = "%s in the engine's PATH as it started" % HOOK
_INSTALL = (
    "install nvidia-container-toolkit, `nvidia-ctk runtime configure --runtime=docker`, `systemctl restart docker`;"
    " or vllm_serve_gpus: false for containers without GPUs"
)
_RESTART = "`nvidia-ctk runtime configure --runtime=docker` and `systemctl restart docker`"


def look(socket=SOCKET, proc="/proc"):
    """Return what the toolkit is for the engine behind a socket: ``{"hook", "cdi_hook", "version", "newer", "engine"}``.

    ``hook`` and ``cdi_hook`` are paths in the PATH of the engine, ``""`` for none. ``engine`` tells whether its process was found: a
    rootless or remote one is not. ``newer`` is whether the hook came after the engine had started.
    """
    pid = _dockerd(socket, proc)
    path = (processes.environment_of(pid).get("PATH") if pid else None) or _DEFAULT_PATH
    # Its own root: an engine from a snap has another /usr than the machine.
    root = os.path.join(proc, str(pid), "root") if pid else ""
    root = root if os.path.isdir(root) else ""  # only its user and root may look there
    hook, cdi_hook = (_which(name, path, root) for name in (HOOK, CDI_HOOK))
    newer = bool(pid and hook) and os.lstat(root + hook).st_ctime > _started(pid, proc) + _SLACK_S
    found = {"engine": pid is not None, "hook": os.path.realpath(hook) if hook else "", "cdi_hook": cdi_hook, "newer": newer}
    return dict(found, version=_version(shutil.which(CTK, path=path)))


def _which(name, path, root):
    """Return where a program lies on a ``path`` below ``root``, as it is called there; ``""`` when it does not."""
    folders = [folder for folder in path.split(":") if os.path.isabs(folder)]
    found = shutil.which(name, path=":".join(root + folder for folder in folders)) if folders else None
    return found[len(root) :] if found else ""


def judge(info, found):
    """Return the reason (:func:`fact.reason`) for what ``docker info`` says (the API's dictionary) and :func:`look` found."""
    engine = "Docker %s" % (info.get("ServerVersion") or "of unknown version")
    runtimes = sorted(info.get("Runtimes") or {})
    seen = "%s, toolkit %s, runtimes %s" % (engine, found["version"] or "of unknown version", ", ".join(runtimes) or "none")
    if found["hook"]:
        if found["newer"] and "nvidia" not in runtimes:
            seen += "; %s is newer than the running engine, which may not know of it" % found["hook"]
            return fact.reason(CHECK, "degraded", seen, _EXPECTED, _RESTART)
        return fact.reason(CHECK, "healthy", "%s; %s" % (seen, found["hook"]), _EXPECTED)
    if not found["engine"]:
        seen += "; no process dockerd on this node, so that what is in its PATH cannot be seen"
        return fact.reason(CHECK, "skipped", seen, _EXPECTED)
    if found["cdi_hook"] and _major(info) >= CDI_SINCE:
        return _by_cdi(info, found, seen)
    return fact.reason(
        CHECK, "failed", "%s; no %s in the engine's PATH: it cannot give a container GPUs" % (seen, HOOK), _EXPECTED, _INSTALL
    )


def _by_cdi(info, found, seen):
    """Judge an engine that has only the hook of CDI."""
    devices = [item.get("ID", "") for item in info.get("DiscoveredDevices") or [] if item.get("Source") == "cdi"]
    gpus = [name for name in devices if name.startswith("nvidia.com/gpu=")]
    if gpus:
        return fact.reason(CHECK, "healthy", "%s; %s and the CDI devices %s" % (seen, found["cdi_hook"], ", ".join(gpus)), "CDI devices")
    folders = ", ".join(info.get("CDISpecDirs") or []) or "none, CDI is off"
    seen = "%s; %s, but no CDI device nvidia.com/gpu (looked in: %s) and no %s" % (seen, found["cdi_hook"], folders, HOOK)
    return fact.reason(
        CHECK, "failed", seen, "CDI devices, or " + _EXPECTED, "`nvidia-ctk cdi generate --output=/etc/cdi/nvidia.yaml`; or " + _INSTALL
    )


def _major(info):
    found = re.match(r"\d+", str(info.get("ServerVersion") or ""))
    return int(found.group()) if found else 0


def _dockerd(socket, proc):
    """Return the pid of the engine, None without one.

    It writes its pid beside its socket (``--pidfile``: /var/run/docker.pid; a rootless one's is in its XDG_RUNTIME_DIR). Another process
    dockerd may be one in a container, docker-in-docker: without that file, one that is in this node's own pid
    namespace goes first.
    """
    for folder in (os.path.dirname(socket), os.path.dirname(SOCKET)):
        named = read_int(os.path.join(folder, PIDFILE))
        if named and _is_dockerd(named, proc):
            return named
    found = [pid for pid in processes.pids(proc) if _is_dockerd(pid, proc)]
    return min(found, key=lambda pid: (_in_a_container(pid, proc), pid), default=None)


def _is_dockerd(pid, proc):
    return (read_text(os.path.join(proc, str(pid), "comm")) or "").strip() == "dockerd"


def _in_a_container(pid, proc):
    """Tell whether a process has a pid of its own in a namespace below this one: ``NSpid`` has more than one (proc_pid_status(5))."""
    found = re.search(r"^NSpid:(.*)$", read_text(os.path.join(proc, str(pid), "status")) or "", re.M)
    return bool(found) and len(found.group(1).split()) > 1


def _started(pid, proc):
    """Return when a process started, in seconds since the epoch: its folder in /proc does not tell, its ticks since boot do."""
    try:
        with open(os.path.join(proc, str(pid), "stat"), encoding="utf-8", errors="replace") as handle:
            ticks = int(handle.read().rpartition(")")[2].split()[19])
        with open(os.path.join(proc, "stat"), encoding="utf-8") as handle:
            boot = next(int(line.split()[1]) for line in handle if line.startswith("btime "))
        return boot + ticks / os.sysconf("SC_CLK_TCK")
    except (OSError, ValueError, IndexError, StopIteration):
        return float("inf")


def _version(program):
    """Return ``1.17.8`` of ``NVIDIA Container Toolkit CLI version 1.17.8``, ``""`` where it is not there or says something else."""
    if not program:
        return ""
    try:
        done = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = re.search(r"version (\S+)", done.stdout)
    return found.group(1) if found else ""
