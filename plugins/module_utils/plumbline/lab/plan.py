"""The lab's arithmetic: names, addresses, link rates, and what the kernel's own tables say.

Nothing here touches the machine; :mod:`lab.host` does.
"""

from __future__ import annotations

import ipaddress
import re

# Interface names have 15 characters at most (IFNAMSIZ); the longest we make is "<lab>h<number>".
LAB_NAME = re.compile(r"^[a-z][a-z0-9]{0,7}$")
MAX_NODES = 200
FIRST_HOST = 11  # lab1 is x.y.z.11 (in the subnet's own arithmetic): the low addresses stay free for gateways.

# tc's units: "bit" units are decimal powers, "ibit" binary, "bps" means bytes per second (tc(8)).
_PREFIX = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "t": 10**12, "ki": 2**10, "mi": 2**20, "gi": 2**30, "ti": 2**40}
_RATE = re.compile(r"^(\d+(?:\.\d+)?)(ki|mi|gi|ti|k|m|g|t|)(bit|bps)$")
_SIZE = re.compile(r"^(\d+(?:\.\d+)?)([kmgt]?)(?:i?b)?$")

UNLIMITED = "unlimited"
TBF_LATENCY = "50ms"

REAL_INVENTORY = (
    "To run on machines that exist already, no lab is needed: list them in the group `nodes` of an inventory and run"
    " `ansible-playbook -i <inventory> site.yml` (inventory/static is an example, inventory/azure finds a scale set)."
)


class LabError(ValueError):
    """A wrong argument, said in a sentence for the person who gave it."""


def check_name(name):
    """Return ``name`` or raise :class:`LabError`: it becomes part of interface names."""
    if not LAB_NAME.match(name or ""):
        raise LabError(
            "lab_name is %r: expected 1 to 8 characters, lower case letters and digits, a letter first"
            " (it becomes part of interface names)" % name
        )
    return name


def bridge_name(lab):
    """Return the name of the lab's bridge."""
    return lab + "br0"


def link_name(lab, index):
    """Return the name of the machine's end of node ``index``'s link."""
    return "%sh%d" % (lab, index)


def mac(address):
    """Return the hardware address that goes with an IPv4 address: locally administered, the same after each restart.

    With a new one, the other nodes would send to the old until their neighbour entries expire.
    """
    return "02:00:" + ":".join("%02x" % byte for byte in ipaddress.IPv4Address(address).packed)


def parse_rate(text):
    """Return bits per second for a rate as tc writes it (``200mbit``, ``10mbps``), None for ``unlimited``."""
    text = str(text).strip().lower()
    if text == UNLIMITED:
        return None
    match = _RATE.match(text)
    if not match or not float(match.group(1)):
        raise LabError("link rate is %r: expected a rate as tc writes it, such as 200mbit, or unlimited" % text)
    bits = float(match.group(1)) * _PREFIX[match.group(2)]
    return int(bits * (8 if match.group(3) == "bps" else 1))


def parse_size(text):
    """Return bytes for a size such as ``6G`` or ``512M`` (powers of 1024, as mkfs and tmpfs read them)."""
    match = _SIZE.match(str(text).strip().lower())
    if not match or not float(match.group(1)):
        raise LabError("size is %r: expected a number and a unit, such as 6G or 512M" % text)
    return int(float(match.group(1)) * 1024 ** ("_kmgt".index(match.group(2)) if match.group(2) else 0))


def tbf_burst(bits_per_second):
    """Return a token bucket in bytes: 2 ms of the rate, at least 64 KiB so that one offloaded packet fits."""
    return max(64 * 1024, bits_per_second // 8 // 500)


def tbf(bits_per_second):
    """Return tc's words for a token bucket of that rate, after ``tc qdisc replace dev <interface> root``."""
    return ["tbf", "rate", "%dbit" % bits_per_second, "burst", str(tbf_burst(bits_per_second)), "latency", TBF_LATENCY]


def plan(lab, count, subnet, rate, rates=None):
    """Return the lab's network: controller, prefix, bridge and, for each node, name, address, link and rate.

    ``rates`` overrides ``rate`` by node name. Raises :class:`LabError`.
    """
    check_name(lab)
    if not 1 <= count <= MAX_NODES:
        raise LabError("lab_nodes is %d: expected 1 to %d" % (count, MAX_NODES))
    try:
        network = ipaddress.IPv4Network(subnet)
    except ValueError as error:
        raise LabError("lab_subnet is %r: expected a network such as 10.98.0.0/16 (%s)" % (subnet, error)) from None
    if network.num_addresses < FIRST_HOST + count + 2:
        raise LabError("lab_subnet %s is too small for %d nodes: expected a /24 or wider" % (subnet, count))
    nodes = [
        {
            "name": "%s%d" % (lab, index),
            "index": index,
            "address": str(network[FIRST_HOST - 1 + index]),
            "link": link_name(lab, index),
            "link_rate": str((rates or {}).get("%s%d" % (lab, index), rate)),
        }
        for index in range(1, count + 1)
    ]
    unknown = sorted(set(rates or {}) - {node["name"] for node in nodes})
    if unknown:
        raise LabError(
            "lab_node_link_rates names %s, but the lab's nodes are %s" % (", ".join(unknown), ", ".join(node["name"] for node in nodes))
        )
    for node in nodes:
        parse_rate(node["link_rate"])
    return {
        "name": lab,
        "bridge": bridge_name(lab),
        "subnet": str(network),
        "prefix": network.prefixlen,
        "controller": str(network[-2]),
        "nodes": nodes,
    }


def overlaps(subnet, addresses, bridge):
    """Return sentences for each of the machine's addresses that lie in ``subnet`` on another interface than ``bridge``.

    ``addresses`` is the decoded output of ``ip -j -4 address``.
    """
    network = ipaddress.IPv4Network(subnet)
    found = []
    for link in addresses:
        for item in link.get("addr_info", []):
            if link.get("ifname") == bridge or "local" not in item:
                continue
            other = ipaddress.IPv4Network("%s/%s" % (item["local"], item.get("prefixlen", 32)), strict=False)
            if other.overlaps(network):
                found.append("%s has %s/%s" % (link["ifname"], item["local"], item.get("prefixlen", 32)))
    return found


def explain(missing):
    """Return the message for a machine that cannot carry a lab; ``missing`` is a list of what and how to get it."""
    lines = ["This machine cannot carry the lab. Missing:"]
    lines += ["  - %s" % item for item in missing]
    lines.append(REAL_INVENTORY)
    return "\n".join(lines)


def is_pid1(status):
    """Say whether ``/proc/<pid>/status`` describes the first process of a pid namespace just below the reader's own."""
    for line in status.splitlines():
        if line.startswith("NSpid:"):
            pids = line.split()[1:]
            return len(pids) == 2 and pids[1] == "1"
    return False


def established_inodes(table, address, port=22):
    """Return the socket inodes in ``/proc/net/tcp`` text that are connected to ``address``:``port``."""
    packed = ipaddress.IPv4Address(address).packed[::-1].hex().upper()  # little endian, as the kernel prints it
    remote = "%s:%04X" % (packed, port)
    inodes = set()
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) > 9 and fields[2] == remote and fields[9] != "0":
            inodes.add(fields[9])
    return inodes
