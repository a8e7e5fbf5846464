"""How a device ended is told by what it left; copies between GPUs and the clocks of the whole window are judged."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ansible.module_utils.plumbline.gpus import figures, judge_run

GPU = {"kind": "cuda", "index": 3, "uuid": "GPU-3", "mig": None}


def ended(state, status=1, hung=None):
    conductor = {"exits": {"device0": status}, "hung": {"device0": hung} if hung else {}}
    (item,) = judge_run.came_through([GPU], [state], conductor)
    return item


@pytest.mark.parametrize("error, status, told", [
    ("OutOfMemoryError: CUDA out of memory. Tried to allocate 4.00 GiB.", "incomplete", "out of memory"),
    ("AcceleratorError: CUDA error: uncorrectable ECC error encountered", "failed", "uncorrectable ECC"),
    ("RuntimeError: CUDA error: an illegal memory access was encountered", "failed", "illegal memory"),
    ("ModuleNotFoundError: No module named 'torch'", "incomplete", "No module named"),
    ("RuntimeError: torch 2.11.0+cpu sees 0 CUDA devices where one was chosen (GPU-3)", "incomplete", "sees 0 CUDA devices"),
    ("RuntimeError: The NVIDIA driver on your system is too old (found version 11080).", "incomplete", "too old"),
    ("AcceleratorError: CUDA error: no kernel image is available for execution on the device", "incomplete", "no kernel image"),
    ("RuntimeError: nobody let phase copy go within 200 s", "incomplete", "nobody let"),
])  # fmt: skip
def test_an_error_is_told_with_what_it_means(error, status, told):
    item = ended({"stage": "matrix", "error": error})
    assert item["status"] == status and item["seen"].startswith("GPU 3") and told in item["seen"] and item["remedy"]


def test_a_killed_and_a_hung_process_are_named_with_the_phase():
    killed = ended({"stage": "matrix", "error": None, "log": ""}, status=-9)
    assert killed["status"] == "incomplete" and killed["seen"] == "GPU 3: killed by SIGKILL at the matrix product"
    hung = ended({"stage": "read", "error": None}, status=-9, hung={"before": "copy", "stage": "read", "waited_s": 62.0})
    assert hung["status"] == "failed" and hung["seen"] == "GPU 3: hung at reading, given up after 62 s"
    assert ended({}, status=None)["seen"] == "GPU 3: ended before it said anything"
    assert "bad interpreter" in ended({"log": "x\n/opt/python: bad interpreter\n"}, status=126)["seen"]


def test_all_that_came_through_are_counted():
    assert ended({"stage": "done"}, 0)["status"] == "healthy"


def between(rates, access=True):
    """Return the figures of copies of 1 GB between GPUs, from ``{(source, target): GB/s}``."""
    count = 1 + max(max(pair) for pair in rates)
    pairs = [{"source": a, "target": b, "times_s": [1 / rate], "access": access, "wrong": 0} for (a, b), rate in rates.items()]
    devices = [dict(GPU, index=number) for number in range(count)]
    return figures.peers({"phases": {"peers": {"count": count, "size_bytes": 10**9, "pairs": pairs}}}, devices)


def pairs(count, rate=370.0):
    return {(a, b): rate + (a + b) % 3 for a in range(count) for b in range(count) if a != b}


def checks(found, limits=None):
    return {item["check"]: (item["status"], item["seen"]) for item in judge_run.copies_between(found, limits or {})}


def test_copies_between_eight_good_gpus_pass_and_a_gpu_with_a_lost_link_is_named():
    good = checks(between(pairs(8)), {"p2p_min_gbps": 335, "source": "both confs of NHC"})
    assert {status for status, _seen in good.values()} == {"healthy"}
    rates = pairs(8)
    rates.update({pair: rate * 17 / 18 for pair, rate in rates.items() if 5 in pair})
    status, seen = checks(between(rates))["gpu_baseline.peers"]
    assert status == "degraded" and "slow from GPU 5" in seen and "to GPU 5" in seen and "GPU 4" not in seen


def test_copies_of_two_gpus_and_through_the_host():
    assert checks(between(pairs(2, 40), access=False))["gpu_baseline.peers"] == (
        "healthy", "2 pairs between 41 and 41 GB/s; 2 of them through the host: no peer access",
    )  # fmt: skip
    assert (
        checks(between({(0, 1): 300.0, (1, 0): 301.0}), {"p2p_min_gbps": 335, "source": "x"})["gpu_baseline.peers.baseline"][0]
        == "degraded"
    )
    assert judge_run.copies_between(figures.peers({}, [GPU]), {}) == []


def test_values_that_were_not_copied_right_are_a_failure():
    found = dict(between(pairs(4)), wrong_peers=2)
    assert checks(found)["gpu_baseline.peers.values"][0] == "failed"


def seen_by(window, **item):
    base = {"throttle_us": {}, "reasons_seen": {}, "loaded_samples": 40}
    return [(found["check"], found["status"]) for found in judge_run.clocks(window, {"0000:01:00.0": dict(base, **item)})]


def test_a_power_cap_is_no_fault_and_heat_is():
    window = SimpleNamespace(reasons=[], duration_s=20.0)
    cap = {"sw_power_cap": 12_000_000, "sw_thermal_slowdown": 0, "hw_thermal_slowdown": 0, "hw_power_brake_slowdown": 0}
    assert seen_by(window, throttle_us=cap, reasons_seen={"sw_power_cap": 40}) == [("gpu_baseline.clocks", "healthy")]
    assert seen_by(window, throttle_us=dict(cap, sw_thermal_slowdown=900_000)) == [("gpu_baseline.clocks", "degraded")]
    assert seen_by(window, throttle_us=dict(cap, sw_thermal_slowdown=50)) == [("gpu_baseline.clocks", "healthy")]
    assert seen_by(window, reasons_seen={"hw_slowdown": 30}) == [("gpu_baseline.clocks", "degraded")]
    assert seen_by(window, loaded_samples=0) == [("gpu_baseline.clocks", "skipped")]
