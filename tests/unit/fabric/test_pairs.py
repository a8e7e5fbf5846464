"""Rounds of pairs, what a pair's fact is, and who is behind slow pairs. Bandwidths here are made up to test code."""

from __future__ import annotations

import itertools

import pytest
from ansible.module_utils.plumbline.controller import pair_verdict as pairwise_verdict
from ansible.module_utils.plumbline.controller import suspect
from ansible.module_utils.plumbline.core.fact import reason
from ansible.module_utils.plumbline.fabric import pairs as pairwise

FAST, SLOW = 100.0, 4.0
LIMITS = {"min_ratio": 0.7, "mad_factor": 3.0}


def names(count):
    return ["n%02d" % number for number in range(1, count + 1)]


def links(nodes, slow_nodes=(), slow_pairs=(), noise=0.0, dead=()):
    """Return a link for every pair: what the slower end or the way lets through, with a fixed pattern of noise."""
    found = []
    for number, pair in enumerate(itertools.combinations(nodes, 2)):
        slow = set(pair) & set(slow_nodes) or set(pair) in [set(item) for item in slow_pairs]
        value = (SLOW if slow else FAST) * (1 - noise * (number * 7 % 5) / 4)
        found.append({"nodes": list(pair), "bandwidth_gbps": None if set(pair) & set(dead) else value})
    return found


def verdicts(found, nodes):
    return {node: item["verdict"] for node, item in suspect.judge(found, nodes, **LIMITS)["nodes"].items()}


@pytest.mark.parametrize("count", range(2, 18))
def test_every_node_meets_every_other_once_and_none_twice_in_a_round(count):
    nodes = names(count)
    plan = pairwise.rounds(nodes)
    assert len(plan) == (count - 1 if count % 2 == 0 else count)
    met = [pair for pairs in plan for pair in pairs]
    assert sorted(met) == sorted(itertools.combinations(nodes, 2))
    for pairs in plan:
        busy = [node for pair in pairs for node in pair]
        assert len(busy) == len(set(busy)) == count - count % 2


def test_one_node_has_no_round_and_a_node_named_twice_is_refused():
    assert pairwise.rounds(["a"]) == pairwise.rounds([]) == []
    with pytest.raises(ValueError, match="named twice"):
        pairwise.rounds(["a", "b", "a"])


def test_places_say_who_is_first_and_leave_out_who_rests():
    plan = pairwise.places(["z", "b", "a"])
    assert [set(places) for places in plan] == [{"b", "a"}, {"z", "a"}, {"z", "b"}]
    assert plan[1] == {"z": {"pair": ["z", "a"], "rank": 0}, "a": {"pair": ["z", "a"], "rank": 1}}


def collective(**changes):
    sweep = [
        {"size_bytes": 8, "time_us": {"median": 200.0}, "busbw_gbps": 0.00004},
        {"size_bytes": 4194304, "time_us": {"median": 40000.0}, "busbw_gbps": 0.105},
    ]
    fact = {
        "schema": "plumbline.collective/1", "name": "all_reduce.across", "status": "healthy",
        "reasons": [reason("collective.values", "healthy", "right"), reason("collective.baseline", "skipped", "none")],
        "measured": {"ranks": 2, "nodes": 2, "sweep": sweep, "peak_busbw_gbps": 0.11},
        "context": {"op": "all_reduce", "scope": "across", "addresses": ["10.0.0.1", "10.0.0.2"]},
        "started_at": "2026-11-24T12:00:00Z", "duration_s": 5.0, "command": "torchrun",
    }  # fmt: skip
    return {**fact, **changes}


