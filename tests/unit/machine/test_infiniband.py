"""InfiniBand's sysfs, from a recorded folder: the one reader of it."""

from __future__ import annotations

import pytest
from ansible.module_utils.plumbline.machine import infiniband
from health_nodes import sysfs, write


def test_a_port_is_read_whole(tmp_path):
    sysfs(tmp_path)
    ports = infiniband.ports(str(tmp_path))
    assert [port.name for port in ports] == ["mlx5_ib%d/1" % number for number in range(8)]
    state = {"state": "4: ACTIVE", "phys_state": "5: LinkUp", "link_layer": "InfiniBand", "rate_gbit_s": 400.0}
    assert infiniband.state(ports[3]) == state
    assert infiniband.counter(ports[3], "link_downed") == 0 and infiniband.sent_bytes(ports[3]) is None
    assert infiniband.firmware("mlx5_ib3", str(tmp_path)) == "28.39.3004"
    assert infiniband.interface_of("mlx5_ib3", str(tmp_path)) == "ib3"
    assert infiniband.has_device("mlx5_ib3", str(tmp_path)) and not infiniband.has_device("mlx5_an0", str(tmp_path))


def test_ports_by_link_layer_and_what_was_sent(tmp_path):
    for device, layer in (("mlx5_0", "InfiniBand"), ("mlx5_1", "Ethernet")):
        write(tmp_path, "sys/class/infiniband/%s/ports/1/link_layer" % device, layer)
        write(tmp_path, "sys/class/infiniband/%s/ports/1/counters/port_xmit_data" % device, "25")
    assert [port.device for port in infiniband.ports(str(tmp_path))] == ["mlx5_0", "mlx5_1"]
    (port,) = infiniband.ports(str(tmp_path), infiniband.LINK_LAYER)
    assert (port.device, port.number, infiniband.sent_bytes(port)) == ("mlx5_0", "1", 100)


@pytest.mark.parametrize(("text", "rate"), [("400 Gb/sec (4X NDR)", 400.0), ("2.5 Gb/sec (1X SDR)", 2.5), ("unknown", None)])
def test_rate(tmp_path, text, rate):
    write(tmp_path, "sys/class/infiniband/mlx5_0/ports/1/rate", text)
    assert infiniband.state(infiniband.ports(str(tmp_path))[0])["rate_gbit_s"] == rate


@pytest.mark.parametrize(("text", "node"), [("1", 1), ("0", 0), ("-1", None)])
def test_numa_node_of_a_device(tmp_path, text, node):
    write(tmp_path, "sys/class/infiniband/mlx5_0/device/numa_node", text)
    assert infiniband.numa_node("mlx5_0", str(tmp_path)) == node


def test_what_is_not_there_is_none(tmp_path):
    root = str(tmp_path)
    assert infiniband.ports(root) == []
    assert infiniband.firmware("x", root) is infiniband.interface_of("x", root) is infiniband.numa_node("x", root) is None
    (tmp_path / "sys/class/infiniband/mlx5_0/ports/1").mkdir(parents=True)
    (port,) = infiniband.ports(root)
    assert set(infiniband.state(port).values()) == {None} and infiniband.counter(port, "link_downed") is None
