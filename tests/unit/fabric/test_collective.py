"""Collectives: formulas, statistics, and each way in which a verdict is bad."""

import json

import pytest
from ansible.module_utils.plumbline.core.fact import Measurement
from ansible.module_utils.plumbline.fabric import collective
from ansible.module_utils.plumbline.fabric import torch_worker as collective_worker
from jsonschema import Draft202012Validator
from project import ROOT

SCHEMA = json.loads((ROOT / "docs/schema/collective.schema.json").read_text())

SAMPLES = [
    {"size_bytes": 8, "times_us": [10.0, 12.0, 11.0, 50.0], "operations": 10, "wrong": 0},
    {"size_bytes": 1000000, "times_us": [1000.0, 1000.0], "operations": 4, "wrong": 0},
]


def reasons(judge, *args):
    measurement = Measurement("collective", "x")
    judge(measurement, *args)
    return {item["check"]: item for item in measurement.reasons}


# doc/PERFORMANCE.md of nccl-tests: all-reduce 2(n-1)/n, send-receive 1.
@pytest.mark.parametrize(("op", "ranks", "factor"), [("all_reduce", 2, 1.0), ("all_reduce", 8, 1.75), ("sendrecv", 8, 1.0)])
def test_busbw_factor(op, ranks, factor):
    assert collective.busbw_factor(op, ranks) == factor


def test_busbw_factor_refuses_what_it_does_not_know():
    with pytest.raises(ValueError, match="broadcast"):
        collective.busbw_factor("broadcast", 2)
    with pytest.raises(ValueError, match="2 ranks"):
        collective.busbw_factor("all_reduce", 1)


def test_quantile_interpolates_like_numpy():
    values = [4.0, 1.0, 3.0, 2.0]
    assert collective.quantile(values, 0.5) == 2.5
    assert collective.quantile(values, 0.9) == pytest.approx(3.7)
    assert collective.quantile(values, 1) == 4.0
    assert collective.quantile([7.0], 0.9) == 7.0
    with pytest.raises(ValueError, match="no values"):
        collective.quantile([], 0.5)


def test_measured():
    result = collective.measured("all_reduce", 4, 2, SAMPLES)
    assert result["latency_8b_us"] == 11.5 and "latency_8b_mean_us" not in result and result["fit"] is None
    assert result["sweep"][0]["time_us"] == {"min": 10.0, "median": 11.5, "p90": 38.6, "max": 50.0}
    # 10^6 bytes in 1 ms are 10^9 bytes/s; times 2 * 3/4.
    assert result["sweep"][1]["algbw_gbps"] == 1.0
    assert result["peak_busbw_gbps"] == 1.5
    assert (result["ranks"], result["nodes"]) == (4, 2)


def test_fit_says_which_times_it_is_over():
    more = [*SAMPLES, {"size_bytes": 2000000, "times_us": [2000.0], "operations": 4, "wrong": 0}]
    fit = collective.measured("all_reduce", 4, 2, more)["fit"]
    assert fit["time_us"] == "median" and fit["sizes_used"] == 3


def test_measured_makes_nothing_up():
    assert collective.measured("all_reduce", 2, 2, []) == {"ranks": 2, "nodes": 2}
    assert "latency_8b_us" not in collective.measured("sendrecv", 2, 1, SAMPLES[1:])


def test_values_wrong_or_missing():
    bad = [dict(SAMPLES[0], wrong=3)]
    found = reasons(collective.judge_values, bad, [8, 1000000])
    assert found["collective.values"]["status"] == "failed"
    assert "3 wrong elements at 8 bytes" in found["collective.values"]["seen"]
    assert found["collective.sweep"]["status"] == "incomplete"
    assert "missing 1000000" in found["collective.sweep"]["seen"]
    assert reasons(collective.judge_values, SAMPLES, [8, 1000000])["collective.values"]["status"] == "healthy"
    # Nothing measured is not "every element correct".
    assert "collective.values" not in reasons(collective.judge_values, [], [8])


def test_expected_traffic_counts_every_operation():
    assert collective.expected_traffic("all_reduce", 4, SAMPLES) == int(1.5 * (8 * 10 + 1000000 * 4))


