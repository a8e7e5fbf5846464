"""A node whose health said that it has no GPU is not asked for its clocks; in any doubt it is."""

from __future__ import annotations

import json

from ansible.module_utils.plumbline.controller import no_gpu
from ansible.module_utils.plumbline.core.fact import reason
from health_nodes import ROOT
from jsonschema import Draft202012Validator


def health(*reasons):
    """Return the parts of a health fact that are read."""
    return {"reasons": list(reasons), "context": {"boot_id": "b"}}


def test_only_a_node_that_has_none_and_should_have_none():
    assert no_gpu.says_no_gpu(health(reason("gpu", "skipped", "no GPU", "none expected")))
    assert not no_gpu.says_no_gpu(health(reason("gpu", "failed", "no GPU: none on the PCI bus, no driver, no nvidia-smi", "8 GPUs")))
    assert not no_gpu.says_no_gpu(health(reason("gpu.count", "healthy", "8 GPUs answer")))
    assert not no_gpu.says_no_gpu({}) and not no_gpu.says_no_gpu(None)


def test_the_fact_fits_its_schema_and_says_what_the_module_says():
    found = no_gpu.fact({"state": "locked", "mhz": "1980", "mode": 1}, health()).fact()
    for name in ("fact", "clocks"):
        Draft202012Validator(json.loads((ROOT / ("docs/schema/%s.schema.json" % name)).read_text())).validate(found)
    assert found["status"] == "skipped" and found["reasons"][0]["seen"] == "no GPU" and found["measured"] == {}
    assert found["context"]["requested_mhz"] == 1980 and found["context"]["boot_id"] == "b" and found["command"] is None
