"""Expectations by SKU: which keys there are, and which SKU a node is."""

from __future__ import annotations

import pytest
from ansible.module_utils.plumbline.health import expect as health_expect
from health_nodes import SKUS


def test_shipped_skus_are_valid_and_name_their_source():
    assert {"lab", "generic", "Standard_ND96isr_H100_v5", "Standard_ND96isr_H200_v5"} <= set(SKUS)
    for name, data in SKUS.items():
        assert health_expect.problems(name, data) == []
        assert data["source"]
    for name in ("Standard_ND96isr_H100_v5", "Standard_ND96isr_H200_v5"):
        assert SKUS[name]["gpu_count"] == len(SKUS[name]["gpu_pci_domains"]) == 8


def test_wrong_sku_data_is_named():
    found = health_expect.problems("x", {"cpu_cuont": 1, "gpu_count": "8", "clock_sync_required": 1, "cpu_count": True})
    assert len(found) == 4
    assert any("cpu_cuont" in text for text in found)
    assert health_expect.problems("x", {"cpu_count": None, "load_per_cpu_max": 1}) == []


@pytest.mark.parametrize(
    ("wanted", "azure", "sku", "known"),
    [
        ("lab", None, "lab", True),
        ("standard_nd96isr_h100_v5", None, "Standard_ND96isr_H100_v5", True),
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
        assert chosen["expect"] == SKUS["generic"]
