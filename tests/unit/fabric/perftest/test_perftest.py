"""ib_write_bw: its text, its ports and its processes. The texts are composed (perftest_texts.py), the program is a mock."""

from __future__ import annotations

import subprocess
import sys
import time

import perftest_texts as texts
import pytest
from ansible.module_utils.plumbline.core.fact import Measurement
from ansible.module_utils.plumbline.fabric.perftest import output as perftest
from ansible.module_utils.plumbline.fabric.perftest import run as perftest_run
from ansible.module_utils.plumbline.machine import net
from project import ROOT

SIZE = 8388608


def test_the_average_is_read_in_gbit_s():
    assert perftest.average_gbit_s(texts.good(391.77), SIZE) == 391.77
    row = perftest.rows(texts.good(391.77))[0]
    assert row["BW peak[Gb/sec]"] == 0.0 and row["#iterations"] == 35014


@pytest.mark.parametrize(("text", "average"), [(texts.CPU, 389.5), (texts.QOS, 388.10)])
def test_added_columns_do_no_harm(text, average):
    assert perftest.average_gbit_s(text, SIZE) == average


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "no header"),
        (texts.PREFACE, "no header"),
        (texts.PREFACE + texts.HEADER, "no row"),
        (texts.BROKEN, "no row"),
        (texts.MIB, "no BW average.Gb/sec"),
        (texts.good().replace("391.77", "nan   "), "no rate"),
        (texts.good().replace("391.77", "-1.00 "), "no rate"),
        (texts.good().replace("391.77", "      "), "4 values for 5 columns"),
        (texts.good(size=65536), "no row of 8388608 bytes"),
    ],
)
def test_anything_else_is_no_rate(text, why):
    with pytest.raises(ValueError, match=why):
        perftest.average_gbit_s(text, SIZE)


def test_what_it_says_when_it_fails():
    assert perftest.not_listening(texts.REFUSED) and not perftest.not_listening(texts.BROKEN)
    assert perftest.telling_line(texts.NO_DEVICE) == "IB device mlx5_ib9 not found; Unable to find the Infiniband/RoCE device"
    assert perftest.telling_line(texts.BROKEN).startswith("Completion with error at client; Failed status 12")
    assert perftest.telling_line(texts.PREFACE) == "Data ex. method : Ethernet"
    assert perftest.telling_line("") == "nothing was said"


def test_both_nodes_take_the_same_tcp_port_even_if_one_lacks_a_device():
    whole = ["mlx5_ib%d/1" % number for number in range(8)]
    less = [port for port in whole if port != "mlx5_ib3/1"]
    assert [perftest.offsets(whole)[port] for port in less] == [perftest.offsets(less)[port] for port in less]
    assert len(set(perftest.offsets(whole).values())) == 8
    assert len(set(perftest.offsets(["mlx5_0/1", "mlx5_0/2"]).values())) == 2
    assert perftest.offsets(["hca_a/1", "hca_b/1"]) == {"hca_a/1": 0, "hca_b/1": 1}


def test_the_command_has_nhcs_flags():
    argv = perftest.command("/bin/ib_write_bw", "mlx5_ib2/1", 18523, SIZE, 10, cuda_device=2, server="10.0.0.5", numa_node=0)
    assert argv[:5] == ["numactl", "-N", "0", "-m", "0"] and argv[-1] == "10.0.0.5"
    text = " ".join(argv)
    for part in ("-d mlx5_ib2 -i 1", "-p 18523", "-s 8388608", "-D 10", "-x 0 -F --report_gbits", "--use_cuda=2"):
        assert part in text
    assert perftest.command("ib_write_bw", "mlx5_ib2/1", 1, SIZE, 10)[-1] == "--report_gbits"


@pytest.mark.parametrize(
    ("run", "minimum", "status", "said"),
    [
        ({"gbit_s": 391.0, "problem": None, "connected": True}, 380, "healthy", "391.00 Gbit/s"),
        ({"gbit_s": 380.0, "problem": None, "connected": True}, 380, "healthy", "380.00"),
        ({"gbit_s": 379.9, "problem": None, "connected": True}, 380, "failed", "379.90"),
        ({"gbit_s": None, "problem": "Completion with error", "connected": True}, 380, "failed", "Completion with error"),
        ({"gbit_s": None, "problem": "Couldn't connect", "connected": False}, 380, "incomplete", "nobody at node2 answered"),
    ],
)
def test_a_port_is_judged_by_its_threshold(run, minimum, status, said):
    measurement = Measurement("link", "ib")
    perftest.judge_port(measurement, "mlx5_ib0/1", run, minimum, "node2")
    found = measurement.fact()
    assert found["status"] == status and said in found["reasons"][0]["seen"]
    assert found["reasons"][0]["threshold"] and (status == "healthy" or found["reasons"][0]["remedy"])


def test_without_a_baseline_it_says_so():
    measurement = Measurement("link", "ib")
    perftest.judge_port(measurement, "mlx5_ib0/1", {"gbit_s": 391.0, "problem": None, "connected": True}, None, "node2")
    assert any(item["status"] == "skipped" and "no baseline" in item["seen"] for item in measurement.reasons)


def test_only_ports_whose_link_layer_is_infiniband_are_taken(tmp_path):
    for device, layer in (("mlx5_ib0", "InfiniBand"), ("mlx5_ib1", "InfiniBand"), ("mlx5_an0", "Ethernet")):
        port = tmp_path / "sys/class/infiniband" / device / "ports" / "1"
        port.mkdir(parents=True)
        (port / "link_layer").write_text(layer + "\n")
    assert perftest_run.find_ports([], str(tmp_path)) == ["mlx5_ib0/1", "mlx5_ib1/1"]
    assert perftest_run.find_ports(["mlx5_ib1"], str(tmp_path)) == ["mlx5_ib1/1"]
    assert perftest_run.find_ports([], str(tmp_path / "none")) == []


