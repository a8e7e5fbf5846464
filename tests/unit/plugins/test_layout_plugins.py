"""The actions and filters of serving as Ansible meets them: documented arguments, results that the callback keeps."""

from __future__ import annotations

import time

import yaml
from action_run import run_action
from ansible.module_utils.plumbline.core.fact import Measurement
from project import load

layout_plan = load("plugins/action/layout_plan.py")
callback = load("plugins/callback/plumbline.py")


def test_a_plan_is_all_that_is_documented_and_holds_no_variable_that_may_be_secret():
    (example,) = yaml.safe_load(layout_plan.EXAMPLES)
    arguments = example["layout_plan"]
    arguments["layout"]["env"] = {"HF_TOKEN": "hf_secretsecret"}
    plan = run_action("layout_plan", arguments)
    assert set(plan) - {"changed"} == set(yaml.safe_load(layout_plan.RETURN))
    assert plan["changed"] is False and abs(plan["began_s"] - time.time()) < 60 and plan["ray_hosts"] == ["node1", "node2"]
    assert "hf_secretsecret" not in str(plan)


def test_a_plan_without_its_arguments_is_refused():
    refused = run_action("layout_plan", {"layout": {}})
    assert refused["failed"] and "missing required arguments" in refused["msg"]


def failed_start():
    measurement = Measurement("startup", "pp2")
    measurement.add("serve.ready", "failed", "RuntimeError: Executor failed.")
    return measurement.fact()


def test_an_amended_fact_takes_the_place_of_the_first():
    results = [{"item": "node2", "causes": ["10.0.0.5: out of memory"]}]
    out = run_action("fact_amend", dict(fact=failed_start(), check="serve.postmortem", results=results, remedy="read the log"))
    ((_host, kind, fact),) = callback.facts_in(out, "node1")
    assert kind == "startup" and fact == out["fact"] and (fact["name"], fact["status"]) == ("pp2", "failed")
    assert fact["reasons"][-1]["seen"] == "10.0.0.5: out of memory" and fact["reasons"][-1]["remedy"] == "read the log"


def test_nodes_that_know_nothing_amend_nothing():
    out = run_action("fact_amend", dict(fact=failed_start(), check="serve.postmortem", results=[{"item": "node2", "causes": []}]))
    assert out["skipped"] and not list(callback.facts_in(out, None))


def test_something_else_than_a_fact_is_refused():
    refused = run_action("fact_amend", {"fact": {"status": "failed"}, "check": "x", "results": []})
    assert refused["failed"] and "no fact" in refused["msg"]
