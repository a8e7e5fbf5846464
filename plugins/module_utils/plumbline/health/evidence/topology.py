"""How a node is put together: its NUMA nodes, which of them each GPU and InfiniBand adapter is at, and what ``nvidia-smi topo -m`` prints.

Sources: kernel documentation, ABI ``sysfs-devices-node`` and ``sysfs-bus-pci`` (``numa_node`` is -1 where the kernel does not know it);
the legend that ``nvidia-smi topo -m`` prints under its matrix.
"""

from __future__ import annotations

import os
import re

from ...core.files import read_int, read_text
from ...machine import infiniband, nvidia

ONLINE = "sys/devices/system/node/online"
PCI = "sys/bus/pci/devices"
ANSI = re.compile(r"\x1b\[[0-9;]*m")
GPU = re.compile(r"GPU\d+")
CELL = re.compile(r"X|NV\d+|PIX|PXB|PHB|NODE|SYS")
LEGEND = re.compile(r"\s*(NIC\d+)\s*:\s*(\S+)\s*")


def collect(tool, gpus, timeout_s=60, root="/"):
    """Return ``{"numa_nodes", "gpus", "adapters", "matrix", "said"}``.

    ``numa_nodes`` are the numbers of those online, None where they cannot be read; ``gpus`` is ``{address: NUMA node}`` of the addresses
    given, ``adapters`` ``{device: {"address", "numa_node"}}`` of InfiniBand; None for what is not known. ``matrix`` is that of
    :func:`parse`, None without ``tool`` (not asked) or an answer; then ``said`` says why.
    """
    adapters = dict.fromkeys(port.device for port in infiniband.ports(root, infiniband.LINK_LAYER))
    matrix, said = _ask(tool, timeout_s) if tool else (None, None)
    return {
        "numa_nodes": numbers(read_text(os.path.join(root, ONLINE))),
        "gpus": {address: numa_node(address, root) for address in gpus},
        "adapters": {
            device: {"address": infiniband.pci_address(device, root), "numa_node": infiniband.numa_node(device, root)}
            for device in adapters
        },
        "matrix": matrix,
        "said": said,
    }


def numa_node(address, root="/"):
    """Return the NUMA node that a PCI device is attached to, None where the kernel does not know (it writes -1)."""
    node = read_int(os.path.join(root, PCI, address, "numa_node"))
    return node if node is not None and node >= 0 else None


def numbers(text):
    """Return the numbers of a kernel's list such as ``0-1,4``; None for what is none."""
    found = []
    for part in (text or "").split(","):
        match = re.fullmatch(r"\s*(\d+)(?:-(\d+))?\s*", part)
        if match is None:
            return None
        found += range(int(match.group(1)), int(match.group(2) or match.group(1)) + 1)
    return found


def _ask(tool, timeout_s):
    """Return ``(matrix, None)``, or None and why there is none. All GPUs are asked for: the matrix takes no choice of them."""
    try:
        code, stdout, stderr = nvidia.run(tool, ["topo", "-m"], timeout_s, only=())
    except nvidia.NvidiaError as error:
        return None, str(error)
    matrix = parse(stdout)
    if matrix is None:
        words = " ".join((stderr.strip() or stdout.strip() or "no message").split())[:200]
        return None, "nvidia-smi topo -m ended with %d and no whole matrix: %s" % (code, words)
    return matrix, None


def parse(text):
    """Return ``{row: {column: cell}}`` of ``nvidia-smi topo -m``, NICs by the names of their devices; None for what is no whole matrix.

    Cells are those of the legend (``X``, ``NV18``, ``PIX``, ``PXB``, ``PHB``, ``NODE``, ``SYS``); another word is None.
    """
    lines = [ANSI.sub("", line) for line in text.splitlines()]
    start = next((place for place, line in enumerate(lines) if GPU.fullmatch(line.split()[0] if line.split() else "")), None)
    if start is None:
        return None
    names = lines[start].partition("CPU Affinity")[0].split()
    rows = {}
    for line in lines[start + 1 :]:
        words = line.split()
        if words and words[0] in names and len(words) > len(names):
            rows[words[0]] = words[1 : len(names) + 1]
        elif words:
            break  # the legend, or what is none of a matrix
    if [name for name in names if name not in rows] or not names:
        return None
    known = dict(found.groups() for found in map(LEGEND.fullmatch, lines) if found)
    return {
        known.get(row, row): {
            known.get(column, column): cell if CELL.fullmatch(cell) else None for column, cell in zip(names, rows[row])
        }
        for row in names
    }  # fmt: skip
