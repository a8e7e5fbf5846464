"""What the kept facts say about the fabric: whether to look closer, and torch against nccl-tests."""

from __future__ import annotations

import json

import pytest
from action_run import run_action
from report_runs import collective, pair, reason

NODES = ["node1", "node2", "node3"]


def across(status="healthy", **context):
    fact = dict(collective("all_reduce", "across", 100.0, 0.2), status=status, reasons=[reason("collective.baseline", status, "0.1 GB/s")])
    return dict(fact, context={**fact["context"], **context})


def incident(keep, role, host):
    path = keep.folder / "incidents.json"
    path.write_text(json.dumps([{"host": host, "role": role, "state": "failed", "task": "x", "message": "y", "at": "z"}]))


def state(group=("node1", "node2")):
    answer = run_action("fabric_state", {"nodes": NODES, "group": list(group)})
    return answer["group_failed"], answer["ports_missed"]


def test_nothing_kept_asks_for_nothing(keep):
    assert state() == (False, False)


@pytest.mark.parametrize(("fact", "failed"), [(across(), False), (across("failed"), True), (across("incomplete"), False)])
def test_a_group_that_failed_across_is_looked_at(keep, fact, failed):
    keep("node1", fact)
    assert state() == (failed, False)
    assert state(group=["node2", "node3"]) == (False, False), "it is another group's"


def test_a_negative_control_says_nothing_and_an_incident_of_the_fabric_does(keep):
    keep("node1", across("failed", control="forced socket"))
    assert state() == (False, False)
    incident(keep, "model_sync", "node2")
    assert state() == (False, False)
    incident(keep, "fabric_baseline", "node2")
    assert state() == (True, False)


def ports(one, two, status, gbit_s):
    fact = pair(one, two, 1, 1.0, status)
    measured = {"ports": [{"port": "mlx5_ib0/1", "bandwidth_gbit_s": gbit_s}], "bandwidth_gbit_s": gbit_s}
    return dict(fact, name="ib.%s.%s" % (one, two), measured=measured)


def test_a_port_that_missed_its_threshold_is_looked_at(keep):
    keep("node1", ports("node1", "node2", "healthy", 392.0))
    assert state() == (False, False)
    keep("node1", ports("node1", "node3", "failed", 211.0))
    assert state() == (False, True)
    assert run_action("fabric_state", {"nodes": ["node1", "node2"]})["ports_missed"] is False


def test_each_node_is_judged_by_the_pairs_that_were_kept(keep):
    for one, two, gbps in (("node1", "node2", 1.0), ("node1", "node3", 0.1), ("node2", "node3", 0.11)):
        keep(one, pair(one, two, 1, gbps))
    facts = run_action("pairwise_verdict", {"nodes": NODES})["plumbline_facts"]
    assert {node: [fact["status"] for fact in found] for node, found in facts.items()} == {
        "node1": ["healthy"], "node2": ["healthy"], "node3": ["failed"],
    }  # fmt: skip
    refused = run_action("pairwise_verdict", {"nodes": NODES, "min_ratio": 1.5})
    assert refused["failed"] and "min_ratio=1.5" in refused["msg"]
    # Verdicts on nodes are link facts too, and no pairs.
    for node, found in facts.items():
        keep(node, found[0])
    assert run_action("pairwise_verdict", {"nodes": NODES})["plumbline_facts"].keys() == facts.keys()


def test_torch_is_compared_with_nccl_tests_where_both_measured(keep):
    torch, other = across(), dict(across(tool="nccl-tests"), name="nccl_tests.all_reduce.across")
    keep("node1", torch)
    assert run_action("collective_parity", {})["plumbline_facts"] == {}
    keep("node1", other)
    keep("node2", collective("sendrecv", "within", 20.0, 1.0))
    for name in ("sendrecv.across", "nccl_tests.sendrecv.across"):
        keep("node1", dict(across("skipped"), name=name, measured={}))
    ((host, (fact,)),) = run_action("collective_parity", {"min_bytes": 1024})["plumbline_facts"].items()
    assert host == "node1" and fact["name"] == "all_reduce.across" and fact["measured"]["parity"]["worst_ratio"] == 1.0
    assert any(item["check"] == "collective.parity" and item["status"] == "healthy" for item in fact["reasons"])
    refused = run_action("collective_parity", {"tolerance": 2})
    assert refused["failed"] and "tolerance is 2" in refused["msg"]
