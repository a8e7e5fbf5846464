"""Network interfaces as the kernel shows them below ``/sys/class/net``. Everything here only reads.

Source: kernel documentation, ABI ``sysfs-class-net`` and ``sysfs-class-net-statistics``. ``root`` is the folder below which
``/sys`` lies.
"""

from __future__ import annotations

import os

from ..core.files import read_int, read_text

FOLDER = "sys/class/net"


def names(root="/"):
    """Return the names of all interfaces in order, None when they cannot be listed."""
    try:
        return sorted(os.listdir(os.path.join(root, FOLDER)))
    except OSError:
        return None


def exists(name, root="/"):
    """Return whether there is an interface of this name."""
    return os.path.isdir(os.path.join(root, FOLDER, name))


def is_hardware(name, root="/"):
    """Return whether a device is behind the interface; a veth or a bridge has none."""
    return os.path.exists(os.path.join(root, FOLDER, name, "device"))


def number(name, attribute, root="/"):
    """Return an integer that the kernel keeps of an interface, such as ``carrier_changes``; None when it cannot be read."""
    return read_int(os.path.join(root, FOLDER, name, attribute))


def counter(name, which, root="/"):
    """Return a counter of an interface since boot, such as ``tx_bytes``; None when it cannot be read."""
    return number(name, os.path.join("statistics", which), root)


def speed_mbit_s(name, root="/"):
    """Return the speed in Mbit/s; None where the driver does not know it or there is no link (it writes -1)."""
    speed = number(name, "speed", root)
    return speed if speed and speed > 0 else None


def state(name, root="/"):
    """Return ``operstate``, ``carrier`` (0 or 1), ``carrier_changes``, ``mtu`` in bytes and ``speed_mbit_s``; None where unknown."""
    return {
        "operstate": read_text(os.path.join(root, FOLDER, name, "operstate")),
        "carrier": number(name, "carrier", root),
        "carrier_changes": number(name, "carrier_changes", root),
        "mtu": number(name, "mtu", root),
        "speed_mbit_s": speed_mbit_s(name, root),
    }
