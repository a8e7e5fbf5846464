"""One node against its fleet: equal versions, and outliers only where they can be told."""

from __future__ import annotations

import json
import time

import pytest
from action_run import run_action
from ansible.module_utils.plumbline.controller import fleet
from health_nodes import ROOT
from jsonschema import Draft202012Validator
from report_runs import health


def fact(kernel="5.15", driver="580.1", sku="a", nccl=478.0, ib=(390.0, 391.0), temperature=34, write_ms=None, answer_s=None):
    """Return the parts of a health fact that are compared."""
    return {
        "context": {"kernel": kernel, "os": "Ubuntu", "driver": driver, "sku": sku, "gpu_vbios": ["96.00"], "ib_firmware": ["28.39"]},
        "measured": {
            "nhc": {"nccl_allreduce_gbps": nccl, "ib_write_gbit_s": dict(zip("xy", ib))},  # noqa: B905
            "gpus": {"0001:00:00.0": {"temperature_c": temperature}, "0002:00:00.0": {"temperature_c": None}},
            "memory_total_bytes": 1 << 40,
            "disk_write_ms": {"/": write_ms},
            "answer_s": answer_s,
        },
    }


def whole():
    """Return a health fact with these parts that fits its schema."""
    one, parts = health(), fact()
    return dict(one, context={**one["context"], **parts["context"]}, measured={**one["measured"], **parts["measured"], "gpu_count": 2})


def nodes(*facts):
    """Return summaries by name, n0 first."""
    return {"n%d" % index: fleet.summary(item) for index, item in enumerate(facts)}


def bad(node, given, **options):
    """Return {check: status} of what is not healthy."""
    return {item["check"]: item["status"] for item in fleet.judge(node, given, **options)[0] if item["status"] != "healthy"}


def test_equal_nodes_are_healthy():
    given = nodes(*[fact(nccl=478.0 + index / 10) for index in range(6)])
    for name in given:
        assert bad(name, given) == {}


def test_the_minority_version_is_degraded_and_named_and_the_majority_is_not():
    given = nodes(fact(), fact(), fact(driver="570.9"))
    assert bad("n2", given)["fleet.driver"] == "degraded"
    seen = next(item for item in fleet.judge("n2", given)[0] if item["check"] == "fleet.driver")
    assert "n2 has 570.9" in seen["seen"] and "580.1 on n0, n1" in seen["seen"] and seen["remedy"]
    assert "fleet.driver" not in bad("n0", given)
    assert "not so n2" in next(item for item in fleet.judge("n0", given)[0] if item["check"] == "fleet.driver")["seen"]


def test_without_a_majority_nobody_is_right():
    given = nodes(fact(kernel="a"), fact(kernel="b"))
    assert bad("n0", given)["fleet.kernel"] == bad("n1", given)["fleet.kernel"] == "degraded"
    assert "no version has a majority" in str(fleet.judge("n0", given)[0])


def test_missing_version_is_incomplete():
    given = nodes(fact(), fact(), fact(driver=None))
    assert bad("n2", given)["fleet.driver"] == "incomplete"


def test_only_nodes_of_the_same_sku_are_compared():
    given = nodes(fact(sku="a"), fact(sku="b", kernel="6.8"))
    assert bad("n0", given) == {"fleet": "skipped"}


def test_an_outlier_is_flagged_only_with_enough_nodes():
    four = nodes(*[fact(nccl=value) for value in (478, 477, 479, 300)])
    assert bad("n3", four)["fleet.nccl_allreduce_gbps"] == "skipped"
    five = nodes(*[fact(nccl=value) for value in (478, 477, 479, 478.5, 300)])
    assert bad("n4", five) == {"fleet.nccl_allreduce_gbps": "degraded"}
    assert all("fleet.nccl_allreduce_gbps" not in bad("n%d" % index, five) for index in range(4))
    measured = fleet.judge("n4", five)[1]["metrics"]["nccl_allreduce_gbps"]
    assert measured["median"] == 478 and measured["mad"] == 1 and measured["score"] == pytest.approx(0.6745 * -178)


def test_the_good_side_is_no_outlier():
    given = nodes(*[fact(nccl=value) for value in (478, 477, 479, 478.5, 700)])
    assert bad("n4", given) == {}
    hot = nodes(*[fact(temperature=value) for value in (34, 35, 33, 34, 61)])
    assert bad("n4", hot) == {"fleet.gpu_temperature_max_c": "degraded"}
    cold = nodes(*[fact(temperature=value) for value in (34, 35, 33, 34, 12)])
    assert bad("n4", cold) == {}


