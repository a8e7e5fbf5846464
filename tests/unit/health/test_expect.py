"""Expectations by SKU: which keys there are, and which SKU a node is."""

from __future__ import annotations

import pytest
from ansible.module_utils.plumbline.health import expect as health_expect
from health_nodes import SKUS


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
