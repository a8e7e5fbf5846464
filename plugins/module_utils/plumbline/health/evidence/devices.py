"""The network interfaces and NVMe disks that a node has, by name."""

from __future__ import annotations

import os
import re

from ...machine import interfaces


def devices(root="/"):
    """Return ``{"interfaces": [...], "nvme": [...]}``; None for what cannot be listed."""
    try:
        disks = sorted(name for name in os.listdir(os.path.join(root, "sys/block")) if re.fullmatch(r"nvme\d+n1", name))
    except OSError:
        disks = None
    return {"interfaces": interfaces.names(root), "nvme": disks}
