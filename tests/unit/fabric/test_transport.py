"""The transport verdict: what NCCL's log proves, what it does not, and the counters' word."""

from __future__ import annotations

import pytest
from ansible.module_utils.plumbline.core.fact import Measurement
from ansible.module_utils.plumbline.fabric import transport
from ansible.module_utils.plumbline.serving import wire as transport_serving
from project import CAPTURES as ROOT

REAL_SOCKET = (ROOT / "h200" / "nccl.debug_info.1gpu.txt").read_text()
IB = (ROOT / "nccl_composed" / "composed.all_reduce.2x8.ib.nccl.log").read_text()
IB_WITHOUT_GDR = (ROOT / "nccl_composed" / "composed.all_reduce.2x8.ib_without_gdr.nccl.log").read_text()
SOCKET = (ROOT / "nccl_composed" / "composed.all_reduce.2x8.socket.nccl.log").read_text()


def judged(log, expected, nodes=2, ranks=16):
    measurement = Measurement("collective", "x")
    transport.judge(measurement, transport.parse(log), expected, nodes, ranks)
    return {item["check"]: item for item in measurement.reasons}


def test_the_real_fallback_is_a_socket():
    found = transport.parse(REAL_SOCKET)
    assert found["devices"] == [], "NET/IB : Using [RO]; OOB is no device"
    assert found["networks"] == ["Socket"] and found["interfaces"] == ["eth0"] and found["ib_absent"]
    assert found["failed_plugins"] == ["IB"] and found["nccl_version"] == "2.28.9+cuda13.0"
    assert (found["ranks"], found["nodes"], found["nvls_channels"]) == (1, 1, 0)
    assert transport.verdict(found)["network"] == "Socket"
    assert transport.summary(found)["verdict"] == "Socket"
    assert any("No device found" in line for line in found["evidence"])


@pytest.mark.parametrize(
    ("expected", "status"),
    [({"across": "IB"}, "failed"), ({"across": "Socket"}, "healthy"), ({}, "skipped")],
)
def test_the_real_fallback_is_judged(expected, status):
    reason = judged(REAL_SOCKET, expected, nodes=1, ranks=1)["collective.transport"]
    assert reason["status"] == status
    assert "Socket" in reason["seen"] and "No device found" in reason["seen"]
    if status == "failed":
        assert "NCCL_NET=IB" in reason["remedy"]


def test_infiniband_with_gdrdma():
    found = transport.parse(IB)
    said = transport.verdict(found)
    assert (said["network"], said["between"], said["gdrdma"]) == ("IB", "IB", True)
    assert said["inside"] == ["P2P/CUMEM", "NVLS"]
    assert len(found["devices"]) == 8 and found["devices"][0] == "mlx5_ib0:1/IB"
    assert found["channels"] == {"NET/IB/GDRDMA": 2, "NET/IB/GDRDMA/Shared": 1, "P2P/CUMEM": 2}
    assert found["environment"]["NCCL_TOPO_FILE"] == "/opt/microsoft/ndv5-topo.xml"
    reasons = judged(IB, {"across": "IB", "within": "P2P"})
    assert {item["status"] for item in reasons.values()} == {"healthy"} and len(reasons) == 2


def test_within_a_node_the_verdict_is_what_carried_the_data():
    inside = "\n".join(line for line in IB.splitlines() if " via NET/" not in line)
    found = transport.summary(transport.parse(inside))
    assert (found["verdict"], found["network"], found["between_nodes"]) == ("P2P, NVLS", "IB", None)
    assert transport.summary(transport.parse(IB))["verdict"] == "IB"


def test_infiniband_through_host_memory_is_degraded():
    assert transport.verdict(transport.parse(IB_WITHOUT_GDR))["gdrdma"] is False
    reason = judged(IB_WITHOUT_GDR, {"across": "IB"})["collective.transport"]
    assert reason["status"] == "degraded" and "nvidia-peermem" in reason["remedy"]


def test_socket_between_nodes():
    reason = judged(SOCKET, {"across": "IB"})["collective.transport"]
    assert reason["status"] == "failed" and "via NET/Socket" in reason["seen"] and "Using network Socket" in reason["seen"]
    assert transport.verdict(transport.parse(SOCKET))["between"] == "Socket"


def test_infiniband_by_name_only_is_no_evidence():
    # "Using network IB" and no device: incomplete, not healthy.
    bare = "vm:1:1 [0] NCCL INFO NET/IB : Using [RO]; OOB eth0:10.0.0.4<0>\nvm:1:1 [0] NCCL INFO Using network IB\n"
    assert judged(bare, {"across": "IB"})["collective.transport"]["status"] == "incomplete"
    # Devices and the choice, but no channel between two nodes.
    chosen = "\n".join(line for line in IB.splitlines() if " via NET/" not in line)
    assert judged(chosen, {"across": "IB"})["collective.transport"]["status"] == "incomplete"
    assert judged(chosen, {"across": "IB"}, nodes=1, ranks=8)["collective.transport"]["status"] == "healthy"


