"""Findings on synthetic runs: they claim what the numbers carry, and no more."""

from __future__ import annotations

import pytest
from ansible.module_utils.plumbline.controller.report.findings.collect import findings
from ansible.module_utils.plumbline.controller.report.findings.layouts import apart
from report_runs import NODES, benchmark, collective, put, put_pairs, serving_all_reduce, stats, whole_run


@pytest.fixture
def claims(records):
    """Return the findings of a run folder, by id."""
    return lambda files: {item["id"]: item for item in findings(records(files))}


def means(one, metric="throughput_tok_s"):
    return one["measured"]["summary"][metric]["mean"]


def test_tensor_across_nodes_against_a_pipeline_is_told_from_the_data(claims):
    item = claims(whole_run())["layouts.tp_against_pp_across"]
    assert item["level"] == "supported"
    assert (item["values"]["fast"], item["values"]["slow"]) == ("pp2_across", "tp2_across")
    assert item["values"]["ratio"] == pytest.approx(means(benchmark("pp2_across")) / means(benchmark("tp2_across")))
    assert "the intervals do not overlap" in item["claim"] and " / " in item["arithmetic"]


def test_the_claim_turns_round_with_the_data(claims):
    files = whole_run()
    slow, fast = benchmark("tp2_across"), benchmark("pp2_across")
    slow["measured"], fast["measured"] = fast["measured"], slow["measured"]
    put(files, "node1", slow)
    put(files, "node1", fast)
    item = claims(files)["layouts.tp_against_pp_across"]
    assert (item["values"]["fast"], item["values"]["slow"]) == ("tp2_across", "pp2_across")


def test_overlapping_intervals_are_not_called_a_difference(claims):
    files = whole_run()
    near = benchmark("tp2_across")
    near["measured"]["summary"] = benchmark("pp2_across")["measured"]["summary"]
    near["measured"]["runs"] = benchmark("pp2_across")["measured"]["runs"]
    put(files, "node1", near)
    item = claims(files)["layouts.tp_against_pp_across"]
    assert item["level"] == "overlap" and "not told apart" in item["claim"] and "as fast as" not in item["claim"]


def test_one_run_has_no_interval_and_carries_no_claim(claims):
    files = whole_run()
    for name in ("tp2_across", "pp2_across"):
        one = benchmark(name)
        one["measured"]["runs"] = one["measured"]["runs"][:1]
        for metric, value in one["measured"]["runs"][0].items():
            if metric in one["measured"]["summary"]:
                empty = dict.fromkeys(("stdev", "cv", "ci95_low", "ci95_high"))
                one["measured"]["summary"][metric] = {"n": 1, "mean": value, "median": value, **empty}
        put(files, "node1", one)
    item = claims(files)["layouts.tp_against_pp_across"]
    assert item["level"] == "no data" and "at least two runs" in item["missing"]


def test_a_failed_benchmark_is_left_out_and_named(claims):
    files = whole_run()
    bad = benchmark("pp2_across")
    bad["status"] = "failed"
    put(files, "node1", bad)
    found = claims(files)
    assert "layouts.tp_against_pp_across" not in found
    assert "pp2_across" in found["layouts.left_out"]["claim"]


def test_different_executors_are_said(claims):
    assert "executor (mp, ray)" in claims(whole_run())["layouts.crossing_nodes"]["claim"]


def test_per_token_estimate_is_two_a_layer_and_one_times_the_measured_latency(claims):
    item = claims(whole_run())["layouts.communication.tp2_across"]
    sweep = collective("all_reduce", "across", 640.0, 0.11)["measured"]["sweep"]
    latency = next(point["time_us"]["median"] for point in sweep if point["size_bytes"] == 256 * 4)
    assert item["level"] == "estimate"
    assert "2 × 8 + 1 = 17" in item["arithmetic"] and "1 KiB" in item["arithmetic"]
    assert "%.1f ms a token" % (17 * latency / 1000) in item["claim"]


def graphed(scope, base_us, factor):
    """Return an all-reduce whose small messages were measured in a CUDA graph too."""
    fact = collective("all_reduce", scope, base_us, 0.11)
    for point in fact["measured"]["sweep"]:
        if point["size_bytes"] <= 2**20:
            point["graph_time_us"] = {name: value * factor for name, value in point["time_us"].items()}
    return fact


