"""The verdict, on the evidence of a good machine with one thing broken at a time."""

from __future__ import annotations

import copy

import pytest
from ansible.module_utils.plumbline.health.checks.bound import NO_EXPECTATION
from ansible.module_utils.plumbline.health.verdict import assess
from health_nodes import GIB, bare, kernel_log

EXPECT = {
    "cpu_count": 96,
    "numa_node_count": 1,
    "load_per_cpu_max": 0.5,
    "memory_total_min_bytes": 1800 * GIB,
    "memory_available_min_bytes": 1600 * GIB,
    "swap_max_bytes": 0,
    "disk_free_min_bytes": 200 * GIB,
    "disk_free_min_percent": 5,
    "inodes_free_min_percent": 5,
    "disk_write_max_ms": 1000,
    "nic_mtu_min_bytes": 1500,
    "nic_speed_min_mbit_s": 40000,
    "nic_error_ratio_max": 1e-5,
    "nic_drop_ratio_max": 1e-3,
    "clock_skew_max_ms": 500,
    "clock_sync_required": True,
}
GOOD = bare("/var/lib/plumbline", place="/var/lib")
UNREADABLE = kernel_log(None, source=None, complete=False, error="klogctl: no")


def broken(**changes):
    """Return GOOD with dotted keys replaced: ``nic__carrier=0``, ``disks__0__read_only=True``."""
    evidence = copy.deepcopy(GOOD)
    for key, value in changes.items():
        *path, last = [int(part) if part.isdigit() else part for part in key.split("__")]
        place = evidence
        for part in path:
            place = place[part]
        place[last] = value
    return evidence


# What a virtual machine without GPU, InfiniBand, NHC and Azure's image has no part in; each is skipped, and says why.
NOT_HERE = (
    "gpu", "ib.state", "ib.gpu_direct", "pci.acs", "memory.lock", "memory.huge_pages", "cpu.governor", "image.versions", "nhc",
)  # fmt: skip


def bad(evidence, expect=EXPECT):
    """Return {check: status} of what is not healthy, without :data:`NOT_HERE`."""
    return {
        item["check"]: item["status"] for item in assess(evidence, expect) if item["status"] != "healthy" and item["check"] not in NOT_HERE
    }