def test_silence_is_incomplete_where_something_is_expected():
    reason = judged("nothing of NCCL\n", {"across": "IB"})["collective.transport"]
    assert reason["status"] == "incomplete" and "NCCL_DEBUG=INFO" in reason["remedy"]
    assert judged("", {})["collective.transport"]["status"] == "skipped"


def test_one_socket_channel_among_infiniband_fails():
    mixed = IB + "vm:1:1 [0] NCCL INFO Channel 02/0 : 3[3] -> 11[3] [send] via NET/Socket/0\n"
    assert transport.verdict(transport.parse(mixed))["between"] == "mixed"
    assert judged(mixed, {"across": "IB"})["collective.transport"]["status"] == "failed"


def test_roce_is_not_infiniband():
    roce = IB.replace(":1/IB ", ":1/RoCE ")
    assert transport.verdict(transport.parse(roce))["between"] == "RoCE"
    assert judged(roce, {"across": "IB"})["collective.transport"]["status"] == "failed"


def test_plugins_of_hpcx_are_infiniband():
    plugin = IB.replace("Using network IB", "Using network IBext_v8").replace("via NET/IB/", "via NET/IBext_v8/")
    plugin = plugin.replace("NET/IB : Using", "NET/IBext_v8 : Using")
    said = transport.verdict(transport.parse(plugin))
    assert (said["network"], said["between"]) == ("IB", "IB")


def test_shared_memory_within_a_node_fails():
    shm = "vm:1:1 [0] NCCL INFO Using network IB\nvm:1:1 [0] NCCL INFO Channel 00 : 0[0] -> 1[1] via SHM/direct/direct\n"
    reason = judged(shm, {"within": "P2P"}, nodes=1, ranks=2)["collective.transport_within"]
    assert reason["status"] == "failed" and "SHM/direct" in reason["seen"]
    direct = shm.replace("SHM/direct/direct", "P2P/direct pointer")
    assert judged(direct, {"within": "P2P"}, nodes=1, ranks=2)["collective.transport_within"]["status"] == "healthy"
    none = "vm:1:1 [0] NCCL INFO Using network IB\n"
    assert judged(none, {"within": "P2P"}, nodes=1, ranks=2)["collective.transport_within"]["status"] == "incomplete"


@pytest.mark.parametrize(
    ("via", "way"),
    [
        ("NET/IB/0/GDRDMA", "NET/IB/GDRDMA"), ("NET/IB/3(7)/GDRDMA(PCI)/Shared", "NET/IB/GDRDMA/Shared"), ("NET/Socket/0", "NET/Socket"),
        ("P2P/CUMEM/read", "P2P/CUMEM"), ("P2P/indirect/3[3]", "P2P/indirect"), ("SHM/direct/direct", "SHM/direct"),
        ("COLLNET/SHARP/1/GDRDMA", "COLLNET/SHARP/GDRDMA"), ("P2P/direct pointer", "P2P/direct pointer"),
        # Two processes in one line, from vLLM's logs of two and four H200s.
        ("P2P/CUMEM(EngineCore", "P2P/CUMEM"), ("P2P/CUME(Worker", "P2P/CUMEM"),
    ],
)  # fmt: skip
def test_channel(via, way):
    assert transport.channel(via) == way


def test_prefixes_of_vllm_and_ray_do_not_disturb():
    log = "\n".join(
        "\x1b[36m(RayWorkerWrapper pid=88, ip=10.0.0.5)\x1b[0m %s\x1b[32m [repeated 15x across cluster]\x1b[0m" % line
        for line in IB.splitlines()
    )
    found = transport.parse(log)
    assert found["networks"] == ["IB"] and len(found["devices"]) == 8
    assert transport.verdict(found)["gdrdma"] is True
    vllm = transport.parse("(EngineCore_DP0 pid=7) (Worker_TP3 pid=9) vm:9:9 [3] NCCL INFO Using network Socket\n")
    assert vllm["networks"] == ["Socket"]


COUNTERS = [
    ({"eth0": 1000, "mlx5_ib0/1": 600_000}, "healthy"),
    ({"eth0": 900_000, "mlx5_ib0/1": 10}, "failed"),
    ({"eth0": 900_000}, "failed"),
    ({"eth0": 10, "mlx5_ib0/1": 10}, "incomplete"),
    ({"eth0": None, "mlx5_ib0/1": None}, "incomplete"),
]


@pytest.mark.parametrize(("counters", "status"), COUNTERS)
def test_counters(counters, status):
    measurement = Measurement("collective", "x")
    transport.judge_counters(measurement, counters, "eth0", 1_000_000, "IB")
    assert [item["status"] for item in measurement.reasons] == [status]


