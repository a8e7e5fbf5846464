"""Assertions about the nodes themselves, over SSH, through testinfra.

    pytest tests/node --hosts=ansible://nodes --ansible-inventory=inventory/azure

Without ``--hosts`` the nodes of the lab are taken if it is up; without a lab everything is skipped and says so: testinfra
would otherwise test the machine it runs on. ``ansible_connection`` must be ``ssh``: testinfra does not know
``ansible.builtin.ssh``.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from ansible.module_utils.plumbline.health import expect as health_expect
from ansible.module_utils.plumbline.machine import sku as machine_sku
from skus import table

ROOT = Path(__file__).resolve().parent.parent.parent
LAB = ROOT / "inventory" / "lab" / "hosts.yml"


def pytest_configure(config):
    """Take the lab where no host was named."""
    if getattr(config.option, "hosts", None) is None and LAB.exists():
        config.option.hosts = "ansible://nodes"
        config.option.ansible_inventory = config.option.ansible_inventory or str(LAB)


def pytest_collection_modifyitems(config, items):
    """Skip the tests of this folder where there is no node to test."""
    if getattr(config.option, "hosts", None) is not None:
        return
    reason = "no nodes: give --hosts=ansible://nodes --ansible-inventory=…, or bring the lab up (make lab)"
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.fixture(scope="module")
def variables(host):
    """Return the node's inventory variables; none where it was not named through an inventory."""
    return host.ansible.get_variables() if host.backend.get_connection_type() == "ansible" else {}


AZURE_TAG = "7783-7084-3265-9085-8269-3286-77"  # as in module_utils/plumbline/health/evidence/azure.py
METADATA = "http://169.254.169.254/metadata/instance/compute/vmSize?api-version=2021-02-01&format=text"


@pytest.fixture(scope="module")
def sku(host, variables):
    """Return the node's SKU as node_health chooses it: the inventory's, or Azure's own word, else ``generic``."""
    named = variables.get("sku_name", machine_sku.AUTO)
    if machine_sku.plain(named) != machine_sku.AUTO:
        return named
    tag = host.file("/sys/class/dmi/id/chassis_asset_tag")
    if not tag.exists or tag.content_string.strip() != AZURE_TAG:
        return "generic"
    answer = host.run("curl -s --noproxy '*' --max-time 10 -H Metadata:true %s", METADATA)
    assert answer.rc == 0 and answer.stdout.strip(), "an Azure machine whose metadata service does not say its size"
    return answer.stdout.strip()


@pytest.fixture(scope="module")
def expect(sku, variables):
    """Return what the node's SKU expects, with what the inventory adds and replaces."""
    known, entry = machine_sku.find(table(variables.get("sku_overrides")), sku)
    assert known, f"no expected values for SKU {sku}: add it to sku_overrides"
    return health_expect.expectations(entry)


@pytest.fixture(scope="module")
def gpus(host, expect):
    """Return ``[{column: value}]`` of nvidia-smi; skip where there is no GPU and none is expected."""
    if not host.exists("nvidia-smi") and not host.file("/proc/driver/nvidia").exists:
        assert not expect.get("gpu_count"), f"no GPU, expected {expect['gpu_count']}"
        pytest.skip("no GPU on this node")
    columns = "index,pci.bus_id,driver_version,persistence_mode,clocks.sm,clocks.max.sm,utilization.gpu"
    answer = host.run("nvidia-smi --query-gpu=%s --format=csv,noheader,nounits", columns)
    assert answer.rc == 0, answer.stdout + answer.stderr
    names = columns.split(",")
    return [dict(zip(names, [cell.strip() for cell in line.split(",")])) for line in answer.stdout.splitlines() if line]
