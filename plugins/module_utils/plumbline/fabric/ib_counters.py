"""The counters of InfiniBand ports, read before and after a phase of measurements: what each one grew by, and what passed the ports.

A reading is ``{"boot_id", "at_s", "ports": {name: {...}}, "interface": {...}}``; it only reads sysfs. ``at_s`` is the kernel's monotonic
clock, which two processes share. Sources: kernel documentation, ABI ``sysfs-class-infiniband``; the kernel's
``drivers/infiniband/core/sysfs.c``, whose ``PORT_PMA_ATTR`` has the width of each counter; IBA, PortCounters: they stop at their end.
"""

from __future__ import annotations

import os
import time

from ..core.files import read_text
from ..machine import infiniband, interfaces

PORT, ADAPTER = "counters", "hw_counters"

# By name: (folder, bits). A counter of the port stops where its bits end, and stays there until it is cleared.
ERRORS = {
    "symbol_error": (PORT, 16),
    "link_error_recovery": (PORT, 8),
    "link_downed": (PORT, 8),
    "port_rcv_errors": (PORT, 16),
    "port_rcv_remote_physical_errors": (PORT, 16),
    "port_xmit_discards": (PORT, 16),
    "port_xmit_constraint_errors": (PORT, 8),
    "port_rcv_constraint_errors": (PORT, 8),
    "local_link_integrity_errors": (PORT, 4),
    "excessive_buffer_overrun_errors": (PORT, 4),
    "VL15_dropped": (PORT, 16),
    "local_ack_timeout_err": (ADAPTER, None),
    "rnr_nak_retry_err": (ADAPTER, None),
    "req_rnr_retries_exceeded": (ADAPTER, None),
    "req_transport_retries_exceeded": (ADAPTER, None),
    "packet_seq_err": (ADAPTER, None),
    "out_of_sequence": (ADAPTER, None),
}
BOOT_ID = "proc/sys/kernel/random/boot_id"


def read(interface=None, root="/"):
    """Return a reading of every port whose layer is InfiniBand, or cannot be read, and of ``interface``, the Ethernet beside them."""
    ports = [port for port in infiniband.ports(root) if infiniband.link_layer(port) in (infiniband.LINK_LAYER, None)]
    return {
        "boot_id": read_text(os.path.join(root, BOOT_ID)),
        "at_s": time.monotonic(),
        "ports": {port.name: _port(port) for port in ports},
        "interface": _interface(interface, root) if interface else None,
    }


def _port(port):
    """Return one port: its layer, its registration, its bytes, and its counters; one that the driver does not show is not there."""
    return {
        "link_layer": infiniband.link_layer(port),
        "registration": infiniband.registration(port),
        "sent_bytes": infiniband.sent_bytes(port),
        "received_bytes": infiniband.received_bytes(port),
        "errors": {
            name: infiniband.counter(port, name, folder)
            for name, (folder, _bits) in ERRORS.items()
            if infiniband.has_counter(port, name, folder)
        },
    }


def _interface(name, root):
    return {
        "name": name,
        "sent_bytes": interfaces.counter(name, "tx_bytes", root),
        "received_bytes": interfaces.counter(name, "rx_bytes", root),
    }


def is_reading(value):
    """Return whether ``value`` is a reading, and not what is left where the first one failed."""
    return isinstance(value, dict) and isinstance(value.get("ports"), dict) and isinstance(value.get("at_s"), (int, float))


def difference(before, after):
    """Return what happened between two readings.

    ``window_s``; ``rebooted``; ``gone``, ``came`` and ``restarted``, names of ports; ``unlayered``, ports whose layer cannot be read;
    ``ports``: ``{name: {"sent_bytes", "received_bytes", "errors": {counter: Growth}}}`` of those that are there at both ends;
    ``interface`` with its bytes, or None. Bytes are None where a counter cannot be read, or went back.
    """
    old, new = before["ports"], after["ports"]
    both = [name for name in new if name in old]
    return {
        "window_s": max(0.0, after["at_s"] - before["at_s"]),  # a reboot sets the clock to zero
        "rebooted": before.get("boot_id") != after["boot_id"],
        "gone": [name for name in old if name not in new],
        "came": [name for name in new if name not in old],
        "restarted": [name for name in both if old[name]["registration"] != new[name]["registration"]],
        "unlayered": [name for name in new if new[name]["link_layer"] is None],
        "ports": {name: _grown(old[name], new[name]) for name in both},
        "interface": _carried(before.get("interface"), after["interface"]),
    }


def _grown(old, new):
    return {
        "sent_bytes": grown(old["sent_bytes"], new["sent_bytes"]),
        "received_bytes": grown(old["received_bytes"], new["received_bytes"]),
        "errors": {
            name: growth(old["errors"].get(name), new["errors"].get(name), ERRORS[name][1])
            for name in ERRORS
            if name in old["errors"] or name in new["errors"]
        },
    }


def _carried(old, new):
    if not old or not new or old["name"] != new["name"]:
        return None
    return {
        "name": new["name"],
        "sent_bytes": grown(old["sent_bytes"], new["sent_bytes"]),
        "received_bytes": grown(old["received_bytes"], new["received_bytes"]),
    }


def grown(start, end):
    """Return the growth of a counter; None where a side was not read, or it went back."""
    return end - start if start is not None and end is not None and end >= start else None


def growth(start, end, bits=None):
    """Return ``{"count", "whole", "why"}``: by how much a counter grew, and whether that is all.

    ``count`` is None where it was read at neither end or not at the end. Where it went back (cleared, or its driver was loaded again) it is
    what was counted since, so at least that; where it stands at its end, what was counted until there. ``why`` says so.
    """
    last = 2**bits - 1 if bits else None
    if start is None and end is None:
        return {"count": None, "whole": False, "why": "unreadable"}
    if end is None or start is None:
        return {"count": None, "whole": False, "why": "read at one end only"}
    if end < start:
        return {"count": end, "whole": False, "why": "went back from %d to %d" % (start, end)}
    if end == last:
        return {"count": end - start, "whole": False, "why": "stands at its end, %d" % end}
    return {"count": end - start, "whole": True, "why": None}
