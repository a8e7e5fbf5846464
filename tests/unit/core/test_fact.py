"""The fact and its schema."""

from __future__ import annotations

import json

import jsonschema
import pytest
from ansible.module_utils.plumbline.core.fact import STATUSES, Measurement, first_reason, headline, reason, sentence, slug, worst
from project import SCHEMAS

SCHEMA = json.loads((SCHEMAS / "fact.schema.json").read_text())


def test_fact_is_valid_and_wrapped_for_ansible():
    measurement = Measurement("benchmark", "TP2 across", "vllm serve")
    measurement.add("a.b", "healthy", "1 MiB", "at least 1 MiB")
    measurement.measured["ttft_ms"] = float("nan")
    result = measurement.result()
    fact = result["ansible_facts"]["plumbline"]["benchmark"]
    jsonschema.validate(fact, SCHEMA)
    assert fact["name"] == "tp2_across" and fact["status"] == "healthy"
    assert fact["measured"]["ttft_ms"] is None, "NaN is no JSON"


def test_no_evidence_is_incomplete():
    assert Measurement("health", "node").fact()["status"] == "incomplete"


def test_worst_reason_decides():
    measurement = Measurement("health", "node")
    for status in ("healthy", "failed", "incomplete", "skipped"):
        measurement.add("c." + status, status, "seen " + status, "threshold")
    fact = measurement.fact()
    assert fact["status"] == "failed"
    assert headline(fact) == "c.failed: seen failed (expected threshold)"


def test_a_reason_is_one_sentence_everywhere():
    item = reason("disk.free", "failed", "1 GB", "at least 5 GB", "Remove old logs.")
    assert sentence(item) == "disk.free: 1 GB (expected at least 5 GB)"
    assert sentence(dict(item, threshold=None)) == "disk.free: 1 GB"
    verdict = {"status": "failed", "reasons": [reason("a", "healthy", "b"), item, reason("c", "failed", "d")]}
    assert first_reason(verdict) is item and headline(verdict) == sentence(item)
    silent = {"status": "incomplete", "reasons": [item]}
    assert first_reason(silent) is None and headline(silent) == "" and headline(silent, "nobody said why") == "nobody said why"


def test_worst_orders_statuses():
    assert worst([]) == "skipped"
    assert worst(["skipped", "healthy"]) == "healthy"
    assert worst(STATUSES) == "failed"
    assert worst(["degraded", "incomplete"]) == "incomplete"


def test_unknown_kind_and_status_are_refused():
    with pytest.raises(ValueError, match="unknown kind"):
        Measurement("speed", "x")
    with pytest.raises(ValueError, match="unknown status"):
        reason("a", "fine", "b")


def test_slug():
    assert slug("Qwen/Qwen2.5-72B") == "qwen_qwen2.5_72b"
    assert slug("***") == "unnamed"


def test_what_another_program_said_of_an_address_is_without_its_signature():
    said = 'Get "https://me.blob.core.windows.net/c/blob?se=1&sp=r&sig=abcDEF%2F123&sv=2024": EOF'
    item = reason("serve.registry", "failed", said, "a registry", "look at --api-key in vllm_serve_extra_args")
    assert item["seen"] == said.replace("abcDEF%2F123", "[scrubbed]"), "and nothing else changes"
    assert item["remedy"] == "look at --api-key in vllm_serve_extra_args", "our own words stay"
    assert reason("a", "healthy", 5)["seen"] == 5
