"""What the fact keeps: numbers with their unit, and what they depend on; and it fits the schema."""

from __future__ import annotations

import json

from ansible.module_utils.plumbline.core.fact import Measurement
from ansible.module_utils.plumbline.health import account
from ansible.module_utils.plumbline.health import expect as health_expect
from ansible.module_utils.plumbline.health import remedy as health_remedy
from ansible.module_utils.plumbline.health.evidence import azure
from ansible.module_utils.plumbline.health.verdict import assess
from health_nodes import ADDRESSES, GIB, H100, SKUS, bare, node
from jsonschema import Draft202012Validator
from project import SCHEMAS

FACT = json.loads((SCHEMAS / "fact.schema.json").read_text())
SCHEMA = json.loads((SCHEMAS / "health.schema.json").read_text())


def test_fact_fits_the_schema():
    good = bare("/var/lib/plumbline", place="/var/lib")
    chosen = health_expect.choose("lab", SKUS, None)
    measurement = Measurement("health", "node")
    measurement.reasons = assess(good, chosen["expect"])
    measurement.measured = account.measured(good)
    measurement.reasons, remediation = health_remedy.remediation(measurement.reasons, account.physical_host(good))
    measurement.context = dict(account.context(good, chosen), remediation=remediation)
    fact = measurement.fact()
    Draft202012Validator(FACT).validate(fact)
    Draft202012Validator(SCHEMA).validate(fact)
    assert fact["status"] == "healthy"
    assert fact["measured"]["disk_free_bytes"] == {"/var/lib/plumbline": 700 * GIB}
    assert not [key for key in fact["measured"] if key.startswith("gpu")]


def test_whole_fact_fits_the_schema(root):
    chosen = health_expect.choose("Standard_ND96isr_H100_v5", SKUS, None)
    evidence = node(root, kernel=["NVRM: Xid (PCI:0001:00:00): 31, pid=9, MMU Fault"])
    measurement = Measurement("health", "node")
    measurement.reasons, remediation = health_remedy.remediation(assess(evidence, H100), account.physical_host(evidence))
    measurement.measured = account.measured(evidence)
    measurement.context = dict(account.context(evidence, chosen), remediation=remediation)
    fact = measurement.fact()
    Draft202012Validator(FACT).validate(fact)
    Draft202012Validator(SCHEMA).validate(fact)
    assert fact["status"] == "degraded"
    measured = fact["measured"]
    assert measured["gpu_count"] == 8 and measured["xids_count"] == {"31": 1} and measured["nvme_count"] == 8
    assert measured["gpus"][ADDRESSES[0]]["nvlink_active_count"] == 18 and measured["gpus"][ADDRESSES[0]]["pcie_gen"] == 5
    assert measured["nhc"]["nccl_allreduce_gbps"] == 477.8 and measured["ib_ports"]["mlx5_ib0"]["rate_gbit_s"] == 400
    assert fact["context"]["ib_firmware"] == ["28.39.3004"]


def test_physical_host_from_the_kvp_pool_or_the_log(root):
    assert azure.host_values(str(root))["PhysicalHostName"] == "PHYSHOST000001"
    evidence = dict(node(root), host={})
    assert account.physical_host(evidence) == "PHYSHOST000001"
    assert account.physical_host(dict(evidence, nhc={"skipped": ("x", None)})) is None
    assert azure.host_values(str(root / "nothing")) == {}
