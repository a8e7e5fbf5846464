"""Running torchrun under a limit: every way out leaves no process; interfaces and counters are read right."""

import json
import os
import socket
import sys
import time
from types import SimpleNamespace

import pytest
from ansible.module_utils.plumbline.fabric import torch_run as collective_run
from ansible.module_utils.plumbline.machine import net


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as text:
            return text.read().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def script(tmp_path, text):
    path = tmp_path / "fake_torchrun.py"
    path.write_text(text)
    return [sys.executable, str(path)]


# As torchrun does, the parent puts its worker in a session of its own; and this one ignores SIGTERM.
STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(15, 1); time.sleep(600)"], start_new_session=True)
open("child.pid", "w").write(str(child.pid))
print("started", flush=True)
time.sleep(600)
"""


def test_timeout_kills_workers_in_their_own_session(tmp_path, monkeypatch):
    monkeypatch.setattr(collective_run, "GRACE_S", 0.5)
    status, took_s, tail = collective_run.run(script(tmp_path, STUBBORN), dict(os.environ), str(tmp_path), 1, 2)
    assert status is None
    assert 2 <= took_s < 10
    assert "started" in tail
    child = int((tmp_path / "child.pid").read_text())
    deadline = time.monotonic() + 5
    while alive(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not alive(child)


def test_exit_status_and_log_are_returned(tmp_path):
    command = script(tmp_path, "import sys; sys.stderr.write('ValueError: no such port'); sys.exit(3)")
    status, _took_s, tail = collective_run.run(command, dict(os.environ), str(tmp_path), 1, 10)
    assert (status, tail) == (3, "ValueError: no such port")


def test_ranks_that_are_done_are_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(collective_run, "GRACE_S", 0.5)
    text = "import json, time; json.dump({'stage': 'done'}, open('rank0.json', 'w')); time.sleep(600)"
    status, took_s, _tail = collective_run.run(script(tmp_path, text), dict(os.environ), str(tmp_path), 1, 60)
    assert status == 0
    assert took_s < 10


def test_finished_needs_every_rank(tmp_path):
    (tmp_path / "rank0.json").write_text(json.dumps({"stage": "done"}))
    assert not collective_run.finished(str(tmp_path), 2)
    (tmp_path / "rank1.json").write_text(json.dumps({"stage": "measuring"}))
    assert not collective_run.finished(str(tmp_path), 2)
    (tmp_path / "rank1.json").write_text(json.dumps({"stage": "done"}))
    assert collective_run.finished(str(tmp_path), 2)


def test_descendants():
    assert sorted(collective_run.descendants(1, {2: 1, 3: 2, 4: 3, 9: 8})) == [2, 3, 4]


def test_parents_reads_names_with_parentheses(tmp_path):
    (tmp_path / "42").mkdir()
    (tmp_path / "42" / "stat").write_text("42 (a) b (c) S 7 42 42 0")
    (tmp_path / "self").mkdir()
    assert collective_run.parents(str(tmp_path)) == {42: 7}


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


def test_shaped_rate_without_tc_is_unknown():
    def run(argv, **_options):
        raise FileNotFoundError(argv[0])

    assert net.shaped_rate_gbit_s("eth7", run) is None


def test_difference_of_counters():
    before, after = {"a": 10, "b": None, "c": 10, "d": 1}, {"a": 15, "b": 3, "c": 4}
    assert net.difference(before, after) == {"a": 5, "b": None, "c": None, "d": None}


def test_port_error_names_a_port_in_use():
    with socket.socket() as holder:
        holder.bind(("", 0))
        holder.listen()
        assert "in use" in net.port_error(holder.getsockname()[1])
    assert net.port_error(net.free_port()) is None