def test_decoding_is_estimated_by_the_time_in_a_graph_where_there_is_one(claims):
    files = whole_run()
    assert "(median, plain, at" in claims(files)["layouts.communication.tp2_across"]["arithmetic"]
    across = graphed("across", 640.0, 0.5)
    put(files, "node1", across)
    found = claims(files)
    latency = next(point["graph_time_us"]["median"] for point in across["measured"]["sweep"] if point["size_bytes"] == 256 * 4)
    assert "%.2f ms a token" % (17 * latency / 1000) in found["layouts.communication.tp2_across"]["claim"]
    assert "median in a CUDA graph, at 1 KiB" in found["layouts.communication.tp2_across"]["arithmetic"]
    # Within has none: what crossing adds compares plain with plain.
    assert "µs (median, plain)" in found["layouts.crossing_explained.tp2_across"]["arithmetic"]
    for node in NODES:
        put(files, node, graphed("within", 40.0, 0.5))
    assert "µs (median in a CUDA graph)" in claims(files)["layouts.crossing_explained.tp2_across"]["arithmetic"]


def test_the_serving_runtimes_own_all_reduce_counts_before_torchs(claims):
    files = whole_run()
    put(files, "node1", graphed("across", 640.0, 0.5))
    put(files, "node1", serving_all_reduce((2, 2, 1024, 28.0, 27.0, 29.0), (2, 1, 1024, 4.0, 3.9, 4.1)))
    found = claims(files)
    item = found["layouts.communication.tp2_across"]
    assert "%.3f ms a token" % (17 * 28.0 / 1000) in item["claim"] and "the serving runtime's own" in item["arithmetic"]
    assert "in a CUDA graph by nccl, at 1 KiB" in item["arithmetic"]
    explained = found["layouts.crossing_explained.tp2_across"]["arithmetic"]
    assert "17 × (28.0 − 4.00) µs" in explained and "by nccl; the serving runtime's own, median in a CUDA graph by custom" in explained
    assert not [name for name in found if "serving" in name], "it is no collective with a sweep"


@pytest.mark.parametrize(
    "fact",
    [
        serving_all_reduce((2, 2, 65536, 28.0, 27.0, 29.0)),  # another message
        serving_all_reduce((4, 2, 1024, 28.0, 27.0, 29.0)),  # another group
        serving_all_reduce((2, 2, 1024, 28.0, 27.0, 29.0), status="failed"),
    ],
)
def test_what_is_not_this_layouts_all_reduce_does_not_stand_for_it(claims, fact):
    files = whole_run()
    put(files, "node1", fact)
    assert "(median, plain, at 1 KiB" in claims(files)["layouts.communication.tp2_across"]["arithmetic"]


def test_the_slowest_node_of_a_group_within_counts(claims, records):
    from ansible.module_utils.plumbline.controller.report.findings.reduce_times import of_groups

    files = whole_run()
    for node, time in (("node1", 4.0), ("node2", 9.0), ("node3", 5.0)):
        put(files, node, serving_all_reduce((2, 1, 1024, time, time, time)))
    made = records(files)
    (time,) = of_groups([(2, 1)], 1024, made.collectives, made.reduces)
    assert (time.us, time.host) == (9.0, "node2")
    assert of_groups([(2, 1)], 1024, [], []) == []


def test_groups_that_stay_within_a_node_pay_nothing_for_crossing(claims):
    files = whole_run()
    stages = benchmark("tp2_across")
    stages["name"] = "stages"
    stages["context"].update(layout="stages", tp=2, pp=2, nodes=2)
    put(files, "node1", stages)
    put(files, "node1", serving_all_reduce((2, 1, 1024, 4.0, 3.9, 4.1), (2, 2, 1024, 28.0, 27.0, 29.0)))
    found = claims(files)
    item = found["layouts.communication.stages"]
    assert "none of them across nodes" in item["claim"] and "× 4.00 µs" in item["arithmetic"]
    assert "layouts.crossing_explained.stages" not in found


def test_latency_is_that_in_a_graph_where_both_scopes_have_one(claims):
    files = whole_run()
    put(files, "node1", graphed("across", 640.0, 0.5))
    assert "launched one by one" in claims(files)["fabric.latency.all_reduce"]["arithmetic"]
    for node in NODES:
        put(files, node, graphed("within", 40.0, 0.5))
    item = claims(files)["fabric.latency.all_reduce"]
    assert item["level"] == "supported" and "in a CUDA graph" in item["arithmetic"]
    assert "20.0 µs within a node and 320 µs across nodes" in item["claim"]


def test_overlapping_latencies_are_no_pair_of_numbers_in_the_claim(claims):
    files = whole_run()
    put(files, "node1", collective("all_reduce", "across", 24.0, 0.11))
    item = claims(files)["fabric.latency.all_reduce"]
    assert "µs" not in item["claim"] and "24.1 / 22.0" in item["arithmetic"]


def test_a_lower_latency_across_nodes_is_not_told_as_a_cost(claims):
    files = whole_run()
    put(files, "node1", collective("all_reduce", "across", 2.0, 0.11))
    item = claims(files)["fabric.latency.all_reduce"]
    assert "takes no longer across nodes" in item["claim"] and "µs" not in item["claim"]