def test_a_pairs_fact_has_the_largest_sizes_bandwidth_and_the_smallest_sizes_time():
    fact = pairwise.link_fact(collective(), ["a", "b"], 2)
    assert (fact["schema"], fact["name"], fact["status"]) == ("plumbline.link/1", "pair.a.b", "healthy")
    assert fact["measured"]["bandwidth_gbps"] == 0.105 and fact["measured"]["size_bytes"] == 4194304
    assert fact["measured"]["latency_us"] == 200.0 and fact["measured"]["latency_size_bytes"] == 8
    assert fact["context"]["nodes"] == ["a", "b"] and fact["context"]["round"] == 2
    assert [item["check"] for item in fact["reasons"]] == ["collective.values"]


def test_a_pair_that_failed_or_left_nothing_has_no_number_to_compare():
    lost = [reason("collective.peer", "failed", "10.0.0.2 did not join")]
    failed = pairwise.link_fact(collective(reasons=lost, status="failed", measured={"ranks": 2}), ["a", "b"], 1)
    assert failed["status"] == "failed" and "bandwidth_gbps" not in failed["measured"]
    assert pairwise.link_fact(collective(reasons=[], status="healthy"), ["a", "b"], 1)["status"] == "incomplete"
    unproven = [reason("collective.traffic", "incomplete", "eth0 sent 0 bytes")]
    unproven = pairwise.link_fact(collective(reasons=unproven, status="incomplete"), ["a", "c"], 1)
    both = pairwise.pair_links([failed, pairwise.link_fact(collective(), ["a", "b"], 1), unproven])
    assert [(link["nodes"], link["bandwidth_gbps"]) for link in both] == [(["a", "b"], 0.105), (["a", "c"], None)]


@pytest.mark.parametrize("count", [3, 4, 5, 8, 16])
@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_a_slow_node_is_found_and_no_other_is_accused(count, noise):
    nodes = names(count)
    for bad in (nodes[0], nodes[-1]):
        found = verdicts(links(nodes, slow_nodes=[bad], noise=noise), nodes)
        assert found == {**dict.fromkeys(nodes, suspect.CLEAR), bad: suspect.SUSPECT}


@pytest.mark.parametrize(("count", "bad"), [(4, 2), (5, 2), (8, 3)])
def test_several_slow_nodes_are_found_while_two_good_ones_and_most_are_left(count, bad):
    nodes = names(count)
    found = verdicts(links(nodes, slow_nodes=nodes[:bad]), nodes)
    assert found == {**dict.fromkeys(nodes, suspect.CLEAR), **dict.fromkeys(nodes[:bad], suspect.SUSPECT)}


@pytest.mark.parametrize("noise", [0.0, 0.2, 0.5])
@pytest.mark.parametrize("count", [3, 4, 7])
def test_nobody_is_accused_when_all_are_alike_or_all_are_slow(count, noise):
    nodes = names(count)
    for slow in ([], nodes):
        judged = suspect.judge(links(nodes, slow_nodes=slow, noise=noise), nodes, **LIMITS)
        assert {item["verdict"] for item in judged["nodes"].values()} == {suspect.CLEAR}


@pytest.mark.parametrize("count", [3, 4, 8])
def test_a_slow_link_is_told_from_a_slow_node(count):
    nodes = names(count)
    judged = suspect.judge(links(nodes, slow_pairs=[("n01", "n02")]), nodes, **LIMITS)
    assert {item["verdict"] for item in judged["nodes"].values()} == {suspect.CLEAR}
    assert [link["nodes"] for link in judged["slow_links"]] == [["n01", "n02"]]


def test_slow_with_most_but_not_with_all_is_named_and_only_degraded():
    nodes = names(6)
    found = links(nodes, slow_pairs=[("n01", other) for other in nodes[2:]])
    assert verdicts(found, nodes) == {**dict.fromkeys(nodes, suspect.CLEAR), "n01": suspect.MOSTLY}
    fact = pairwise_verdict.measurement("n01", nodes, {None: found}, 0.7, 3.0, "failed").fact()
    assert fact["status"] == "degraded" and "not with all" in fact["reasons"][0]["seen"]


