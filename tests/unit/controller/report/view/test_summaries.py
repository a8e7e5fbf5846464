"""Summary sentences say what their own data carries, and nothing else."""

from __future__ import annotations

import json

import pytest
from ansible.module_utils.plumbline.controller.report.findings.collect import findings
from ansible.module_utils.plumbline.controller.report.findings.layouts import apart, why_not_apart
from ansible.module_utils.plumbline.controller.report.verdicts import verdicts
from ansible.module_utils.plumbline.controller.report.view.headline import headline
from ansible.module_utils.plumbline.controller.report.view.recommend import recommendations
from ansible.module_utils.plumbline.controller.report.view.tiles import tiles
from project import H200
from report_runs import benchmark, collective, put, stats, whole_run, with_sweep


@pytest.fixture
def told(records):
    def run(files):
        found = records(files)
        return headline(found, verdicts(found), findings(found)), tiles(found.layouts, verdicts(found)), recommendations(found)

    return run


def test_an_all_reduce_that_is_slower_within_a_node_is_noise_and_not_in_the_headline(told):
    """A real run of the lab: 1,075 µs within a node and 341 across."""
    files = whole_run()
    for node in ("node1", "node2"):
        put(files, node, collective("all_reduce", "within", 1075.0, 2.4))
    put(files, "node1", collective("all_reduce", "across", 341.0, 0.11))
    said = told(files)[0]["fastest"]
    assert "Fastest is tp1" in said and "µs" not in said
    assert "640 µs" in told(whole_run())[0]["fastest"], "where crossing costs, and the spreads are apart, it is said"


def test_spreads_that_overlap_are_not_in_the_headline(told):
    files = whole_run()
    for node in ("node1", "node2"):
        put(files, node, collective("all_reduce", "within", 600.0, 2.4))
    assert "µs" not in told(files)[0]["fastest"]


def same_rates(name, factor):
    """Return a benchmark of a layout with the rates of tp1, times a factor."""
    one = benchmark("tp1")
    for run in one["measured"]["runs"]:
        for key in list(run):
            run[key] = run[key] * factor if key.endswith("_tok_s") else run[key] / factor if key.endswith("_ms") else run[key]
    keys = [key for key in one["measured"]["runs"][0] if key.endswith(("_ms", "_tok_s"))]
    one["measured"]["summary"] = {key: stats([run[key] for run in one["measured"]["runs"]]) for key in keys}
    one["name"] = name
    one["context"].update(layout=name, tp=2)
    return one


def test_a_tile_names_no_winner_where_intervals_overlap(told):
    files = whole_run()
    put(files, "node1", same_rates("tp2_within", 0.999))
    _head, made, _advice = told(files)
    notes = {tile["label"]: tile["note"] for tile in made}
    for label in ("highest throughput", "lowest TTFT", "lowest TPOT"):
        assert "not told apart from tp2_within" in notes[label], notes
    assert "not told apart" not in {tile["label"]: tile["note"] for tile in told(whole_run())[1]}["highest throughput"]


def test_two_real_starts_of_one_server_are_not_told_apart():
    """Two starts on an H200, whose intervals do not overlap: nothing differed but the start."""
    one, two = (
        json.loads((H200 / ("plumbline.benchmark.%s.json" % name)).read_text())["measured"]["summary"]["throughput_tok_s"]
        for name in ("qwen7b", "qwen7b.again")
    )
    assert two["ci95_high"] < one["ci95_low"], "their samples are apart"
    assert apart(one, two) is False and "two starts" in why_not_apart(one, two)
    slower = {key: value if key in ("n", "cv") else 0.95 * value for key, value in two.items()}
    assert apart(one, slower) is True


def test_what_crossing_adds_is_claimed_only_where_it_shows(records):
    files = whole_run()
    put(files, "node1", same_rates("tp2_within", 0.8))
    across = same_rates("tp2_across", 0.7999)
    across["context"].update(
        nodes=2, node_addresses=["10.98.0.11", "10.98.0.12"], ray_nodes=[{"address": "10.98.0.11"}, {"address": "10.98.0.12"}]
    )
    put(files, "node1", across)
    found = {item["id"]: item for item in findings(records(files))}
    item = found["layouts.crossing_explained.tp2_across"]
    assert item["level"] == "overlap" and "not told apart" in item["claim"] and "longer" not in item["claim"]


def test_a_recommendation_for_each_model_and_number_of_nodes_with_its_reason(told):
    advice = {item["nodes"]: item for item in told(whole_run())[2]}
    assert set(advice) == {"1 node", "2 nodes"}
    assert advice["1 node"]["latency"].startswith("tp1 (TP 1, 1 node, mp): an answer of 128 tokens takes")
    assert "as fast as the next, tp2_within" in advice["1 node"]["latency"]
    assert advice["1 node"]["throughput"].startswith("Not known") and "serve_benchmark_sweep" in advice["1 node"]["throughput"]


def test_the_throughput_that_is_recommended_keeps_the_slo(told):
    files = whole_run()
    one = with_sweep(benchmark("tp1"), levels=((1, 100.0), (4, 380.0), (16, 900.0)))
    for level, share in zip(one["measured"]["sweep"], (1.0, 0.95, 0.2)):
        level["goodput_share"] = share
    put(files, "node1", one)
    said = next(item for item in told(files)[2] if item["nodes"] == "1 node")["throughput"]
    assert said.startswith("tp1 (TP 1, 1 node, mp) with 4 in flight: 380 tok/s in all") and "SLO" in said and "without an interval" in said
    for level in one["measured"]["sweep"]:
        level["goodput_share"] = 0.2
    put(files, "node1", one)
    assert next(item for item in told(files)[2] if item["nodes"] == "1 node")["throughput"].startswith("None: no level of the sweep keeps")


def test_equal_layouts_are_both_recommended(told):
    files = whole_run()
    put(files, "node1", same_rates("tp2_within", 0.999))
    said = next(item for item in told(files)[2] if item["nodes"] == "1 node")["latency"]
    assert "Not told apart from tp2_within (the intervals overlap)" in said