@pytest.mark.parametrize(
    ("counters", "status"),
    [
        ({"eth0": 4_100_000}, "healthy"),
        ({"eth0": 1_000}, "incomplete"),
        ({"eth0": None}, "incomplete"),
        ({}, "incomplete"),
        ({"eth0": 1_000, "mlx5_ib0/1": 5_000_000}, "healthy"),
    ],
)
def test_traffic_is_evidence(counters, status):
    found = reasons(collective.judge_traffic, "sendrecv", 2, SAMPLES, counters)
    assert found["collective.traffic"]["status"] == status


def test_fallback_from_infiniband_to_sockets_fails():
    over_eth = {"eth0": 5_000_000, "mlx5_ib0/1": 2_000}
    found = reasons(collective.judge_fallback, over_eth, "eth0", SAMPLES, "sendrecv", 2)
    assert found["collective.transport"]["status"] == "failed"
    over_ib = {"eth0": 2_000, "mlx5_ib0/1": 5_000_000}
    assert reasons(collective.judge_fallback, over_ib, "eth0", SAMPLES, "sendrecv", 2) == {}
    assert reasons(collective.judge_fallback, {"eth0": 5_000_000}, "eth0", SAMPLES, "sendrecv", 2) == {}


@pytest.mark.parametrize(("minimum", "status"), [(None, "skipped"), (1.0, "healthy"), (1.6, "failed")])
def test_baseline(minimum, status):
    found = reasons(collective.judge_baseline, 1.5, minimum, "fabric_baseline_min_busbw_gbps['x']")
    assert found["collective.baseline"]["status"] == status


# As torch 2.13 with Gloo said it in the lab, when a rank of the peer was killed.
RESET = (
    "RuntimeError: [/__w/pytorch/pytorch/third_party/gloo/gloo/transport/tcp/pair.cc:537] Read error [10.0.0.2]:7400: "
    "Connection reset by peer. This is typically caused by a remote worker hanging or bugs in the application."
)


def measuring(error):
    return {"stage": "measuring", "size_bytes": 8, "error": error}


@pytest.mark.parametrize(
    ("state", "tail", "exit_status", "check", "says"),
    [
        (measuring(RESET), "", 1, "collective.peer", "lost 10.0.0.2 while measuring 8 bytes after 60 s: RuntimeError: Read error [10"),
        ({}, "torch.distributed.DistNetworkError: The client socket has timed out", 1, "collective.peer", "did not join"),
        ({"stage": "joining", "error": None}, "", None, "collective.peer", "10.0.0.2 did not join within 60 s"),
        ({"stage": "starting", "error": "ModuleNotFoundError: No module named 'torch'"}, "", 1, "collective.run", "named 'torch'"),
        (measuring("RuntimeError: out of memory"), "", 1, "collective.run", "out of memory"),
        (measuring(None), "[W1124 06:03:20 socket.cpp:207] no name", -9, "collective.run", "killed by signal 9 while"),
    ],
)
def test_diagnose_across(state, tail, exit_status, check, says):
    found, seen, remedy = collective.diagnose(state, tail, exit_status, ["10.0.0.2"], 60)
    assert found == check
    assert says in seen
    assert remedy


def test_diagnose_within_blames_no_peer():
    check, seen, _remedy = collective.diagnose({"stage": "measuring", "size_bytes": 8, "error": None}, "", None, [], 150)
    assert check == "collective.run"
    assert "not done after 150 s while measuring 8 bytes" in seen


def test_last_line_prefers_the_error():
    log = "Traceback (most recent call last):\nValueError: bad port\ntorch.distributed.elastic Error: x\nW1124 bye\n"
    assert collective.last_line(log) == "ValueError: bad port"
    assert collective.last_line("") == ""


def test_iterations_fit_the_budget():
    assert collective_worker.iterations_for(0.01, 0.2, 2, 50) == 20
    assert collective_worker.iterations_for(5.0, 0.2, 2, 50) == 2
    assert collective_worker.iterations_for(0.0, 0.2, 2, 50) == 50