def test_a_mad_of_zero_neither_divides_nor_flags_dust():
    dust = nodes(*[fact(nccl=value) for value in (478, 478, 478, 478, 478, 477)])
    assert bad("n5", dust) == {}
    real = nodes(*[fact(nccl=478.0) for _index in range(9)], fact(nccl=300.0))
    assert bad("n9", real) == {"fleet.nccl_allreduce_gbps": "degraded"}
    assert fleet.score(5.0, [5.0] * 5) == (0.0, 5.0, 0.0)


def test_the_slowest_port_counts():
    assert fleet.summary(fact(ib=(390.0, 120.0)))["metrics"]["ib_write_min_gbit_s"] == 120.0
    assert "nccl_allreduce_gbps" not in fleet.summary({"context": {}, "measured": {"nhc": {"nccl_allreduce_gbps": None}}})["metrics"]


def test_action_returns_a_valid_fact_of_every_node(keep):
    for index in range(5):
        keep("n%d" % index, whole())
    keep("n5", dict(whole(), status="nonsense"))
    result = run_action("fleet_health", {"nodes": ["n%d" % index for index in range(7)]})
    assert sorted(result["plumbline_facts"]) == ["n0", "n1", "n2", "n3", "n4"], "what breaks its schema, or left nothing, is not compared"
    (found,) = result["plumbline_facts"]["n1"]
    for name in ("fact", "health"):
        Draft202012Validator(json.loads((ROOT / ("docs/schema/%s.schema.json" % name)).read_text())).validate(found)
    assert found["name"] == "fleet" and found["status"] == "healthy"
    assert found["measured"]["metrics"]["nccl_allreduce_gbps"]["nodes_count"] == 5


def test_action_refuses_what_it_cannot_compare(keep):
    result = run_action("fleet_health", {"nodes": ["n0"], "min_nodes": 2})
    assert result["failed"] and "at least 3" in result["msg"]


def test_a_disk_that_is_slow_is_named_and_noise_is_not():
    # 16 healthy nodes of a lab, one run: write latencies on a disk that they share, in ms.
    noise = (9.2, 11.8, 10.1, 13.0, 9.9, 96.4, 12.2, 31.7, 10.8, 9.5, 117.8, 14.1, 12.9, 31.9, 10.3, 11.1)
    given = nodes(*[fact(write_ms=value) for value in noise])
    assert all(bad(name, given) == {} for name in given)
    slow = nodes(*[fact(write_ms=value) for value in (*noise, 1450.0)])
    assert bad("n16", slow) == {"fleet.disk_write_max_ms": "degraded"}
    assert all(bad("n%d" % index, slow) == {} for index in range(16))


def test_temperatures_a_few_degrees_apart_are_no_finding():
    given = nodes(*[fact(temperature=value) for value in (30, 30, 31, 30, 30, 37)])
    assert all(bad(name, given) == {} for name in given)


def test_a_node_that_takes_much_longer_to_answer_is_slow_with_its_figure():
    given = nodes(*[fact(answer_s=value) for value in (0.9, 1.1, 1.0, 1.4, 1.2, 21.3)])
    assert bad("n5", given) == {"fleet.answer_s": "degraded"}
    (found,) = [item for item in fleet.judge("n5", given)[0] if item["status"] == "degraded"]
    assert "n5 has 21.3, the median of 6 nodes is 1.15" in found["seen"] and "top" in found["remedy"]
    # Real: 14 nodes of a lab on two busy processors, one with a Python that sleeps for 9 s first.
    seen = (3.422, 3.539, 3.588, 3.727, 3.766, 3.809, 3.936, 4.107, 4.128, 4.285, 4.416, 4.46, 4.717, 11.442)
    real = nodes(*[fact(answer_s=value) for value in seen])
    assert [name for name in real if bad(name, real)] == ["n13"]
    # 64 nodes of one machine with two cores: the first to start is done first.
    crowd = nodes(*[fact(answer_s=2 + index / 4) for index in range(64)])
    assert all(bad(name, crowd) == {} for name in crowd)


def test_a_thousand_nodes_are_compared_in_seconds():
    began = time.monotonic()
    found = fleet.facts({"n%04d" % index: fact(nccl=470 + index % 7, answer_s=1.0) for index in range(1000)})
    assert len(found) == 1000 and time.monotonic() - began < 10
    assert len(found[0][1]["context"]["nodes"]) == 32 and found[0][1]["measured"]["nodes_count"] == 1000
