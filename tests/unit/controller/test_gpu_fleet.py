"""GPUs of all nodes against each other: where each node has one, only the fleet says which is bad."""

from __future__ import annotations

import pytest
from action_run import run_action
from ansible.module_utils.plumbline.controller import gpu_fleet
from ansible.module_utils.plumbline.controller.report.data import Schemas
from ansible.module_utils.plumbline.core.fact import Measurement
from gpu_rows import READ, TFLOPS, row, rows
from project import SCHEMAS


def fact(gpus, torch="2.11.0"):
    found = Measurement("gpu_baseline", "gpus")
    found.add("gpu_baseline.run", "healthy", "measured")
    found.measured = {"gpus": gpus, "cpu": None, "peer_gbps": []}
    found.context = {"torch_version": torch, "cuda_version": "13.0"}
    return found.fact()


def fleet(nodes, **more):
    """Return ``{node: {check: (status, seen)}}`` of what did not pass."""
    found = dict(gpu_fleet.facts({"n%d" % number: fact(gpus) for number, gpus in enumerate(nodes)}, **more))
    schemas = Schemas(str(SCHEMAS))
    assert [schemas.problems("gpu_baseline", item) for item in found.values()] == [[] for _node in found]
    return {
        node: {item["check"]: (item["status"], item["seen"]) for item in entry["reasons"] if item["status"] not in ("healthy", "skipped")}
        for node, entry in found.items()
    }


def single(count, seed=1):
    """Return nodes with one good GPU each."""
    return [[dict(item, index=0)] for item in rows(count, seed)]


def test_good_fleets_pass():
    for seed in range(40):
        assert not any(fleet(single(8, seed)).values()), seed
        assert not any(fleet([rows(8, seed), rows(8, seed + 1000)]).values()), seed


def test_the_node_whose_only_gpu_reads_less_is_named():
    nodes = single(8)
    nodes[3][0]["read_gbps"] = READ * 0.965
    found = fleet(nodes)
    status, seen = found["n3"]["gpu_baseline.fleet.read"]
    assert status == "degraded" and seen.startswith("GPU 0 of n3: 3001 GB/s") and not found["n2"]


def test_a_slow_product_is_told_with_what_slowed_it():
    nodes = single(8)
    nodes[3][0] = row(0, bf16_tflops=TFLOPS * 0.9)
    assert "slow at an equal clock" in fleet(nodes)["n3"]["gpu_baseline.fleet.matrix"][1]


def test_too_few_nodes_name_nobody():
    nodes = single(4)
    nodes[3][0]["read_gbps"] = READ * 0.9
    assert not any(fleet(nodes).values())
    found = dict(gpu_fleet.facts({"n%d" % number: fact(gpus) for number, gpus in enumerate(nodes)}))
    told = {item["check"]: item["status"] for item in found["n3"]["reasons"]}
    assert told["gpu_baseline.fleet.read"] == "skipped" and told["gpu_baseline.fleet.hash"] == "healthy"
    with pytest.raises(ValueError, match="at least 3"):
        gpu_fleet.facts({}, min_nodes=2)


def test_the_gpu_that_computes_something_else_is_a_failure_of_its_node():
    nodes = single(3)
    nodes[1][0]["product_sha256"] = "another"
    found = fleet(nodes)
    assert found["n1"]["gpu_baseline.fleet.hash"] == ("failed", "GPU 0 of n1 computed another product than most of 3 equal GPUs")
    assert not found["n0"] and not found["n2"]


def test_a_whole_node_that_agrees_with_itself_and_two_nodes_without_a_majority_are_no_proof():
    nodes = [rows(4, number) for number in range(3)]
    nodes[2] = [dict(item, product_sha256="another") for item in nodes[2]]
    status, seen = fleet(nodes)["n2"]["gpu_baseline.fleet.hash"]
    assert status == "degraded" and "is its cuBLAS another one?" in seen
    two = single(2)
    two[0][0]["product_sha256"] = "another"
    assert {found["gpu_baseline.fleet.hash"][0] for found in fleet(two).values()} == {"degraded"}


def test_other_software_and_other_models_are_not_compared():
    found = {"a": fact([row(0)]), "b": fact([row(0, product_sha256="another")], torch="2.12.0")}
    found["c"] = fact([row(0, model="NVIDIA H200", product_sha256="third")])
    told = {node: item["status"] for node, item in gpu_fleet.facts(found)}
    assert told == dict.fromkeys("abc", "skipped")


def test_the_plugin_compares_what_the_run_kept_and_leaves_out_nodes_without_gpus(keep):
    for number, gpus in enumerate([*single(6), []]):
        keep("n%d" % number, fact(gpus))
    names = ["n%d" % number for number in range(7)]
    answer = run_action("gpu_fleet", {"nodes": names, "min_nodes": 5})
    assert sorted(answer["plumbline_facts"]) == names[:6] and answer["changed"] is False
    assert answer["plumbline_facts"]["n0"][0]["name"] == "fleet"