def test_counters_say_nothing_where_no_infiniband_is_expected():
    measurement = Measurement("collective", "x")
    transport.judge_counters(measurement, {"eth0": 1}, "eth0", 1_000_000, "Socket")
    transport.judge_counters(measurement, {"eth0": 1}, "eth0", 0, "IB")
    assert measurement.reasons == []


RUNS = [{"total_output_tokens": 512}]


def served(tmp_path, log, expected, nodes, monkeypatch, sent):
    path = tmp_path / "server.log"
    path.write_text(log)
    readings = iter([{"eth0": 0, "mlx5_ib0/1": 0}, sent])
    monkeypatch.setattr(transport, "snapshot", lambda interface: next(readings))
    monkeypatch.setattr(transport_serving, "interface_of", lambda url: "eth0")
    measurement = Measurement("benchmark", "d_tp16")
    measurement.context.update(model_hidden_size=8192, model_dtype="float16")
    transport_serving.Watch("http://10.0.0.4:8000").attach(measurement, str(path), nodes, 16, expected, RUNS)
    return measurement


def test_a_serving_result_over_tcp_fails(tmp_path, monkeypatch):
    measurement = served(tmp_path, SOCKET, "IB", 2, monkeypatch, {"eth0": 50_000_000, "mlx5_ib0/1": 0})
    reasons = {item["check"]: item["status"] for item in measurement.reasons}
    assert reasons == {"benchmark.transport": "failed", "benchmark.transport_counters": "failed"}
    assert measurement.context["transport"]["verdict"] == "Socket"
    assert measurement.context["transport"]["sent_bytes"] == {"eth0": 50_000_000, "mlx5_ib0/1": 0}


def test_a_serving_result_over_infiniband(tmp_path, monkeypatch):
    measurement = served(tmp_path, IB, "IB", 2, monkeypatch, {"eth0": 5_000, "mlx5_ib0/1": 900_000_000})
    assert {item["status"] for item in measurement.reasons} == {"healthy"} and len(measurement.reasons) == 2
    assert measurement.context["transport"]["evidence"]


def test_a_serving_result_without_evidence_is_incomplete(tmp_path, monkeypatch):
    measurement = served(tmp_path, "INFO vllm is up\n", "IB", 2, monkeypatch, {"eth0": 5_000, "mlx5_ib0/1": 900_000_000})
    assert {item["check"]: item["status"] for item in measurement.reasons}["benchmark.transport"] == "incomplete"


def test_one_node_and_no_expectation_are_noted_only(tmp_path, monkeypatch):
    for expected, nodes in (("IB", 1), ("", 2)):
        measurement = served(tmp_path, IB, expected, nodes, monkeypatch, {"eth0": 1, "mlx5_ib0/1": 1})
        assert measurement.reasons == [] and measurement.context["transport"]["verdict"] == "IB"


def test_least_bytes_of_a_serving_result():
    assert transport_serving.least_bytes({"model_hidden_size": 8192, "model_dtype": "torch.float16"}, RUNS) == 512 * 16384
    assert transport_serving.least_bytes({}, RUNS) == 0


@pytest.mark.parametrize(
    ("warning", "word"),
    [
        ("NET/IB : mlx5_3:1 Got async event : port error", "error"), ("NET/IB : mlx5_3:1 Got async event : port active", None),
        ("NET/IB : Got async event : local catastrophic error", "fatal"), ("NET/IB : mlx5_0:1 async fatal event: CQ error", "fatal"),
        ("NET/IB : Got async event : client reregistration", None), ("NET/IB : mlx5_0:1 Got async event : GID table change", None),
        ("NET/IB : Got completion from peer 10.0.0.5<1> with status=12 opcode=0 len=0 vendor err 129", "error"),
        ("Call to ibv_modify_qp failed with error Connection timed out", "error"), ("NET/IB : Port 1 of mlx5_3 is not active", "error"),
        ("Could not find a path for pattern 4, falling back to simple order", None), ("Cuda failure 'out of memory'", None),
        ("socketProgress: Connection closed by remote peer 10.0.0.5<40318>", None),
    ],
)  # fmt: skip
def test_which_warnings_tell_of_hardware(warning, word):
    assert transport.alarm(warning) == word


def test_warnings_are_told_once_and_those_of_hardware_are_kept():
    quiet = "".join("vm:1:1 [0] a.cc:1 NCCL WARN number %d\n" % number for number in range(20))
    port = "vm:1:1 [0] transport/net_ib.cc:101 NCCL WARN NET/IB : mlx5_3:1 Got async event : port error\n"
    found = transport.parse(quiet + port)
    assert len(found["warnings"]) == 8 and "port error" in found["warnings"][0]
    reason = judged(IB + quiet + port * 2, {"across": "IB"})["collective.warnings"]
    assert reason["status"] == "degraded" and reason["seen"].count("port error") == 1
    measurement = Measurement("collective", "x")
    for _again in range(2):
        transport.judge_warnings(measurement, found["warnings"], "collective.warnings")
    assert len(measurement.reasons) == 1
