"""The actions and filters of serving as Ansible meets them: documented arguments, results that the callback keeps."""

from __future__ import annotations

import time
from types import SimpleNamespace

import pytest
import yaml
from ansible.errors import AnsibleActionFail
from ansible.module_utils.plumbline.core.fact import Measurement
from project import load

layout_plan = load("plugins/action/layout_plan.py")
fact_amend = load("plugins/action/fact_amend.py")
callback = load("plugins/callback/plumbline.py")
addresses = load("plugins/filter/plumbline.py").plumbline_addresses


def act(plugin, **arguments):
    """Run an action with these arguments and return its result; it is given no connection that it could use."""
    task = SimpleNamespace(args=arguments, async_val=0, check_mode=True, action="x")
    connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir="/nonexistent"))
    return plugin.ActionModule(task, connection, None, None, None, None).run(task_vars={})


@pytest.mark.parametrize("plugin, name", [(layout_plan, "layout_plan"), (fact_amend, "fact_amend")])
def test_action_documents_exactly_its_arguments(plugin, name):
    documentation = yaml.safe_load(plugin.DOCUMENTATION)
    assert documentation["module"] == name and set(documentation["options"]) == set(plugin.ARGUMENT_SPEC)
    for option, described in documentation["options"].items():
        spec = plugin.ARGUMENT_SPEC[option]
        for key in ("type", "elements", "required", "default", "choices"):
            assert described.get(key) == spec.get(key), (option, key)
        assert described["description"], option
    (example,) = yaml.safe_load(plugin.EXAMPLES)
    assert set(example[name]) <= set(plugin.ARGUMENT_SPEC) and yaml.safe_load(plugin.RETURN)


def test_a_plan_is_all_that_is_documented_and_holds_no_variable_that_may_be_secret():
    (example,) = yaml.safe_load(layout_plan.EXAMPLES)
    arguments = example["layout_plan"]
    arguments["layout"]["env"] = {"HF_TOKEN": "hf_secretsecret"}
    plan = act(layout_plan, **arguments)
    assert set(plan) - {"changed"} == set(yaml.safe_load(layout_plan.RETURN))
    assert plan["changed"] is False and abs(plan["began_s"] - time.time()) < 60 and plan["ray_hosts"] == ["node1", "node2"]
    assert "hf_secretsecret" not in str(plan)


def test_a_plan_without_its_arguments_is_refused():
    with pytest.raises(AnsibleActionFail, match="missing required arguments"):
        act(layout_plan, layout={})


def failed_start():
    measurement = Measurement("startup", "pp2")
    measurement.add("serve.ready", "failed", "RuntimeError: Executor failed.")
    return measurement.fact()


def test_an_amended_fact_takes_the_place_of_the_first():
    results = [{"item": "node2", "causes": ["10.0.0.5: out of memory"]}]
    out = act(fact_amend, fact=failed_start(), check="serve.postmortem", results=results, remedy="read the log")
    ((kind, fact),) = callback.facts_in(out)
    assert kind == "startup" and fact == out["fact"] and (fact["name"], fact["status"]) == ("pp2", "failed")
    assert fact["reasons"][-1]["seen"] == "10.0.0.5: out of memory" and fact["reasons"][-1]["remedy"] == "read the log"


def test_nodes_that_know_nothing_amend_nothing():
    out = act(fact_amend, fact=failed_start(), check="serve.postmortem", results=[{"item": "node2", "causes": []}])
    assert out["skipped"] and not list(callback.facts_in(out))


def test_something_else_than_a_fact_is_refused():
    with pytest.raises(AnsibleActionFail, match="no fact"):
        act(fact_amend, fact={"status": "failed"}, check="x", results=[])


def test_addresses_are_the_nearest_that_is_given():
    hostvars = {
        "a": {"own": "10.1.0.1", "plumbline_address": "10.0.0.1", "ansible_host": "a.example"},
        "b": {"plumbline_address": "10.0.0.2", "ansible_host": "b.example"},
        "c": {"plumbline_address": "", "ansible_host": "c.example"},
        "d": {},
    }
    assert addresses(["d", "a", "b", "c"], hostvars) == ["d", "10.0.0.1", "10.0.0.2", "c.example"]
    assert addresses(["a", "b"], hostvars, "own") == ["10.1.0.1", "10.0.0.2"]