def test_difference_to_one_node_is_compared_with_the_prediction(claims):
    item = claims(whole_run())["layouts.crossing_explained.tp2_across"]
    assert "44.0 ms longer in tp2_across than in tp2_within" in item["claim"]


@pytest.mark.parametrize("gone, lacking", [
    ("layers", "context.model_layers"),
    ("sweep", "a passing all_reduce fact across nodes"),
])  # fmt: skip
def test_without_layers_or_sweep_there_is_no_estimate(claims, gone, lacking):
    files = whole_run()
    if gone == "layers":
        one = benchmark("tp2_across")
        del one["context"]["model_layers"]
        put(files, "node1", one)
    else:
        del files["facts/node1/collective.all_reduce.across.json"]
    item = claims(files)["layouts.communication.tp2_across"]
    assert item["level"] == "no data" and lacking in item["missing"]


def test_without_a_twin_on_one_node_there_is_no_baseline(claims):
    files = whole_run()
    for kind in ("startup", "benchmark"):
        del files[f"facts/node1/{kind}.tp2_within.json"]
    item = claims(files)["layouts.crossing_explained.tp2_across"]
    assert item["level"] == "no data" and item["claim"].startswith("No baseline")


def test_latency_is_compared_with_the_slowest_node(claims):
    item = claims(whole_run())["fabric.latency.all_reduce"]
    assert item["level"] == "supported"
    assert "22.0 µs within a node and 640 µs across nodes" in item["claim"] and "node2" in item["arithmetic"]


def test_latencies_with_overlapping_spreads_are_not_called_different(claims):
    files = whole_run()
    put(files, "node1", collective("all_reduce", "across", 24.0, 0.11))
    item = claims(files)["fabric.latency.all_reduce"]
    assert item["level"] == "overlap" and "no difference is shown" in item["claim"]


def test_more_bandwidth_than_the_link_has_is_a_warning(claims):
    files = whole_run()
    fast = collective("all_reduce", "across", 640.0, 0.5)
    put(files, "node1", fast)
    found = claims(files)
    assert found["fabric.line_rate.all_reduce"]["level"] == "warning"
    assert found["fabric.line_rate.sendrecv"]["level"] == "supported"
    fast["context"]["link_rate_gbit_s"] = None
    put(files, "node1", fast)
    assert "No baseline" in claims(files)["fabric.line_rate.all_reduce"]["claim"]


def test_a_summary_that_is_not_the_mean_of_its_runs_is_a_warning(claims):
    files = whole_run()
    odd = benchmark("tp1")
    odd["measured"]["summary"]["ttft_ms"]["mean"] *= 2
    put(files, "node1", odd)
    found = claims(files)
    assert found["layouts.summary_disagrees"]["level"] == "warning"
    assert "ttft_ms" in found["layouts.summary_disagrees"]["claim"]
    assert found["layouts.identity"]["level"] == "warning"
    assert "layouts.summary_disagrees" not in claims(whole_run())


def test_unsteady_runs_are_a_warning(claims):
    files = whole_run()
    shaky = benchmark("tp1")
    for run, value in zip(shaky["measured"]["runs"], (100, 120, 140, 90, 130)):
        run["throughput_tok_s"] = value
    shaky["measured"]["summary"]["throughput_tok_s"] = stats([100, 120, 140, 90, 130])
    put(files, "node1", shaky)
    assert "tp1" in claims(files)["layouts.unsteady"]["claim"]
    assert "layouts.unsteady" not in claims(whole_run())


def test_apart_needs_two_intervals():
    low, high = stats([1, 1.1, 1.2]), stats([5, 5.1, 5.2])
    assert apart(low, high) is True and apart(high, low) is True and apart(low, low) is False
    assert apart(low, {"mean": 5}) is None and apart(None, high) is None


def test_nothing_measured_says_so(claims):
    files = {path: content for path, content in whole_run().items() if not path.startswith("facts/")}
    found = claims(files)
    assert list(found) == ["layouts.fastest"] and found["layouts.fastest"]["level"] == "no data"


FAST_PAIRS = {("node1", "node2"): 0.118, ("node1", "node3"): 0.117, ("node2", "node3"): 0.119}


def test_a_node_whose_pairs_are_all_slow_is_named_first_with_the_numbers(claims):
    files = whole_run()
    put_pairs(files, NODES, {**FAST_PAIRS, ("node1", "node3"): 0.0024, ("node2", "node3"): 0.0025})
    found = claims(files)
    item = found["fabric.suspect.node3"]
    assert list(found)[0] == "fabric.suspect.node3" and item["level"] == "warning" and item["values"]["node"] == "node3"
    assert "node3 is behind the slow fabric" in item["claim"] and "with three nodes" in item["claim"]
    assert "0.00245 / 0.118" in item["arithmetic"]
    assert not [name for name in found if name.startswith(("fabric.suspect.node1", "fabric.suspect.node2", "fabric.pairs"))]


