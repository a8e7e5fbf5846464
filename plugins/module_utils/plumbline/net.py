"""Which of this node's interfaces carries an address, and what the kernel says of it."""

from __future__ import annotations

import fcntl
import os
import socket
import struct

SIOCGIFADDR = 0x8915  # linux/sockios.h


def address_of(interface):
    """Return the first IPv4 address of ``interface``, or None."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as handle:
        try:
            answer = fcntl.ioctl(handle.fileno(), SIOCGIFADDR, struct.pack("256s", interface.encode()[:15]))
        except OSError:
            return None
    return socket.inet_ntoa(answer[20:24])


def interface_of(address):
    """Return the name of the interface whose IPv4 address is ``address``, or None."""
    for interface in sorted(os.listdir("/sys/class/net")):
        if address_of(interface) == address:
            return interface
    return None
