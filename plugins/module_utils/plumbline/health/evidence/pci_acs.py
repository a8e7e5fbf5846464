"""Access Control Services of the PCI bridges above GPUs and InfiniBand adapters, from their configuration space.

PCI Express Base Specification: extended capabilities begin at 0x100 with a header of id (16 bits), version (4) and next offset (12);
ACS is 0x000d, and its control register (6 bytes on) has P2P request redirect in bit 2 and completion redirect in bit 3.
"""

from __future__ import annotations

import os
import re
import struct

from ...core.files import read_text

DEVICES = "sys/bus/pci/devices"
NVIDIA, MELLANOX = "0x10de", "0x15b3"
BRIDGE = "0x0604"  # class and subclass of a PCI-to-PCI bridge
ADDRESS = re.compile(r"[0-9a-f]{4,}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")
EXTENDED, ACS, REDIRECT = 0x100, 0x000D, 0b1100


def pci_acs(root="/"):
    """Return ``{"bridges": count, "redirecting": [...], "unreadable": [...]}`` of the bridges above GPUs and Mellanox adapters."""
    folder = os.path.join(root, DEVICES)
    bridges = {}
    for name in sorted(os.listdir(folder)) if os.path.isdir(folder) else []:
        if read_text(os.path.join(folder, name, "vendor")) in (NVIDIA, MELLANOX):
            for above in _above(os.path.join(folder, name)):
                bridges[os.path.basename(above)] = above
    read = {name: control(path) for name, path in bridges.items()}
    return {
        "bridges": len(bridges),
        "redirecting": sorted(name for name, bits in read.items() if bits and bits & REDIRECT),
        "unreadable": sorted(name for name, bits in read.items() if bits is None),
    }


def _above(device):
    """Yield the folders of the bridges between the root and a device: sysfs nests them."""
    here = os.path.dirname(os.path.realpath(device))
    while ADDRESS.fullmatch(os.path.basename(here)):
        if (read_text(os.path.join(here, "class")) or "").startswith(BRIDGE):
            yield here
        here = os.path.dirname(here)


def control(device):
    """Return the ACS control register of a device, 0 where it has no ACS, None where its extended space cannot be read."""
    try:
        with open(os.path.join(device, "config"), "rb") as stream:
            data = stream.read()
    except OSError:
        return None
    if len(data) <= 64:
        return None  # what everybody may read; a conventional device has 256 bytes, and no ACS
    offset = EXTENDED
    for _capability in range(48):
        if offset < EXTENDED or offset + 8 > len(data):
            return 0
        header = struct.unpack_from("<I", data, offset)[0]
        if header & 0xFFFF == ACS:
            return struct.unpack_from("<H", data, offset + 6)[0]
        offset = header >> 20
    return 0
