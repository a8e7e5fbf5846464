"""The interface that holds a node's address: which one it is, its state and its counters."""

from __future__ import annotations

import array
import fcntl
import os
import socket
import struct

from ...core.files import read_text
from ...machine import interfaces

SIOCGIFCONF = 0x8912  # linux/sockios.h: the addresses of every interface


def ipv4_addresses():
    """Return ``{address: interface}`` for every IPv4 address of this node (ioctl SIOCGIFCONF)."""
    size = 40 if struct.calcsize("P") == 8 else 32  # sizeof(struct ifreq)
    room = 512 * size
    buffer = array.array("B", bytes(room))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("iP", room, buffer.buffer_info()[0])
        used = struct.unpack("iP", fcntl.ioctl(sock.fileno(), SIOCGIFCONF, request))[0]
    data = buffer.tobytes()
    found = {}
    for offset in range(0, used, size):
        name = data[offset : offset + 16].split(b"\0", 1)[0].decode()
        found[socket.inet_ntoa(data[offset + 20 : offset + 24])] = name.split(":")[0]
    return found


def ipv6_addresses(root="/"):
    """Return ``{address: interface}`` for every IPv6 address of this node (``/proc/net/if_inet6``)."""
    found = {}
    for line in (read_text(os.path.join(root, "proc/net/if_inet6")) or "").splitlines():
        fields = line.split()
        if len(fields) == 6:
            found[socket.inet_ntop(socket.AF_INET6, bytes.fromhex(fields[0]))] = fields[5]
    return found


def default_interface(root="/"):
    """Return the interface of the IPv4 default route, or None."""
    for line in (read_text(os.path.join(root, "proc/net/route")) or "").splitlines()[1:]:
        fields = line.split()
        if len(fields) > 7 and fields[1] == "00000000" and fields[7] == "00000000":
            return fields[0]
    return None


def is_loopback(address):
    """Return whether ``address`` is one of the node talking to itself."""
    return address.startswith("127.") or address == "::1"


def find_interface(address, own, ssh_connection, default):
    """Return ``(interface, address, how it was found)``; interface None when nothing leads to one.

    ``address`` is what the inventory calls the node, which behind NAT (a public address on Azure) is on no
    interface of the node: then the address at which sshd took this connection, then the default route, decide.
    """
    candidates = []
    if address:
        try:
            candidates = sorted({info[4][0].split("%")[0] for info in socket.getaddrinfo(address, None)})
        except (OSError, UnicodeError):
            candidates = []  # a name that only the controller knows
    for item in candidates:
        if item in own and not is_loopback(item):
            return own[item], item, "inventory address"
    server = (ssh_connection or "").split()[2:3]
    if server and server[0] in own and not is_loopback(server[0]):
        return own[server[0]], server[0], "address of the SSH connection"
    if default:
        held = sorted(item for item, name in own.items() if name == default)
        return default, held[0] if held else None, "default route"
    for item in candidates:
        if item in own:
            return own[item], item, "inventory address (loopback)"
    return None, None, "not found"


def nic(address=None, root="/"):
    """Return state, carrier, mtu, speed and error counters of the interface that holds the node's address."""
    own = dict(ipv6_addresses(root))
    own.update(ipv4_addresses())
    name, held, how = find_interface(address, own, os.environ.get("SSH_CONNECTION"), default_interface(root))
    seen = {"interface": name, "address": held, "how": how, "wanted": address}
    if name is None:
        return seen
    seen.update(interfaces.state(name, root))
    for counter in ("rx_packets", "tx_packets", "rx_errors", "tx_errors", "rx_dropped", "tx_dropped"):
        seen[counter] = interfaces.counter(name, counter, root)
    return seen
