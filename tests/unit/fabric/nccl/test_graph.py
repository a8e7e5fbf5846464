"""nccl-tests in a CUDA graph: the runs, and the numbers of two real H200s."""

from __future__ import annotations

import pytest
from ansible.module_utils.plumbline.core.fact import Measurement
from ansible.module_utils.plumbline.fabric.nccl import command, graph, judge, output
from project import ROOT

PLAN = {
    "sizes": [8, 16, 32], "factor": 2, "extra": [20, 4096], "point_bytes": 64, "cycles": 2, "iterations": 50, "warmup": 1, "check": 1,
    "per_iteration": True, "graph_launches": 20, "graph_max_bytes": 24,
}  # fmt: skip
SIZES = [8 * 2**power for power in range(18)]


def real(number):
    """Return one of the four outputs in the capture: all-reduce in a graph and plain, send-receive in a graph and plain."""
    text = (ROOT / "tests/captures/h200x2/nccl.small-messages.graph-and-plain.txt").read_text()
    parts = text.split("# nccl-tests version")[1:]
    return output.parse_text("# nccl-tests version" + parts[number])


def test_the_runs_come_last_and_without_what_does_not_go_with_a_graph():
    runs = command.runs(PLAN, supports_json=True)
    assert [run["what"] for run in runs] == [
        "sweep", "20 bytes", "4096 bytes", "point", "sweep in a graph", "20 bytes in a graph",
    ]  # fmt: skip
    assert runs[4]["options"] == {"-b": 8, "-e": 16, "-f": 2, "-n": 50, "-w": 1, "-c": 1, "-G": 20} and runs[4]["json"] == "run4.json"
    assert len(command.runs(dict(PLAN, graph_launches=0), True)) == 4


def asked(launches=20):
    return {"what": "sweep in a graph", "sizes": SIZES, "options": {"-n": 50}, "graph": launches}


def test_real_times_in_a_graph_stand_beside_the_plain_ones():
    results = [({"what": "sweep", "sizes": SIZES, "options": {"-n": 200}}, real(1)), (asked(), real(0))]
    found = judge.measured("all_reduce", 2, 1, results)
    row = next(row for row in found["sweep"] if row["size_bytes"] == 16384)
    assert row["time_us"]["mean"] == 18.86 and row["graph_time_us"] == {"mean": 6.89} and row["graph_operations_per_sample"] == 1000
    assert (found["latency_8b_mean_us"], found["latency_8b_graph_mean_us"]) == (17.24, 5.92)
    measurement = Measurement("collective", "case")
    judge.judge_values(measurement, "all_reduce", [results[0], *graph.whole(results[1:])])
    graph.judge(measurement, {"G"}, [asked()], "in_place", results[1:], None)
    assert [item["status"] for item in measurement.reasons] == ["healthy"]


def test_real_sendrecv_in_a_graph_is_out_of_place():
    assert graph.times(judge.placement_of("sendrecv", 2), [(asked(), real(2))])[16384] == (7.64, 1000)


def test_a_real_plain_output_is_no_graph():
    assert real(0)["graph"] == 20 and real(1)["graph"] == 0
    assert graph.times("in_place", [(asked(), real(1))]) == {}
    measurement = Measurement("collective", "case")
    graph.judge(measurement, {"G"}, [asked()], "in_place", [(asked(), real(1))], None)
    assert measurement.reasons[0]["status"] == "skipped" and "do not say that they took -G" in measurement.reasons[0]["seen"]


@pytest.mark.parametrize("cut", ["# Out of bounds", "    1048576 "])
def test_an_output_that_was_cut_is_no_number(cut):
    text = (ROOT / "tests/captures/h200x2/nccl.small-messages.graph-and-plain.txt").read_text()
    torn = output.parse_text(text[: text.index(cut)])
    assert graph.times("in_place", [(asked(), torn)]) == {}
    measurement = Measurement("collective", "case")
    graph.judge(measurement, {"G"}, [asked()], "in_place", [(asked(), torn)], None)
    assert measurement.reasons[0]["status"] == "skipped" and "lack a whole row" in measurement.reasons[0]["seen"]
