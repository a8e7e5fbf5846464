"""The node checks, on the evidence of a good node with one thing broken at a time."""

from __future__ import annotations

import copy
import json

import pytest
from ansible.module_utils.plumbline.core.fact import Measurement
from ansible.module_utils.plumbline.health import checks as health
from ansible.module_utils.plumbline.health import expect as health_expect
from ansible.module_utils.plumbline.health import remedy as health_remedy
from ansible.module_utils.testing import patch_module_args
from jsonschema import Draft202012Validator
from project import ROOT
from skus import table

SKUS = table()
FACT = json.loads((ROOT / "docs/schema/fact.schema.json").read_text())
SCHEMA = json.loads((ROOT / "docs/schema/health.schema.json").read_text())

GIB = 1 << 30
EXPECT = {
    "cpu_count": 96,
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
GOOD = {
    "system": {"hostname": "n1", "kernel": "6.8", "os": "Ubuntu", "python": "3.10.12", "booted_at": None, "boot_id": "b"},
    "cpu": {"count": 96, "usable": 96, "load": [1.0, 1.0, 1.0]},
    "memory": {"total": 1885 * GIB, "available": 1850 * GIB, "swap_total": 0},
    "disks": [
        {
            "path": "/var/lib/plumbline", "place": "/var/lib", "error": None, "total_bytes": 1000 * GIB, "free_bytes": 700 * GIB,
            "inodes_total": 1000, "inodes_free": 900, "read_only": False, "write": {"ms": 3.5, "error": None},
        }
    ],
    "read_only_mounts": [],
    "nic": {
        "interface": "eth0", "address": "10.0.0.4", "how": "inventory address", "wanted": "10.0.0.4", "operstate": "up",
        "carrier": 1, "carrier_changes": 2, "mtu": 1500, "speed_mbit_s": 100000, "rx_packets": 1000000, "tx_packets": 1000000,
        "rx_errors": 0, "tx_errors": 0, "rx_dropped": 10, "tx_dropped": 0,
    },
    "kernel_clock": {"error": None, "synchronised": True, "offset_ms": 0.1, "max_error_ms": 2.0},
    "clock_skew": {"skew_ms": 3.0, "bound_ms": 10.0, "samples": 4},
    "kernel_log": {"source": "journal", "lines": [{"text": "Linux version 6.8", "at_s": 0.0}], "error": None, "complete": True},
    "gpu": {"presence": {"pci": [], "driver": False, "tool": None}, "smi": None, "error": None, "nvlink": None},
    "ib": [],
    "devices": {"interfaces": ["eth0", "lo"], "nvme": []},
    "host": {},
    "nhc": {"skipped": ("not asked for", None)},
}  # fmt: skip


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


def bad(evidence, expect=EXPECT):
    """Return {check: status} of what is not healthy; the node has no GPU, and says so."""
    return {
        item["check"]: item["status"]
        for item in health.assess(evidence, expect)
        if item["status"] != "healthy" and item["check"] not in ("gpu", "ib.state", "nhc")
    }


def test_good_node_is_healthy_and_every_check_says_so():
    assert bad(GOOD) == {}
    reasons = health.assess(GOOD, EXPECT)
    assert all(item["seen"] and item["threshold"] for item in reasons if item["status"] == "healthy")
    checks = {item["check"].split(".")[0] for item in reasons}
    assert checks == {"gpu", "ib", "cpu", "memory", "disk", "nic", "clock", "kernel_log", "nhc"}


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"cpu__count": 95}, {"cpu.count": "failed"}),
        ({"cpu__count": None}, {"cpu.count": "incomplete", "cpu.load": "incomplete"}),
        ({"cpu__load": [90.0, 1.0, 1.0]}, {"cpu.load": "degraded"}),
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
            {"kernel_log": {"source": None, "lines": None, "error": "klogctl: no", "complete": False}},
            {"kernel_log": "incomplete"},
        ),
        (
            {"kernel_log__lines": [{"text": "EXT4-fs error (device sda1): x", "at_s": 1.0}]},
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
        found = [item for item in health.assess(broken(**changes), EXPECT) if item["status"] == "failed"]
        assert found and all(item["remedy"] and item["threshold"] for item in found)


def test_no_expectation_is_no_pass():
    reasons = health.assess(GOOD, {})
    for check in ("cpu.count", "memory.total", "disk.free", "nic.mtu", "clock.skew"):
        item = next(item for item in reasons if item["check"] == check)
        assert (item["status"], item["threshold"]) == ("skipped", health.NO_EXPECTATION)


def test_optional_evidence_is_skipped_but_a_finding_still_counts():
    missing = broken(kernel_log={"source": None, "lines": None, "error": "klogctl: no", "complete": False})
    assert bad(missing, dict(EXPECT, optional=["kernel_log"])) == {"kernel_log": "skipped"}
    found = broken(kernel_log__lines=[{"text": "kernel BUG at mm/slub.c:1", "at_s": 1.0}])
    assert bad(found, dict(EXPECT, optional=["kernel_log"])) == {"kernel_log.kernel_bug": "failed"}
    assert bad(found, dict(EXPECT, kernel_log_shared=True)) == {"kernel_log.kernel_bug": "degraded"}


def test_a_check_that_breaks_is_incomplete_and_alone():
    found = bad(broken(cpu={}))
    assert found == {"cpu": "incomplete"}


def test_fact_fits_the_schema():
    chosen = health_expect.choose("lab", SKUS, None)
    measurement = Measurement("health", "node")
    measurement.reasons = health.assess(GOOD, chosen["expect"])
    measurement.measured = health.measured(GOOD)
    measurement.reasons, remediation = health_remedy.remediation(measurement.reasons, health.physical_host(GOOD))
    measurement.context = dict(health.context(GOOD, chosen), remediation=remediation)
    fact = measurement.fact()
    Draft202012Validator(FACT).validate(fact)
    Draft202012Validator(SCHEMA).validate(fact)
    assert fact["status"] == "healthy"
    assert fact["measured"]["disk_free_bytes"] == {"/var/lib/plumbline": 700 * GIB}
    assert not [key for key in fact["measured"] if key.startswith("gpu")]


# -- SKUs -------------------------------------------------------------------------------------------------------


def test_shipped_skus_are_valid_and_name_their_source():
    assert {"lab", "generic", "Standard_ND96isr_H100_v5", "Standard_ND96isr_H200_v5"} <= set(SKUS)
    for name, data in SKUS.items():
        assert health_expect.problems(name, data) == []
        assert data["health"]["source"]
    for name in ("Standard_ND96isr_H100_v5", "Standard_ND96isr_H200_v5"):
        assert SKUS[name]["gpu"]["count"] == len(SKUS[name]["gpu"]["pci_domains"]) == 8


def test_wrong_sku_data_is_named():
    wrong = {"health": {"cpu_cuont": 1, "clock_sync_required": 1, "cpu_count": True}, "gpu": {"count": "8"}}
    found = health_expect.problems("x", wrong)
    assert len(found) == 4
    assert any("health.cpu_cuont" in text for text in found) and any("gpu.count is '8'" in text for text in found)
    assert health_expect.problems("x", {"health": {"cpu_count": None, "load_per_cpu_max": 1}}) == []
    # A key belongs to one section, whose name is not said twice.
    for section, key in (("health", "gpu_count"), ("gpu", "gpu_count"), ("nhc", "ib_write_min_gbit_s")):
        assert len(health_expect.problems("x", {section: {key: 8}})) == 1
    assert "unknown section 'healht'" in health_expect.problems("x", {"healht": {}})[0]
    assert "got int" in health_expect.problems("x", 8)[0]


def test_checks_of_nhc_for_each_port_and_interface():
    entry = {
        "health": {"net_interfaces": ["lo", "eth0"]},
        "ib": {"ports": ["mlx5_ib0"], "ethernet_ports": {"mlx5_an0": 100}},
        "nhc": {"checks": ["check_hw_swap", "check_hw_ib *", "check_hw_eth *", "check_hw_ib mlx5_ib9:1"]},
    }
    assert health_expect.expectations(entry)["nhc_checks"] == [
        "check_hw_swap", "check_hw_ib mlx5_an0:1", "check_hw_ib mlx5_ib0:1", "check_hw_eth lo", "check_hw_eth eth0",
        "check_hw_ib mlx5_ib9:1",
    ]  # fmt: skip
    # None is no list, and an empty list says that NHC does not apply.
    assert "nhc_checks" not in health_expect.expectations({"ib": entry["ib"]})
    assert health_expect.expectations(dict(entry, nhc={"checks": []}))["nhc_checks"] == []


@pytest.mark.parametrize(
    ("wanted", "azure", "sku", "known"),
    [
        ("lab", None, "lab", True),
        ("standard_nd96isr_h100_v5", None, "Standard_ND96isr_H100_v5", True),
        (" STANDARD_ND96isr_H100_v5 ", None, "Standard_ND96isr_H100_v5", True),
        ("Auto", {"azure": False, "vm_size": None, "error": None}, "generic", True),
        ("auto", {"azure": False, "vm_size": None, "error": None}, "generic", True),
        (
            "auto",
            {"azure": True, "vm_size": "Standard_ND96isr_H200_v5", "error": None},
            "Standard_ND96isr_H200_v5",
            True,
        ),
        ("auto", {"azure": True, "vm_size": "Standard_D2s_v5", "error": None}, "Standard_D2s_v5", False),
        ("auto", {"azure": True, "vm_size": None, "error": "timed out"}, None, False),
        ("nosuch", None, "nosuch", False),
    ],
)
def test_sku_is_chosen(wanted, azure, sku, known):
    chosen = health_expect.choose(wanted, SKUS, azure)
    assert (chosen["sku"], chosen["known"]) == (sku, known)
    if not known:
        assert chosen["expect"] == SKUS["generic"]["health"]


# -- the module -------------------------------------------------------------------------------------------------


def run_module(capsys, check=False, **arguments):
    """Run library/node_health.py in this process, on this machine; return its result."""
    import node_health

    with patch_module_args(dict(arguments, _ansible_check_mode=check)), pytest.raises(SystemExit):
        node_health.main()
    return json.loads(capsys.readouterr().out)


def test_module_measures_this_machine(capsys, tmp_path):
    result = run_module(capsys, sku="generic", skus=SKUS, paths=[str(tmp_path)])
    fact = result["fact"]
    Draft202012Validator(FACT).validate(fact)
    Draft202012Validator(SCHEMA).validate(fact)
    assert result["changed"] is False
    assert fact["measured"]["memory_total_bytes"] > 0
    assert fact["measured"]["disk_write_ms"][str(tmp_path)] > 0
    assert list(tmp_path.iterdir()) == []
    # Nobody compared the clocks here, so it cannot pass.
    assert fact["status"] in ("incomplete", "failed")
    assert next(item for item in fact["reasons"] if item["check"] == "clock.skew")["status"] == "incomplete"


def test_module_writes_nothing_in_check_mode(capsys, tmp_path, monkeypatch):
    def refuse(*_arguments, **_keywords):
        raise AssertionError("a probe was written in check mode")

    monkeypatch.setattr("ansible.module_utils.plumbline.health.evidence.write_probe", refuse)
    result = run_module(capsys, check=True, sku="generic", skus=SKUS, paths=[str(tmp_path)])
    assert any(item["check"] == "check_mode" for item in result["fact"]["reasons"])


def test_unknown_sku_is_incomplete(capsys, tmp_path):
    sample = {"sent": 1.0, "node": 1.0, "received": 1.001}
    fact = run_module(capsys, sku="Standard_X", skus=SKUS, paths=[str(tmp_path)], clock_samples=[sample])["fact"]
    assert fact["status"] in ("incomplete", "failed")
    assert fact["reasons"][0]["check"] == "sku" and fact["reasons"][0]["status"] == "incomplete"


def test_wrong_arguments_fail(capsys):
    result = run_module(capsys, skus={"lab": {"health": {"cpus": 2}, "gpu": {"count": "many"}}}, paths=[])
    assert result["failed"]
    for word in ("health.cpus", "gpu.count", "generic", "paths is empty"):
        assert word in result["msg"]