def test_a_slow_link_is_called_a_link(claims):
    files = whole_run()
    four = [*NODES, "node4"]
    values = {**FAST_PAIRS, **{(node, "node4"): 0.118 for node in NODES}, ("node1", "node2"): 0.02}
    put_pairs(files, four, values)
    found = claims(files)
    assert "a link, not a node" in found["fabric.slow_link.node1.node2"]["claim"]
    assert not [name for name in found if name.startswith("fabric.suspect")]


def test_when_nobody_stands_out_that_is_what_is_said(claims):
    files = whole_run()
    put_pairs(files, NODES, FAST_PAIRS)
    item = claims(files)["fabric.pairs"]
    assert item["level"] == "supported" and "No node stands out among 3" in item["claim"] and "0.117 GB/s to 0.119 GB/s" in item["claim"]


def test_two_nodes_and_pairs_without_numbers_claim_nothing(claims):
    files = whole_run()
    put_pairs(files, NODES[:2], {("node1", "node2"): 0.1})
    assert claims(files)["fabric.pairs"]["level"] == "no data"
    files = whole_run()
    put_pairs(files, NODES, dict.fromkeys(FAST_PAIRS))
    assert claims(files)["fabric.pairs"]["level"] == "no data"


def by_nccl_tests(op, scope, base_us, peak, control=None):
    made = collective(op, scope, base_us, peak)
    made["name"] = "nccl_tests." + made["name"] + (".forced_socket" if control else "")
    made["context"].update(tool="nccl-tests", backend="nccl", control=control)
    made["context"]["transport"] = {
        "verdict": "Socket" if control else "IB", "devices": [] if control else ["mlx5_ib0:1/IB"], "evidence": ["NET/IB : Using"],
    }  # fmt: skip
    return made


def test_tools_are_compared_with_themselves_and_a_forced_socket_with_nothing(claims):
    files = whole_run()
    put(files, "node1", by_nccl_tests("all_reduce", "within", 11.0, 478.0))
    put(files, "node1", by_nccl_tests("all_reduce", "across", 28.0, 470.0))
    put(files, "node1", by_nccl_tests("all_reduce", "across", 9000.0, 1.0, control="forced socket"))
    found = claims(files)
    assert "22.0 µs within a node and 640 µs across" in found["fabric.latency.all_reduce"]["claim"]
    assert "11.0 µs within a node and 28.0 µs across" in found["fabric.latency.all_reduce.nccl-tests"]["claim"]
    assert not [item for item in found.values() if "9,000" in item["claim"]]
    assert found["fabric.line_rate.all_reduce"]["level"] == "supported", "one interface's rate says nothing about eight ports"


def twin(name, new_name, factor=1.0, **context):
    """Return a benchmark like another under a name of its own, ``factor`` times as fast."""
    made = benchmark(name)
    made["name"] = new_name
    made["context"].update(layout=new_name, **context)
    for run in made["measured"]["runs"]:
        run["throughput_tok_s"] *= factor
    values = [run["throughput_tok_s"] for run in made["measured"]["runs"]]
    made["measured"]["summary"]["throughput_tok_s"] = stats(values)
    return made


def test_the_same_layout_under_two_executors_differs_by_software(claims):
    files = whole_run()
    put(files, "node1", twin("tp2_across", "tp2_native", 1.4, executor="mp"))
    item = claims(files)["layouts.executor_parity"]
    assert item["level"] == "supported" and item["values"]["fast"] == "tp2_native"
    assert item["values"]["ratio"] == pytest.approx(1.4)
    assert "Nothing but the executor differs" in item["claim"] and "need not all be the network" not in item["claim"]


def test_executors_that_are_not_told_apart_claim_nothing(claims):
    files = whole_run()
    put(files, "node1", twin("tp2_across", "tp2_native", 1.001, executor="mp"))
    item = claims(files)["layouts.executor_parity"]
    assert item["level"] == "overlap" and "software" not in item["claim"]


def test_a_container_is_compared_with_the_host_and_no_executor_with_it(claims):
    files = whole_run()
    for name in ("tp1", "tp2_across"):
        files[f"facts/node1/benchmark.{name}.json"]["context"]["runtime"] = "host"
    put(files, "node1", twin("tp2_across", "tp2_docker", 0.9, runtime="docker"))
    found = claims(files)
    item = found["layouts.runtime_parity"]
    assert item["values"] == {"fast": "tp2_across", "slow": "tp2_docker", "ratio": pytest.approx(1 / 0.9)}
    assert "Nothing but the runtime differs" in item["claim"] and "docker" in item["claim"]
    assert "layouts.executor_parity" not in found


def test_layouts_of_one_executor_have_no_parity(claims):
    found = claims(whole_run())
    assert "layouts.executor_parity" not in found and "layouts.runtime_parity" not in found
