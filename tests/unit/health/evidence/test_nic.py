"""The interface that holds a node's address: by recorded tables, and of this machine."""

from __future__ import annotations

import pytest
from ansible.module_utils.plumbline.health.evidence import nic
from health_nodes import write


@pytest.mark.parametrize(
    ("address", "ssh", "default", "found"),
    [
        ("10.0.0.4", None, "eth0", ("eth1", "10.0.0.4", "inventory address")),
        ("20.1.2.3", "9.9.9.9 5 10.0.0.5 22", "eth1", ("eth0", "10.0.0.5", "address of the SSH connection")),
        ("20.1.2.3", None, "eth1", ("eth1", "10.0.0.4", "default route")),
        ("127.0.0.1", None, None, ("lo", "127.0.0.1", "inventory address (loopback)")),
        ("20.1.2.3", None, None, (None, None, "not found")),
        (None, None, None, (None, None, "not found")),
    ],
)
def test_interface_is_found(address, ssh, default, found):
    own = {"127.0.0.1": "lo", "10.0.0.5": "eth0", "10.0.0.4": "eth1"}
    assert nic.find_interface(address, own, ssh, default) == found


def test_loopback_of_this_machine_is_read():
    assert nic.ipv4_addresses()["127.0.0.1"] == "lo"
    seen = nic.nic("127.0.0.1")
    assert seen["interface"] and seen["mtu"] > 0 and seen["rx_packets"] is not None


def test_default_route_and_ipv6(tmp_path):
    route = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
    route += "eth1\t0000620A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\neth0\t00000000\t0100000A\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"
    write(tmp_path, "proc/net/route", route)
    write(tmp_path, "proc/net/if_inet6", "fe80000000000000022248fffe000001 02 40 20 80     eth0\n")
    assert nic.default_interface(str(tmp_path)) == "eth0"
    assert nic.ipv6_addresses(str(tmp_path)) == {"fe80::222:48ff:fe00:1": "eth0"}
