"""The system of a node: its name, kernel, distribution and boot."""

from __future__ import annotations

import os
import platform
import socket
from datetime import datetime, timezone

from ...core.files import read_text


def system(root="/"):
    """Return hostname, kernel, os, python, boot time and boot id."""
    release = {}
    for line in (read_text(os.path.join(root, "etc/os-release")) or "").splitlines():
        key, _sep, value = line.partition("=")
        release[key] = value.strip("\"'")
    booted = None
    for line in (read_text(os.path.join(root, "proc/stat")) or "").splitlines():
        if line.startswith("btime "):
            booted = datetime.fromtimestamp(int(line.split()[1]), timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
    return {
        "hostname": socket.gethostname(),
        "kernel": platform.release(),
        "os": release.get("PRETTY_NAME"),
        "python": platform.python_version(),
        "booted_at": booted,
        "boot_id": read_text(os.path.join(root, "proc/sys/kernel/random/boot_id")),
    }
