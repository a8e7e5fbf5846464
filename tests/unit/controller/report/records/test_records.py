"""Records: made once for a whole report, and never stopped by odd facts."""

from __future__ import annotations

import sys

import pytest
from ansible.module_utils.plumbline.controller.report import render
from ansible.module_utils.plumbline.controller.report.records import collect as collecting
from ansible.module_utils.plumbline.controller.report.records.collectives import latency_at, method_of_decode
from ansible.module_utils.plumbline.controller.report.records.layouts import describe
from ansible.module_utils.plumbline.controller.report.records.reduces import reduces
from project import ROOT, SCHEMAS
from report_runs import NODES, benchmark, collective, judged, put, put_pairs, startup, whole_run, write

PACKAGE = "ansible.module_utils.plumbline.controller.report."
MAKERS = ("layouts", "collectives", "links", "judged_nodes", "reduces")
PAIRS = {("node1", "node2"): 0.118, ("node1", "node3"): 0.0024, ("node2", "node3"): 0.0025}


def test_a_whole_report_makes_its_records_once(tmp_path, monkeypatch):
    calls = []
    makers = {name: getattr(collecting, name) for name in MAKERS}
    for name, maker in makers.items():
        monkeypatch.setattr(collecting, name, lambda data, name=name, maker=maker: calls.append(name) or maker(data))
    monkeypatch.setattr(render, "draw", lambda _records: [])
    render.build(str(write(whole_run(), tmp_path)), str(SCHEMAS), str(ROOT / "roles/report/templates"))
    assert sorted(calls) == sorted(MAKERS)
    others = {name: module for name, module in sys.modules.items() if name.startswith(PACKAGE) and ".records." not in name}
    assert PACKAGE + "view.page" in others
    assert not [name for name, module in others.items() if any(value in makers.values() for value in vars(module).values())]


def test_layouts_have_the_order_of_the_selection_and_then_of_their_start(records):
    files = whole_run()
    files["selection.json"]["layouts"] = [{"name": "tp2_across"}, {"name": "tp1"}, {"name": "tp1"}, {"name": "never served"}, {"name": 3}]
    found = records(files).layouts
    assert [item["name"] for item in found] == ["tp2_across", "tp1", "never served", "tp2_within", "pp2_across"]
    assert [item["usable"] for item in found] == [True, True, False, True, True]
    assert describe(found[0]) == "tp2_across (TP 2, 2 nodes, ray)" and describe(found[2]) == "never served"


def test_the_benchmark_says_what_was_served_and_the_startup_fills_the_gaps(records):
    files = whole_run()
    one = benchmark("tp1")
    one["context"].update(executor="ray", tp=None, pp=2.5)
    put(files, "node1", one)
    begun = startup("tp1")
    begun["context"].update(tp=4, compile_cache_hit=True)
    put(files, "node1", begun)
    (found,) = [item for item in records(files).layouts if item["name"] == "tp1"]
    assert (found["executor"], found["tp"], found["pp"], found["ranks"], found["runtime"]) == ("ray", 4, 1, 4, "host")
    assert found["compile_cache"] == "hit" and found["startup"]["ready_s"] == 41.5 and found["hidden_size"] == 256


def test_the_last_fact_of_a_layout_counts(records):
    files = whole_run()
    again = benchmark("tp1", minute=55)
    again["measured"]["concurrency"] = 7
    put(files, "node1", again, "benchmark.again")
    (found,) = [item for item in records(files).layouts if item["name"] == "tp1"]
    assert found["concurrency"] == 7 and len(found["entries"]["benchmark"]) == 2


@pytest.mark.parametrize("transport, network, devices", [
    ("IB", "IB", []), ({"verdict": "Socket", "devices": ["eth0"]}, "Socket", ["eth0"]),
    ({"verdict": 3, "devices": {"mlx5_0": 8}}, None, ["mlx5_0"]),
])  # fmt: skip
def test_a_transport_is_a_word_or_a_verdict(records, transport, network, devices):
    files = whole_run()
    one = collective("all_reduce", "across", 640.0, 0.11)
    one["context"]["transport"] = transport
    put(files, "node1", one)
    (found,) = [item for item in records(files).collectives if (item["op"], item["scope"]) == ("all_reduce", "across")]
    assert (found["transport"]["network"], found["transport"]["devices"]) == (network, devices)


def test_latency_is_taken_at_the_nearest_size_that_was_swept(records):
    (found,) = [item for item in records(whole_run()).collectives if (item["op"], item["scope"]) == ("all_reduce", "across")]
    points = {point["size_bytes"]: point["time_us"]["median"] for point in found["sweep"]}
    assert latency_at(found, 1000) == (1024, points[1024]) and latency_at(found, 1) == (8, points[8])
    assert latency_at(dict(found, sweep=[]), 8) == (None, None)


def test_pairs_and_the_verdicts_on_nodes_are_told_apart(records):
    files = whole_run()
    put_pairs(files, NODES, PAIRS)
    found = records(files)
    assert {tuple(item["nodes"]): item["bandwidth_gbps"] for item in found.links} == PAIRS
    assert {item["node"]: item["verdict"] for item in found.judged} == {"node1": "clear", "node2": "clear", "node3": "suspect"}


@pytest.mark.parametrize("slow, kept", [(3, []), (None, []), ([["a", "b"], ["c"], 4], [["a", "b"]])])
def test_odd_lists_of_slow_links_are_read_as_far_as_they_go(records, slow, kept):
    files = whole_run()
    one = judged(NODES, PAIRS)["node1"]
    one["context"].update(slow_links=slow, verdicts=[])
    put(files, "node1", one)
    (found,) = records(files).judged
    assert found["slow_links"] == kept and found["verdict"] == "unknown"


def test_a_mean_in_a_graph_stands_in_for_the_median_that_nccl_tests_do_not_print(records):
    files = whole_run()
    made = collective("all_reduce", "within", 18.0, 400.0)
    made["name"] = "nccl_tests.all_reduce.within"
    made["context"]["tool"] = "nccl-tests"
    made["measured"]["latency_8b_graph_mean_us"] = 5.9
    for point in made["measured"]["sweep"]:
        point["time_us"] = {"mean": 18.0}
        if point["size_bytes"] <= 2**20:
            point["graph_time_us"] = {"mean": 6.9}
    put(files, "node1", made)
    (record,) = [item for item in records(files).collectives if item["tool"] == "nccl-tests"]
    assert latency_at(record, 16384, "graph_time_us") == (16384, 6.9) and record["latency_8b_graph_us"] == 5.9
    assert method_of_decode(record, size_bytes=16384) == "graph_time_us" and method_of_decode(record, size_bytes=2**26) == "time_us"


@pytest.mark.parametrize(
    "change",
    [{"time_us": 0}, {"wrong": 2}, {"message_bytes": None}],
)
def test_a_serving_all_reduce_without_a_time_or_with_wrong_values_is_no_record(change):
    row = {"tp": 2, "nodes": 1, "message_bytes": 16384, "time_us": 4.4, "wrong": 0}
    fact = {"status": "healthy", "measured": {"results": [row, {**row, **change}, "odd"]}}
    data = {"facts": [{"kind": "collective", "name": "serving_all_reduce", "host": "node1", "file": "f", "problems": [], "fact": fact}]}
    (record,) = reduces(data)
    assert (record["time_us"], record["low_us"], record["path"], record["layouts"], record["host"]) == (4.4, None, None, [], "node1")
