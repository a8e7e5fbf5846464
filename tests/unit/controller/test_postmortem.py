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


def test_what_explains_more_than_the_fact_says_becomes_the_headline_with_its_own_remedy():
    timeout = "10.0.0.4: server.log: RuntimeError: Executor failed."
    memory, echo = "10.0.0.5: worker-1.log: out of memory", "10.0.0.5: ray.log: died"
    results = [
        {"item": "node1", "causes": [timeout], "findings": [{"cause": timeout, "remedy": "", "weight": 10}]},
        {
            "item": "node2", "causes": [echo, memory],
            "findings": [{"cause": memory, "remedy": "lower it", "weight": 80}, {"cause": echo, "remedy": "", "weight": 10}],
        },
    ]  # fmt: skip
    said, found = postmortem.sentences(results), postmortem.findings(results)
    again = postmortem.amended(failed_start(), "serve.postmortem", said, "read the log", found)
    assert [item["seen"] for item in again["reasons"]] == [memory, "RuntimeError: Executor failed.", echo]
    assert [again["reasons"][place]["remedy"] for place in (0, 2)] == ["lower it; read the log", "read the log"]
    # What the head's log says explains as much: it stays the headline.
    found[timeout]["weight"] = 80
    assert postmortem.amended(failed_start(), "serve.postmortem", said, None, found)["reasons"][0]["check"] == "serve.ready"


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
        postmortem.kind_of_failed(other)


def test_the_kind_is_that_of_the_schema():
    assert postmortem.kind_of_failed(failed_start()) == "startup"
