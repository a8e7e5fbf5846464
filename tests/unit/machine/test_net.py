"""Interfaces, their rates and their counters are read right."""

import socket
from types import SimpleNamespace

import pytest
from ansible.module_utils.plumbline.machine import net


def test_loopback_is_found_by_its_address():
    name = net.interface_of("127.0.0.1")
    assert name in [item for _index, item in socket.if_nameindex()]
    assert net.ipv4_of(name) == "127.0.0.1"
    assert net.local_address("127.0.0.1") == "127.0.0.1"
    assert net.interface_of("192.0.2.77") is None


def test_ipv6_owner(tmp_path):
    table = tmp_path / "if_inet6"
    table.write_text("00000000000000000000000000000001 01 80 10 80       lo\nfe80000000000000020000fffe000001 02 40 20 80     eth7\n")
    assert net.ipv6_owner("fe80::200:ff:fe00:1%eth7", str(table)) == "eth7"
    assert net.ipv6_owner("fe80::2", str(table)) is None


def nic(tmp_path, speed, hardware):
    base = tmp_path / "sys/class/net" / "eth7"
    (base / "statistics").mkdir(parents=True)
    (base / "speed").write_text(f"{speed}\n")
    (base / "statistics" / "tx_bytes").write_text("1000\n")
    if hardware:
        (base / "device").mkdir()
    return str(tmp_path)


@pytest.mark.parametrize(("speed", "hardware", "rate"), [(100000, True, 100.0), (-1, True, None), (10000, False, None)])
def test_link_rate_is_known_only_of_hardware(tmp_path, speed, hardware, rate):
    assert net.link_rate_gbit_s("eth7", nic(tmp_path, speed, hardware)) == rate


def test_sent_bytes_with_infiniband(tmp_path):
    root = nic(tmp_path, 100000, True)
    for device, layer in (("mlx5_0", "InfiniBand"), ("mlx5_1", "Ethernet")):
        port = tmp_path / "sys/class/infiniband" / device / "ports" / "1"
        (port / "counters").mkdir(parents=True)
        (port / "link_layer").write_text(layer + "\n")
        (port / "counters" / "port_xmit_data").write_text("25\n")
    assert net.sent_bytes("eth7", True, root) == {"eth7": 1000, "mlx5_0/1": 100}
    assert net.sent_bytes("nope", False, root) == {"nope": None}


# As `tc -j qdisc show dev eth0` printed it on a lab node.
SHAPED = '[{"kind":"tbf","handle":"8046:","root":true,"refcnt":3,"options":{"rate":125000000,"burst":250000,"lat":50000}}]'


@pytest.mark.parametrize(("said", "rate"), [(SHAPED, 1.0), ('[{"kind":"noqueue","root":true}]', None), ("", None), ("?", None)])
def test_shaped_rate_is_the_token_bucket(said, rate):
    def run(argv, **_options):
        assert argv == ["tc", "-j", "qdisc", "show", "dev", "eth7"]
        return SimpleNamespace(stdout=said)

    assert net.shaped_rate_gbit_s("eth7", run) == rate


def test_bucket_below_another_discipline_is_not_the_interfaces():
    tbf = {"kind": "tbf", "handle": "8003:", "root": True, "options": {"rate": 125000000, "burst": 250000, "lat": 50000}}
    assert net.tbf_rate_bit_s([tbf]) == 10**9
    assert net.tbf_rate_bit_s([{"kind": "noqueue", "root": True, "options": {}}]) is None
    assert net.tbf_rate_bit_s([{key: value for key, value in tbf.items() if key != "root"}]) is None
    assert net.tbf_rate_bit_s([]) is None


def test_line_rate_is_the_shapers_else_the_nics(monkeypatch):
    shaped = {"eth0": 1.0, "eth1": None}
    monkeypatch.setattr(net, "shaped_rate_gbit_s", shaped.get)
    monkeypatch.setattr(net, "link_rate_gbit_s", lambda interface: 100.0)
    assert [net.line_rate_gbit_s(name) for name in ("eth0", "eth1", "lo")] == [1.0, 100.0, None]


def test_shaped_rate_without_tc_is_unknown():
    def run(argv, **_options):
        raise FileNotFoundError(argv[0])

    assert net.shaped_rate_gbit_s("eth7", run) is None


def test_port_error_names_a_port_in_use():
    with socket.socket() as holder:
        holder.bind(("", 0))
        holder.listen()
        assert "in use" in net.port_error(holder.getsockname()[1])
    assert net.port_error(net.free_port()) is None


@pytest.mark.parametrize("given", ["127.0.0.1", "::1", "127.0.1.1", "localhost"])
def test_for_the_loopback_the_machines_own_address_is_taken(given, monkeypatch):
    monkeypatch.setattr(net, "local_address", lambda towards: "10.0.0.4")
    monkeypatch.setattr(net, "interface_of", {"10.0.0.4": "eth0"}.get)
    assert net.own_address(given) == "10.0.0.4"


def test_without_a_route_out_it_is_the_address_of_an_interface_that_is_up(monkeypatch):
    def no_route(towards):
        raise OSError("Network is unreachable")

    states = {"lo": "unknown", "eth0": "down", "eth1": "up"}
    monkeypatch.setattr(net, "local_address", no_route)
    monkeypatch.setattr(net.socket, "if_nameindex", lambda: [(1, "lo"), (2, "eth0"), (3, "eth1")])
    monkeypatch.setattr(net, "ipv4_of", {"lo": "127.0.0.1", "eth0": "10.0.0.3", "eth1": "10.0.0.4"}.get)
    monkeypatch.setattr(net.interfaces, "state", lambda name: {"operstate": states[name]})
    assert net.machine_address() == "10.0.0.4"


def test_a_machine_with_nothing_but_the_loopback_keeps_it(monkeypatch):
    monkeypatch.setattr(net, "machine_address", lambda: None)
    assert [net.own_address(one) for one in ("127.0.0.1", "::1", "localhost")] == ["127.0.0.1"] * 3


def test_an_address_of_a_network_stays_what_it_is():
    assert net.own_address("192.0.2.7") == "192.0.2.7" and net.own_address("2001:db8::7") == "2001:db8::7"
    assert net.numeric("no-such-name.invalid") == "no-such-name.invalid"
