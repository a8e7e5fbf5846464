"""The sysfs of network interfaces, from a recorded folder."""

from __future__ import annotations

import pytest
from ansible.module_utils.plumbline.machine import interfaces
from health_nodes import write

BASE = "sys/class/net/eth7/"


def test_an_interface_is_read_whole(tmp_path):
    for name, text in (("operstate", "up"), ("carrier", "1"), ("carrier_changes", "2"), ("mtu", "1500"), ("speed", "100000")):
        write(tmp_path, BASE + name, text)
    write(tmp_path, BASE + "statistics/tx_bytes", "1000")
    root = str(tmp_path)
    state = {"operstate": "up", "carrier": 1, "carrier_changes": 2, "mtu": 1500, "speed_mbit_s": 100000}
    assert interfaces.state("eth7", root) == state
    assert interfaces.counter("eth7", "tx_bytes", root) == 1000 and interfaces.counter("eth7", "rx_bytes", root) is None
    assert interfaces.names(root) == ["eth7"] and interfaces.exists("eth7", root)
    assert interfaces.is_hardware("eth7", root) is False
    (tmp_path / BASE / "device").mkdir()
    assert interfaces.is_hardware("eth7", root) is True


@pytest.mark.parametrize("text", ["-1", "0", "", "unknown"])
def test_a_speed_that_the_driver_does_not_know_is_none(tmp_path, text):
    write(tmp_path, BASE + "speed", text)
    assert interfaces.speed_mbit_s("eth7", str(tmp_path)) is None


def test_what_is_not_there_is_none(tmp_path):
    assert interfaces.names(str(tmp_path)) is None and interfaces.exists("eth7", str(tmp_path)) is False
    assert set(interfaces.state("eth7", str(tmp_path)).values()) == {None}
