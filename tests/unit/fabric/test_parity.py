"""Torch's collective against nccl-tests' on the same nodes."""

import copy
import json

import pytest
from ansible.module_utils.plumbline.core.fact import Measurement
from ansible.module_utils.plumbline.fabric import parity as collective_parity
from project import ROOT

GIB = 2**30
LEAST = 64 * 2**20


def fact_of(ranks, *pairs, status="healthy", tool="torch"):
    measurement = Measurement("collective", "all_reduce.within")
    measurement.add("collective.values", status, "every element correct")
    measurement.measured = {"ranks": ranks, "sweep": [{"size_bytes": size, "busbw_gbps": value} for size, value in pairs]}
    measurement.context = {"tool": tool}
    return measurement.fact()


REFERENCE = fact_of(8, (16384, 5.0), (GIB, 480.0), (2 * GIB, 481.0), tool="nccl-tests")


@pytest.mark.parametrize(
    ("mine", "status", "worst"),
    [
        (fact_of(8, (16384, 0.1), (GIB, 440.0)), "healthy", "healthy"),
        (fact_of(8, (GIB, 470.0), (2 * GIB, 300.0)), "degraded", "degraded"),
        (fact_of(8, (GIB, 560.0)), "degraded", "degraded"),
        (fact_of(8, (16384, 5.0)), "incomplete", "incomplete"),
        (fact_of(2, (GIB, 470.0)), "skipped", "healthy"),
        (fact_of(8, (GIB, 470.0), status="failed"), "healthy", "failed"),
    ],
)
def test_parity_of_host_and_serving_runtime(mine, status, worst):
    before = copy.deepcopy(mine)
    found = collective_parity.add_parity(mine, REFERENCE, 0.1, LEAST)
    assert mine == before, "the fact that was given is as it was"
    reason = found["reasons"][-1]
    assert reason["check"] == "collective.parity" and reason["status"] == status and found["status"] == worst
    assert found["reasons"][:-1] == mine["reasons"] and reason["threshold"].startswith("within 10% of nccl-tests")
    assert set(found) == set(mine) and found["context"] == mine["context"]
    if status == "degraded":
        assert "the worst of" in reason["seen"] and reason["remedy"]


def test_parity_names_the_worst_size():
    found = collective_parity.add_parity(fact_of(8, (GIB, 470.0), (2 * GIB, 300.0)), REFERENCE, 0.1, LEAST)
    assert found["measured"]["parity"] == {"tool": "nccl-tests", "sizes": 2, "worst_size_bytes": 2 * GIB, "worst_ratio": 0.6237}
    assert found["reasons"][-1]["seen"] == f"300.0 GB/s here, 481.0 GB/s by nccl-tests at {2 * GIB} bytes: 0.624, the worst of 2 sizes"
    assert "parity" not in collective_parity.add_parity(fact_of(2, (GIB, 1.0)), REFERENCE, 0.1, LEAST)["measured"]


@pytest.mark.parametrize("reference", [None, {}, {"measured": {}}])
def test_no_reference_is_no_parity(reference):
    mine = fact_of(8, (8, 1.0))
    assert collective_parity.add_parity(mine, reference, 0.1, 8) is mine


def test_nothing_measured_is_not_compared():
    mine = fact_of(8)
    assert collective_parity.add_parity(mine, REFERENCE, 0.1, LEAST) is mine


# Measured on four H200s of one host, in GB/s and µs: torch's sweep, and nccl-tests' bandwidth.
ALL_REDUCE = ((8, 9.36651e-05, 128.116), (1024, 0.014197, 108.192), (64 * 2**20, 311.262, 323.404), (GIB, 353.842, 4551.78))
ALL_REDUCE_REFERENCE = fact_of(4, (64 * 2**20, 310.154695), (GIB, 353.79558), tool="nccl-tests")
SENDRECV = ((8, 2.43197e-05, 328.952), (16384, 0.121072, 135.324), (64 * 2**20, 153.203, 438.04), (GIB, 359.311, 2988.332))
SENDRECV_REFERENCE = fact_of(4, (64 * 2**20, 298.137328), (GIB, 363.754684), tool="nccl-tests")


def timed(*rows):
    fact = fact_of(4)
    fact["measured"]["sweep"] = [{"size_bytes": size, "busbw_gbps": gbps, "time_us": {"median": time}} for size, gbps, time in rows]
    return fact


