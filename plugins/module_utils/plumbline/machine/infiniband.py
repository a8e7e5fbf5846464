"""InfiniBand as the kernel shows it: devices and their ports below ``/sys/class/infiniband``. Everything here only reads.

Source: kernel documentation, ABI ``sysfs-class-infiniband``. ``root`` is the folder below which ``/sys`` lies.
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from ..core.files import read_int, read_text

FOLDER = "sys/class/infiniband"
# IBA, PortInfo: PortState and PortPhysicalState.
ACTIVE = (4, "ACTIVE")
POLLING, DISABLED, LINK_UP = (2, "Polling"), (3, "Disabled"), (5, "LinkUp")
LINK_LAYER = "InfiniBand"  # the other one is "Ethernet": RoCE, and Azure's accelerated network
WORD_BYTES = 4  # port_xmit_data counts in units of 4 bytes (IBA, PortXmitData)


class Port(NamedTuple):
    """One port: its device (``mlx5_ib0``), its number as sysfs writes it (``1``), and its folder."""

    device: str
    number: str
    folder: str

    @property
    def name(self):
        """Return ``mlx5_ib0/1``."""
        return "%s/%s" % (self.device, self.number)


def _names(folder):
    try:
        return sorted(os.listdir(folder))
    except OSError:
        return []


def _device(name, root):
    return os.path.join(root, FOLDER, name)


def has_device(name, root="/"):
    """Return whether there is a device of this name, whatever its ports speak."""
    return os.path.exists(_device(name, root))


def ports(root="/", layer=None):
    """Return every :class:`Port` in order of device and number; with ``layer``, only those that speak it."""
    found = []
    for device in _names(os.path.join(root, FOLDER)):
        base = os.path.join(_device(device, root), "ports")
        found += [Port(device, number, os.path.join(base, number)) for number in _names(base)]
    return [port for port in found if layer is None or link_layer(port) == layer]


def link_layer(port):
    """Return ``InfiniBand`` or ``Ethernet``, None when it cannot be read."""
    return read_text(os.path.join(port.folder, "link_layer"))


def state(port):
    """Return ``state``, ``phys_state`` and ``link_layer`` in the kernel's words and ``rate_gbit_s``; None for what cannot be read."""
    rate = re.match(r"([0-9]+(?:\.[0-9]+)?)\s*G", read_text(os.path.join(port.folder, "rate")) or "", re.IGNORECASE)
    return {
        "state": read_text(os.path.join(port.folder, "state")),
        "phys_state": read_text(os.path.join(port.folder, "phys_state")),
        "link_layer": link_layer(port),
        "rate_gbit_s": float(rate.group(1)) if rate else None,
    }


def counter(port, name, folder="counters"):
    """Return a counter of the port, such as ``link_downed``; None when it cannot be read, or is no count.

    ``folder`` is ``counters`` (the port's, as IBA has them) or ``hw_counters`` (the adapter's own, by its driver).
    """
    value = read_int(os.path.join(port.folder, folder, name))
    return value if value is not None and value >= 0 else None


def has_counter(port, name, folder="counters"):
    """Return whether the driver shows a counter of this name, readable or not."""
    return os.path.exists(os.path.join(port.folder, folder, name))


def registration(port):
    """Return a number that is another one when the device left and came back, None when the port is gone.

    sysfs gives each folder an inode number of its own, and a driver that is loaded again registers its devices anew.
    """
    try:
        return os.stat(port.folder).st_ino
    except OSError:
        return None


def is_state(text, state):
    """Return whether what the kernel wrote (``4: ACTIVE``) is ``state``, a number and its word; the number decides where there is one."""
    number, colon, word = (text or "").rpartition(":")
    if colon and number.strip().isdecimal():
        return int(number) == state[0]
    return word.strip().lower() == state[1].lower()


def sent_bytes(port):
    """Return the bytes that the port has sent since its counters were reset; None when they cannot be read."""
    words = counter(port, "port_xmit_data")
    return None if words is None else words * WORD_BYTES


def received_bytes(port):
    """Return the bytes that the port has received since its counters were reset; None when they cannot be read."""
    words = counter(port, "port_rcv_data")
    return None if words is None else words * WORD_BYTES


def firmware(device, root="/"):
    """Return a device's firmware version, None when it cannot be read."""
    return read_text(os.path.join(_device(device, root), "fw_ver"))


def interface_of(device, root="/"):
    """Return the network interface of a device (``ib0``), the first one where it has several; None without one."""
    names = _names(os.path.join(_device(device, root), "device/net"))
    return names[0] if names else None


def pci_address(device, root="/"):
    """Return a device's PCI address, ``0101:00:00.0``; None where it has none, or it cannot be read."""
    address = os.path.basename(os.path.realpath(os.path.join(_device(device, root), "device"))).lower()
    return address if re.fullmatch(r"[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]", address) else None


def numa_node(device, root="/"):
    """Return the NUMA node that a device is attached to, None where the kernel does not know (it writes -1)."""
    node = read_int(os.path.join(_device(device, root), "device/numa_node"))
    return node if node is not None and node >= 0 else None