def test_links_by_port_are_in_bytes_and_keep_what_left_no_number():
    ports = [{"port": "x/1", "bandwidth_gbit_s": 400.0}, {"port": "y/1", "bandwidth_gbit_s": None}]
    assert perftest.port_links([{"context": {"nodes": ["a", "b"]}, "measured": {"ports": ports}}]) == {
        "x/1": [{"nodes": ["a", "b"], "bandwidth_gbps": 50.0}],
        "y/1": [{"nodes": ["a", "b"], "bandwidth_gbps": None}],
    }


# A mock that talks TCP as ib_write_bw does to meet: the server waits for one client, the client fails when nobody listens.
MOCK = r"""#!{python}
import socket, sys, time
sys.path.insert(0, {folder!r})
import perftest_texts
arguments = sys.argv[1:]
port = int(arguments[arguments.index("-p") + 1])
device = arguments[arguments.index("-d") + 1]
server = arguments[-1] if not arguments[-1].startswith("-") else None
if device == "mlx5_ib7":
    sys.exit(sys.stderr.write(perftest_texts.NO_DEVICE) and 1)
if device == "mlx5_ib6" and server:
    time.sleep(60)
if server is None:
    with socket.create_server(("127.0.0.1", port)) as listener:
        listener.accept()[0].close()
    print(perftest_texts.good(390.5))
else:
    try:
        socket.create_connection((server, port), 2).close()
    except OSError:
        sys.exit(sys.stderr.write(perftest_texts.REFUSED) and 1)
    print(perftest_texts.good(390.5))
"""


@pytest.fixture
def mock_ib_write_bw(tmp_path):
    program = tmp_path / "mock-ib_write_bw"
    program.write_text(MOCK.format(python=sys.executable, folder=str(ROOT / "tests" / "unit")))
    program.chmod(0o755)
    return str(program)


def commands(program, ports, base, server=None):
    return {port: perftest.command(program, port, base + place, SIZE, 10, server=server) for place, port in enumerate(ports)}


def test_clients_wait_for_servers_that_start_later(mock_ib_write_bw, tmp_path):
    ports = ["mlx5_ib0/1", "mlx5_ib1/1", "mlx5_ib7/1"]
    base = net.free_port()
    servers = [
        subprocess.Popen(["sh", "-c", 'sleep 1.5; exec "$@"', "sh", *argv])
        for port, argv in commands(mock_ib_write_bw, ports[:2], base).items()
    ]
    try:
        done = perftest_run.run(commands(mock_ib_write_bw, ports, base, "127.0.0.1"), str(tmp_path), 20, retry=True)
    finally:
        for server in servers:
            server.kill()
            server.wait()
    found = {port: perftest_run.outcome(item, SIZE, 20) for port, item in done.items()}
    assert [found[port]["gbit_s"] for port in ports] == [390.5, 390.5, None]
    assert "Unable to find the Infiniband" in found["mlx5_ib7/1"]["problem"] and found["mlx5_ib7/1"]["connected"]


def test_nobody_at_the_other_end_is_told_from_a_slow_port_and_nothing_stays(mock_ib_write_bw, tmp_path):
    base, started = net.free_port(), time.monotonic()
    ports = ["mlx5_ib0/1", "mlx5_ib6/1"]
    done = perftest_run.run(commands(mock_ib_write_bw, ports, base, "127.0.0.1"), str(tmp_path), 3, retry=True)
    assert time.monotonic() - started < 15
    found = {port: perftest_run.outcome(item, SIZE, 3) for port, item in done.items()}
    assert found["mlx5_ib0/1"]["connected"] is False and "Couldn't connect" not in (found["mlx5_ib6/1"]["problem"] or "")
    assert "not done after 3 s" in found["mlx5_ib6/1"]["problem"]
    left = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
    assert mock_ib_write_bw not in left


def outcome(text, status=0):
    return perftest_run.outcome({"status": status, "text": text, "timed_out": False}, SIZE, 20)


def test_a_text_that_was_cut_is_nothing_against_the_port_and_nothing_for_it():
    whole = texts.good()
    for place in range(len(whole) - len(texts.LINE) + 20):
        found = outcome(whole[:place])
        assert found["gbit_s"] is None and found["unfinished"], place
        measurement = Measurement("link", "ib")
        perftest.judge_port(measurement, "mlx5_0/1", found, 380, "node2")
        assert measurement.reasons[0]["status"] == "incomplete"
    assert outcome(whole) == {"gbit_s": 391.77, "problem": None, "connected": True}


@pytest.mark.parametrize(("average", "status"), [(395.0, "failed"), (761.0, "healthy")])
def test_both_directions_together_must_be_twice_as_fast(average, status):
    found = outcome(texts.good(average).replace("RDMA_Write BW", "RDMA_Write Bidirectional BW"))
    measurement = Measurement("link", "ib")
    perftest.judge_port(measurement, "mlx5_0/1", found, 380, "node2")
    assert measurement.reasons[0]["status"] == status and "both directions together" in measurement.reasons[0]["seen"]


@pytest.mark.parametrize(
    ("problem", "said"),
    [("Couldn't allocate MR", "nvidia-peermem"), ("Failed to modify QP to RTR", "partition keys"), ("Failed status 12", "cable"),
     ("IB device mlx5_9 not found", "ibstat"), ("anything else", "by hand")],
)  # fmt: skip
def test_what_to_do_fits_what_it_says(problem, said):
    assert said in perftest.remedy(problem)
