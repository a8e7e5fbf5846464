"""Which interface carries an address, how fast it is, and how many bytes have left through it.

Everything here only reads: sysfs, the routes, the queueing discipline.
"""

from __future__ import annotations

import fcntl
import ipaddress
import json
import socket
import struct
import subprocess

from . import infiniband, interfaces

LOOPBACK = "127.0.0.1"
SIOCGIFADDR = 0x8915  # linux/sockios.h: the IPv4 address of an interface


def resolve(host, port=9):
    """Return ``(family, sockaddr)`` of a host name or address; OSError when it cannot be resolved."""
    family, _type, _proto, _name, sockaddr = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    return family, sockaddr


def local_address(towards):
    """Return the local address that packets to ``towards`` leave with. Nothing is sent: UDP connect only asks the routes."""
    family, sockaddr = resolve(towards)
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        probe.connect(sockaddr)
        return probe.getsockname()[0]


def is_loopback(address):
    """Tell whether a numeric address is one that only this machine reaches; a name is none."""
    try:
        return ipaddress.ip_address(address.split("%")[0]).is_loopback
    except ValueError:
        return False


def numeric(host):
    """Return the address of a host's name as this node resolves it, or ``host`` itself where it is one or has none."""
    try:
        return resolve(host)[1][0]
    except OSError:
        return host


def machine_address():
    """Return the IPv4 address by which other machines reach this one, None where it has only the loopback.

    That with which packets leave it (for 8.8.8.8, as Ray asks, without sending any), or that of its first interface that is up.
    """
    try:
        found = local_address("8.8.8.8")
        # A second address of an interface cannot be told from one that is not here, and would not be served on.
        if not is_loopback(found) and interface_of(found):
            return found
    except OSError:
        pass  # no route out: a machine without a network, or one that has only its neighbours
    for _index, name in sorted(socket.if_nameindex()):
        found = ipv4_of(name)
        if found and not is_loopback(found) and interfaces.state(name)["operstate"] in ("up", "unknown"):
            return found
    return None


def own_address(given):
    """Return the address of this machine that others can use, for one that the inventory gives it: an address or a name.

    A loopback address (``127.0.0.1``, ``localhost``, ``::1``, Debian's ``127.0.1.1`` for its own name) becomes the machine's own, and
    ``127.0.0.1`` where it has no other.
    """
    found = numeric(given)
    return (machine_address() or LOOPBACK) if is_loopback(found) else found


def ipv4_of(interface):
    """Return an interface's first IPv4 address, None when it has none."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        request = struct.pack("256s", interface.encode()[:15])
        try:
            reply = fcntl.ioctl(probe.fileno(), SIOCGIFADDR, request)
        except OSError:
            return None
    return socket.inet_ntoa(reply[20:24])


def ipv6_owner(address, table="/proc/net/if_inet6"):
    """Return the interface that has an IPv6 address, None when none has."""
    packed = socket.inet_pton(socket.AF_INET6, address.split("%")[0]).hex()
    try:
        with open(table, encoding="ascii") as lines:
            for line in lines:
                fields = line.split()
                if fields[0] == packed:
                    return fields[5]
    except OSError:
        pass
    return None


def interface_of(address):
    """Return the name of the interface that carries a local address, None when none does."""
    if ":" in address:
        return ipv6_owner(address)
    for _index, name in socket.if_nameindex():
        if ipv4_of(name) == address:
            return name
    return None


def link_rate_gbit_s(interface, root="/"):
    """Return a real NIC's line rate in Gbit/s, None when it is not known.

    A device without hardware behind it (veth, bridge) has a made-up speed of 10 Gbit/s: not known.
    """
    speed = interfaces.speed_mbit_s(interface, root) if interfaces.is_hardware(interface, root) else None
    return speed / 1000 if speed else None


def tbf_rate_bit_s(disciplines):
    """Return the rate in bits/s of the token bucket (tbf) at the root, None without one.

    ``disciplines`` is the decoded output of ``tc -j qdisc show dev <interface>``, whose rates are bytes per second.
    """
    rates = [item["options"]["rate"] for item in disciplines if item.get("kind") == "tbf" and item.get("root")]
    return int(min(rates)) * 8 if rates else None


def shaped_rate_gbit_s(interface, run=subprocess.run):
    """Return the rate in Gbit/s to which a token bucket (``tc tbf``) holds an interface, None when none does."""
    try:
        done = run(
            ["tc", "-j", "qdisc", "show", "dev", interface],
            env={"PATH": "/usr/sbin:/sbin:/usr/bin:/bin"}, capture_output=True, text=True, timeout=10, check=False,
        )  # fmt: skip
        rate = tbf_rate_bit_s(json.loads(done.stdout or "[]"))
    except (OSError, ValueError, subprocess.SubprocessError):
        return None
    return None if rate is None else rate / 1e9


def line_rate_gbit_s(interface):
    """Return the rate in Gbit/s that limits an interface: its shaper's if it has one, else its NIC's; None when unknown."""
    if interface == "lo":
        return None
    return shaped_rate_gbit_s(interface) or link_rate_gbit_s(interface)


def sent_bytes(interface, with_infiniband=False, root="/"):
    """Return the bytes sent so far: ``{interface: bytes}``, and each InfiniBand port's when asked for."""
    counters = {interface: interfaces.counter(interface, "tx_bytes", root)}
    if with_infiniband:
        counters.update({port.name: infiniband.sent_bytes(port) for port in infiniband.ports(root, infiniband.LINK_LAYER)})
    return counters


def free_port():
    """Return a TCP port of the loopback that was free a moment ago."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def port_error(port, address=""):
    """Return why a TCP port of this node, or of one of its addresses, cannot be listened on; None when it can."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((address, port))
        except OSError as error:
            return str(error)
    return None
