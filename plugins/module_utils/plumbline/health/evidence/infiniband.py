"""The InfiniBand-class ports of a node, with the signs of a lost link.

They come from sysfs, not from syslog: its timestamps may be in a format that a log scan does not understand.
"""

from __future__ import annotations

from ...machine import infiniband, interfaces


def collect(root="/"):
    """Return ``[port, ...]`` in order of device and port; numbers that cannot be read are None."""
    return [_port(port, root) for port in infiniband.ports(root)]


def _port(port, root):
    name = infiniband.interface_of(port.device, root)
    return dict(
        infiniband.state(port),
        name=port.device if port.number == "1" else "%s:%s" % (port.device, port.number),
        link_downed=infiniband.counter(port, "link_downed"),
        firmware=infiniband.firmware(port.device, root),
        interface=name,
        carrier_changes=interfaces.number(name, "carrier_changes", root) if name else None,
    )