@pytest.mark.parametrize(
    ("mine", "reference", "status", "words"),
    [
        (timed(*ALL_REDUCE), ALL_REDUCE_REFERENCE, "healthy", "1.000, the worst of 1 sizes"),
        (timed(*SENDRECV), SENDRECV_REFERENCE, "healthy", "0.988, the worst of 1 sizes"),
        # The same machine with a sweep that ends at 64 MiB says nothing, and calls nothing bad.
        (
            timed(*SENDRECV[:3]),
            SENDRECV_REFERENCE,
            "skipped",
            "nccl-tests reach 298.137 GB/s at 67108864 bytes, the largest size in common, of 363.755 GB/s at their peak",
        ),
        # A runtime that loses half of it where the host's share cannot have done it (composed).
        (timed(*SENDRECV[:3], (GIB, 181.0, 5932.0)), SENDRECV_REFERENCE, "degraded", "0.498, the worst of 1 sizes"),
        (timed(*SENDRECV[:2], (GIB, 42.0, 25565.0)), SENDRECV_REFERENCE, "degraded", "0.115"),
    ],
)
def test_the_hosts_share_is_not_called_a_loss_of_the_runtime(mine, reference, status, words):
    found = collective_parity.add_parity(mine, reference, 0.1, LEAST)["reasons"][-1]
    assert found["status"] == status and words in found["seen"], found
    assert bool(found["remedy"]) == (status != "healthy")


def batched(*rows, operations=20):
    fact = timed(*rows)
    for row in fact["measured"]["sweep"]:
        row["operations_per_sample"] = operations
    return fact


# The same machine's peak, which a smaller message reaches on other links, with the times of batches (composed).
AT_64_MIB = fact_of(4, (64 * 2**20, 298.137328), tool="nccl-tests")


@pytest.mark.parametrize(
    ("mine", "status", "words"),
    [
        (batched((8, 3.2e-4, 25.0), (64 * 2**20, 295.0, 227.5)), "healthy", "0.989, the worst of 1 sizes"),
        (batched((8, 1.3e-4, 60.0), (64 * 2**20, 290.0, 231.4)), "healthy", "0.973, the worst of 1 sizes"),
        (batched((8, 3.2e-4, 25.0), (64 * 2**20, 149.0, 450.0)), "degraded", "0.500, the worst of 1 sizes"),
        # The host is nearly as slow as the link: no size says anything.
        (batched((8, 5.9e-5, 135.0), (64 * 2**20, 250.0, 268.0)), "skipped", "the host's share decides"),
        # A batch of two holds half of the host's share in each operation.
        (batched((8, 8e-5, 100.0), (64 * 2**20, 240.0, 280.0), operations=2), "skipped", "the host's share decides"),
    ],
)
def test_batches_hide_the_hosts_share_where_the_gpu_takes_longer(mine, status, words):
    found = collective_parity.add_parity(mine, AT_64_MIB, 0.1, LEAST)["reasons"][-1]
    assert found["status"] == status and words in found["seen"], found


@pytest.mark.parametrize("op", ["all_reduce", "sendrecv"])
@pytest.mark.parametrize(("lost", "status"), [(1, "healthy"), (0.5, "degraded")])
def test_four_h200s_in_batches(op, lost, status):
    """A send-receive of 64 MiB takes torch twice as long as nccl-tests there; that is no loss, and one of half is found all the same."""
    folder = ROOT / "tests" / "captures" / "h200x4"
    mine, reference = (json.loads((folder / f"collective.{name}{op}.within.json").read_text()) for name in ("", "nccl_tests."))
    mine["reasons"] = [item for item in mine["reasons"] if item["check"] != "collective.parity"]
    for row in mine["measured"]["sweep"]:
        row["busbw_gbps"] *= lost
    found = collective_parity.add_parity(mine, reference, 0.1, LEAST)["reasons"][-1]
    assert found["status"] == status and "the worst of 1 sizes" in found["seen"], found


@pytest.mark.parametrize(("op", "status"), [("all_reduce", "skipped"), ("sendrecv", "skipped")])
def test_what_two_h200s_wrote_one_by_one_calls_nothing_bad(op, status):
    folder = ROOT / "tests" / "captures" / "h200x2"
    mine, reference = (json.loads((folder / f"collective.{name}{op}.within.json").read_text()) for name in ("", "nccl_tests."))
    mine["reasons"] = [item for item in mine["reasons"] if item["check"] != "collective.parity"]
    found = collective_parity.add_parity(mine, reference, 0.1, LEAST)["reasons"][-1]
    assert found["status"] == status, found