def test_good_node_is_healthy_and_every_check_says_so():
    assert bad(GOOD) == {}
    reasons = assess(GOOD, EXPECT)
    assert all(item["seen"] and item["threshold"] for item in reasons if item["status"] == "healthy")
    checks = {item["check"].split(".")[0] for item in reasons}
    assert checks == {"gpu", "ib", "pci", "numa", "cpu", "memory", "processes", "image", "disk", "nic", "clock", "kernel_log", "nhc"}
    assert {item["status"] for item in reasons if item["check"] in NOT_HERE} == {"skipped"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"cpu__count": 95}, {"cpu.count": "failed"}),
        ({"cpu__count": None}, {"cpu.count": "incomplete", "cpu.load": "incomplete"}),
        ({"cpu__load": [90.0, 1.0, 1.0]}, {"cpu.load": "degraded"}),
        # 250 per processor, by whom? Plumbline's own load is no finding; one training job on every processor is, and is named.
        ({"cpu__load": [24000.0, 1.0, 1.0], "cpu__others": {"mean": 1.2, "top": []}}, {}),
        ({"cpu__load": [900.0, 1.0, 1.0], "cpu__others": {"mean": 800.0, "top": []}}, {"cpu.load": "degraded"}),
        ({"cpu__load": None}, {"cpu.load": "incomplete"}),
        ({"memory__total": 1700 * GIB}, {"memory.total": "failed"}),
        ({"memory__available": 2 * GIB}, {"memory.available": "failed"}),
        ({"memory__available": None}, {"memory.available": "incomplete"}),
        ({"memory__swap_total": GIB}, {"memory.swap": "degraded"}),
        ({"disks__0__free_bytes": 100 * GIB}, {"disk.free": "failed"}),
        ({"disks__0__total_bytes": 100000 * GIB}, {"disk.free": "failed"}),
        ({"disks__0__inodes_free": 10}, {"disk.inodes": "failed"}),
        ({"disks__0__read_only": True}, {"disk.write": "failed"}),
        ({"disks__0__write": {"ms": None, "error": "No space left on device (ENOSPC)"}}, {"disk.write": "failed"}),
        ({"disks__0__write": {"ms": None, "error": "Permission denied (EACCES)"}}, {"disk.write": "incomplete"}),
        ({"disks__0__write": {"ms": 5000.0, "error": None}}, {"disk.write": "degraded"}),
        ({"disks__0__write": None}, {"check_mode": "skipped"}),
        ({"disks__0__error": "Permission denied"}, {"disk.free": "incomplete"}),
        ({"read_only_mounts": ["/mnt"]}, {"disk.read_only": "degraded"}),
        ({"read_only_mounts": None}, {"disk.read_only": "incomplete"}),
        ({"nic__carrier": 0, "nic__operstate": "down"}, {"nic.state": "failed"}),
        ({"nic__operstate": "lowerlayerdown", "nic__carrier": 0}, {"nic.state": "failed"}),
        ({"nic__operstate": None}, {"nic.state": "incomplete"}),
        ({"nic__mtu": 1400}, {"nic.mtu": "failed"}),
        ({"nic__speed_mbit_s": 10000}, {"nic.speed": "failed"}),
        ({"nic__speed_mbit_s": None}, {"nic.speed": "incomplete"}),
        ({"nic__rx_errors": 1000}, {"nic.errors": "degraded"}),
        ({"nic__tx_dropped": 100000}, {"nic.drops": "degraded"}),
        ({"nic__rx_errors": None}, {"nic.errors": "incomplete"}),
        ({"nic__interface": None}, {"nic.state": "incomplete"}),
        ({"clock_skew__skew_ms": -4000.0}, {"clock.skew": "failed"}),
        ({"clock_skew__skew_ms": 495.0}, {"clock.skew": "incomplete"}),
        ({"clock_skew__bound_ms": 900.0}, {"clock.skew": "incomplete"}),
        ({"clock_skew": None}, {"clock.skew": "incomplete"}),
        ({"kernel_clock__synchronised": False}, {"clock.sync": "degraded"}),
        ({"kernel_clock": {"error": "adjtimex: Operation not permitted"}}, {"clock.sync": "incomplete"}),
        (
            {"kernel_log": UNREADABLE},
            {"kernel_log": "incomplete"},
        ),
        (
            {"kernel_log": kernel_log(["EXT4-fs error (device sda1): x"])},
            {"kernel_log.filesystem": "failed"},
        ),
    ],
)
def test_one_broken_thing_is_one_finding(changes, expected):
    assert bad(broken(**changes)) == expected


def test_every_finding_says_what_to_do():
    for changes in (
        {"cpu__count": 95},
        {"disks__0__free_bytes": 0},
        {"nic__carrier": 0},
        {"clock_skew__skew_ms": 9000.0},
    ):
        found = [item for item in assess(broken(**changes), EXPECT) if item["status"] == "failed"]
        assert found and all(item["remedy"] and item["threshold"] for item in found)


def test_no_expectation_is_no_pass():
    reasons = assess(GOOD, {})
    for check in ("cpu.count", "memory.total", "disk.free", "nic.mtu", "clock.skew"):
        item = next(item for item in reasons if item["check"] == check)
        assert (item["status"], item["threshold"]) == ("skipped", NO_EXPECTATION)


def test_optional_evidence_is_skipped_but_a_finding_still_counts():
    missing = broken(kernel_log=UNREADABLE)
    assert bad(missing, dict(EXPECT, optional=["kernel_log"])) == {"kernel_log": "skipped"}
    found = broken(kernel_log=kernel_log(["kernel BUG at mm/slub.c:1"]))
    assert bad(found, dict(EXPECT, optional=["kernel_log"])) == {"kernel_log.kernel_bug": "failed"}
    assert bad(found, dict(EXPECT, kernel_log_shared=True)) == {"kernel_log.kernel_bug": "degraded"}


def test_a_check_that_breaks_is_incomplete_and_alone():
    found = bad(broken(cpu={}))
    assert found == {"cpu": "incomplete"}


def test_who_makes_the_load_is_named():
    top = [{"pid": 7, "command": "python train.py", "mean": 790.0}]
    given = broken(cpu__load=[900.0, 1.0, 1.0], cpu__others={"mean": 800.0, "top": top})
    found = next(item for item in assess(given, EXPECT) if item["check"] == "cpu.load")
    assert "python train.py (pid 7, 790.0)" in found["seen"] and found["remedy"]