@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_a_node_with_which_no_pair_works_is_the_one(noise):
    nodes = names(4)
    found = links(nodes, dead=["n03"], noise=noise)
    assert verdicts(found, nodes) == {**dict.fromkeys(nodes, suspect.CLEAR), "n03": suspect.SUSPECT}
    fact = pairwise_verdict.measurement("n03", nodes, {None: found}, 0.7, 3.0, "failed").fact()
    assert fact["status"] == "failed" and "no pair with n03 works" in fact["reasons"][0]["seen"]
    assert fact["measured"]["median_gbps"] is None and fact["measured"]["measured_pairs"] == 0


def test_without_any_number_nothing_is_told_and_nothing_passes():
    nodes = names(4)
    found = links(nodes, dead=nodes)
    assert set(verdicts(found, nodes).values()) == {suspect.UNKNOWN}
    fact = pairwise_verdict.measurement("n01", nodes, {None: found}, 0.7, 3.0, "failed").fact()
    assert fact["status"] == "incomplete"
    assert pairwise_verdict.measurement("n01", nodes, {None: []}, 0.7, 3.0, "failed").fact()["status"] == "incomplete"


def test_two_nodes_do_not_tell_which_of_them_it_is():
    fact = pairwise_verdict.measurement("n01", names(2), {None: links(names(2))}, 0.7, 3.0, "failed").fact()
    assert fact["status"] == "skipped" and "which of the two" in fact["reasons"][0]["seen"] and fact["reasons"][0]["remedy"]


def test_three_nodes_say_what_else_it_could_be():
    nodes = names(3)
    fact = pairwise_verdict.measurement("n02", nodes, {None: links(nodes, slow_nodes=["n02"])}, 0.7, 3.0, "failed").fact()
    assert fact["status"] == "failed" and "with three nodes" in fact["reasons"][0]["seen"]
    four = pairwise_verdict.measurement("n02", names(4), {None: links(names(4), slow_nodes=["n02"])}, 0.7, 3.0, "failed").fact()
    assert "with three nodes" not in four["reasons"][0]["seen"]


def test_the_verdict_on_a_suspect_is_data_and_says_seen_threshold_and_remedy():
    nodes = names(4)
    fact = pairwise_verdict.measurement("n04", nodes, {None: links(nodes, slow_nodes=["n04"])}, 0.7, 3.0, "degraded").fact()
    assert fact["status"] == "degraded" and fact["context"]["suspect"] is True
    reason_ = fact["reasons"][0]
    assert "n04 is slow with every other node" in reason_["seen"] and "70 GB/s" in reason_["threshold"]
    assert "n04" in reason_["remedy"] and fact["measured"]["ratio"] == pytest.approx(SLOW / FAST)


def test_a_slow_link_warns_both_of_its_ends_and_nobody_else():
    nodes = names(4)
    found = links(nodes, slow_pairs=[("n01", "n02")])
    facts = {node: pairwise_verdict.measurement(node, nodes, {None: found}, 0.7, 3.0, "failed").fact() for node in nodes}
    assert {node: fact["status"] for node, fact in facts.items()} == {
        "n01": "degraded", "n02": "degraded", "n03": "healthy", "n04": "healthy",
    }  # fmt: skip
    assert any("the way to n02" in item["seen"] for item in facts["n01"]["reasons"])


def test_ports_are_judged_one_by_one():
    nodes = names(4)
    groups = {"mlx5_ib0/1": links(nodes), "mlx5_ib1/1": links(nodes, slow_nodes=["n02"])}
    fact = pairwise_verdict.measurement("n02", nodes, groups, 0.7, 3.0, "failed").fact()
    assert fact["name"] == "ib.pairwise" and fact["status"] == "failed"
    assert fact["context"]["verdicts"] == ["clear", "suspect"]
    bad = [item for item in fact["reasons"] if item["status"] == "failed"]
    assert [item["check"] for item in bad] == ["pairwise.node.mlx5_ib1/1"] and "mlx5_ib1/1 of n02" in bad[0]["seen"]
