"""How what the nodes say of a failed layout gets into its fact."""

from __future__ import annotations

import pytest
from ansible.module_utils.plumbline.controller import postmortem
from ansible.module_utils.plumbline.core.fact import Measurement


def failed_start():
    measurement = Measurement("startup", "pp2")
    measurement.add("serve.ready", "failed", "RuntimeError: Executor failed.")
    return measurement.fact()


def test_reasons_are_added_once_and_the_status_stays():
    fact = failed_start()
    said = ["10.0.0.5: out of memory", "10.0.0.4: server.log: RuntimeError: Executor failed.", "10.0.0.5: killed"]
    again = postmortem.amended(fact, "serve.postmortem", said, "read the log")
    assert again["status"] == "failed" and again["name"] == "pp2"
    assert [item["seen"] for item in again["reasons"]] == ["RuntimeError: Executor failed.", "10.0.0.5: out of memory", "10.0.0.5: killed"]
    assert again["reasons"][1] == {
        "check": "serve.postmortem", "status": "failed", "seen": "10.0.0.5: out of memory", "threshold": None, "remedy": "read the log",
    }  # fmt: skip
    assert len(fact["reasons"]) == 1, "the first fact is left as it was"


def test_every_node_says_its_part_and_a_dead_one_by_its_message():
    results = [
        {"item": "node1", "causes": ["10.0.0.4: server.log: ValueError: x", "10.0.0.4: y"]},
        {"item": "node2", "causes": []},
        {"item": "node3", "unreachable": True, "msg": "Failed to connect"},
        {"item": "node4", "skipped": True},
    ]
    assert postmortem.sentences(results) == ["10.0.0.4: server.log: ValueError: x", "10.0.0.4: y", "node3: Failed to connect"]
    assert postmortem.sentences([]) == []


@pytest.mark.parametrize("other", [{"status": "failed"}, {"schema": "plumbline.startup/1"}, {"schema": "else/1", "reasons": []}, {}])
def test_something_else_than_a_fact_is_refused(other):
    with pytest.raises(ValueError, match="no fact"):
        postmortem.kind_of(other)


def test_the_kind_is_that_of_the_schema():
    assert postmortem.kind_of(failed_start()) == "startup"