def test_contributions_tell_ranks_and_places_apart():
    period = [collective_worker.contribution(0, index) for index in range(collective_worker.PERIOD)]
    assert len(set(period)) == len(period)
    assert [collective_worker.contribution(1, index) for index in range(collective_worker.PERIOD)] != period
    # float32 holds sums of integers exactly up to 2^24: enough for 2^24 / 1000 ranks.
    assert max(period) < 1000


BATCHES = {
    "size_bytes": 16384, "times_us": [18.0, 19.0, 17.0, 18.5, 30.0], "operations_per_sample": 20, "clock": "cuda_events",
    "graph_times_us": [6.9, 7.0, 6.8, 6.9, 7.4], "graph_operations_per_sample": 100, "operations": 900, "wrong": 0,
}  # fmt: skip


def test_a_number_says_what_it_is():
    result = collective.measured("all_reduce", 2, 1, [dict(BATCHES, size_bytes=8), BATCHES, SAMPLES[1]])
    first, last = result["sweep"][0], result["sweep"][-1]
    assert (first["iterations"], first["operations_per_sample"], first["time_us"]["median"]) == (100, 20, 18.5)
    assert (first["graph_time_us"]["median"], first["graph_operations_per_sample"]) == (6.9, 100)
    assert first["algbw_gbps"] == pytest.approx(8 / 18500, rel=1e-5), "bandwidths are of the plain time"
    assert "graph_time_us" not in last and last["operations_per_sample"] == 1
    assert (result["latency_8b_us"], result["latency_8b_graph_us"]) == (18.5, 6.9)
    method = result["method"]
    assert (method["clock"], method["graph"], method["operations_per_sample"], method["over_ranks"]) == ("cuda_events", True, 20, "max")
    plain = collective.measured("all_reduce", 2, 1, SAMPLES)
    assert plain["method"]["graph"] is False and "latency_8b_graph_us" not in plain
    Draft202012Validator(dict(SCHEMA["properties"]["measured"], **{"$defs": SCHEMA["$defs"]})).validate(result)


@pytest.mark.parametrize(
    ("count", "found"), [(1, (1, 1)), (2, (2, 1)), (7, (5, 1)), (10, (5, 2)), (50, (5, 10)), (100, (5, 20)), (1000, (5, 20))]
)
def test_batches_never_run_more_than_the_budget_has(count, found):
    assert collective_worker.batches(count) == found and found[0] * found[1] <= count


SAID = "RuntimeError: CUDA error: operation not permitted when stream is capturing"


@pytest.mark.parametrize(
    ("state", "ended_well", "explains", "status", "words"),
    [
        ({"stage": "done", "graph_error": None}, True, False, None, ""),
        ({"stage": "done", "graph_error": "at 8 bytes: " + SAID}, True, False, "skipped", "operation not permitted"),
        ({"stage": "graph", "graph_error": None}, False, True, "degraded", "did not come back"),
        ({"stage": "done", "graph_error": "at 8 bytes: " + SAID}, False, True, "degraded", "operation not permitted"),
        # Not the graph's: a plain size is missing, or the ranks never came so far.
        ({"stage": "measuring", "graph_error": None}, False, False, None, ""),
        ({"stage": "graph", "graph_error": None, "samples": []}, False, False, None, ""),
    ],
)
def test_whatever_becomes_of_graphs_the_plain_numbers_stand(state, ended_well, explains, status, words):
    measurement = Measurement("collective", "x")
    state = {"samples": SAMPLES, **state}
    assert collective.judge_graph(measurement, state, [8, 1000000], ended_well, "terminate called") is explains
    assert [item["status"] for item in measurement.reasons] == ([status] if status else [])
    assert all(words in item["seen"] and item["check"] == "collective.graph" for item in measurement.reasons)


def test_the_rank_that_could_not_capture_tells_why():
    states = [{"graph_error": "at 8 bytes: 1 other rank(s) could not capture"}, {"graph_error": "at 8 bytes: " + SAID}]
    assert collective.graph_error(states).endswith(SAID) and collective.graph_error([{"graph_error": None}, {}]) is None
