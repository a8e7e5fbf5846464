"""Which nodes serve."""

from __future__ import annotations

import pytest
from action_run import run_action
from ansible.module_utils.plumbline.controller.selection import candidates, select
from project import load
from report_runs import health

LAYOUTS = [{"name": "one", "nodes": 1}, {"name": "two", "nodes": 2}]


def node(name, **verdicts):
    return {"name": name, "address": name, "verdicts": verdicts}


def test_healthy_nodes_serve_in_order_and_the_rest_are_spares():
    out = select([node("a", health="healthy"), node("b", health="healthy"), node("c", health="healthy")], LAYOUTS)
    assert out["serving"] == ["a", "b"] and out["spares"] == ["c"] and out["excluded"] == {}
    assert [layout["missing"] for layout in out["layouts"]] == [0, 0]


@pytest.mark.parametrize("status", ["failed", "incomplete"])
def test_spare_replaces_a_node_without_a_pass(status):
    out = select([node("a", health="healthy", model=status), node("b", health="healthy"), node("c", health="healthy")], LAYOUTS)
    assert out["serving"] == ["b", "c"]
    assert out["excluded"] == {"a": "model: %s" % status}
    assert out["replaced"] == [{"node": "a", "by": "c", "why": "model: %s" % status}]


def test_skipped_checks_do_not_spoil_a_node_and_degraded_comes_after_healthy():
    out = select([node("a", health="degraded"), node("b", health="healthy", clocks="skipped"), node("c")], LAYOUTS)
    assert out["serving"] == ["b", "a"] and out["spares"] == ["c"]


def test_missing_nodes_are_counted():
    out = select([node("a", health="failed"), node("b", health="healthy")], LAYOUTS)
    assert out["layouts"][1] == {"name": "two", "nodes": ["b"], "missing": 1}
    assert out["replaced"] == [{"node": "a", "by": None, "why": "health: failed"}]


def test_a_failed_spare_replaces_nobody():
    out = select([node("a", health="healthy"), node("b", health="healthy"), node("c", health="failed")], LAYOUTS)
    assert out["replaced"] == [] and out["excluded"] == {"c": "health: failed"}


def test_report_names_the_replacement():
    from ansible.module_utils.plumbline.controller.report.view.nodes import selection as shown

    selection = select([node("a", health="failed"), node("b", health="healthy"), node("c", health="healthy")], LAYOUTS)
    view = shown({"selection": selection}, {})
    assert view["excluded"] == [{"host": "a", "why": "health: failed; replaced by the spare c"}]
    assert [item["host"] for item in view["serving"]] == ["b", "c"]


def test_candidates_are_the_verdicts_of_the_report():
    def judged(*reasons, **phases):
        return {"phases": dict.fromkeys(("health", "model"), None) | phases, "reasons": list(reasons)}

    lost = {"phase": "other", "check": "unreachable", "status": "failed"}
    out = candidates(["a", "b", "c"], {"a": judged(health="healthy"), "b": judged(lost, other="failed"), "z": judged(health="failed")})
    assert out == [
        {"name": "a", "verdicts": {"health": "healthy"}},
        {"name": "b", "verdicts": {"unreachable": "failed"}},
        {"name": "c", "verdicts": {}},
    ]


def test_action_decides_from_what_is_kept(keep):
    arguments = {"nodes": ["a", "b", "c"], "layouts": LAYOUTS}
    assert run_action("node_selection", arguments)["plumbline_selection"]["serving"] == ["a", "b"], (
        "nothing kept, nothing held against them"
    )
    keep("a", health("failed"))
    keep("b", dict(health(), measured=None))
    keep("c", health())
    out = run_action("node_selection", arguments)["plumbline_selection"]
    assert out["serving"] == ["c"] and out["excluded"] == {"a": "health: failed", "b": "health: incomplete"}
    bad = run_action("node_selection", dict(arguments, layouts=[{"name": "x"}]))
    assert bad["failed"] and "a layout needs name and nodes" in bad["msg"]


def test_action_without_the_callback_says_what_to_do(monkeypatch):
    monkeypatch.delenv("PLUMBLINE_KEPT_DIR", raising=False)
    bad = run_action("node_selection", {"nodes": ["a"]})
    assert bad["failed"] and "ANSIBLE_CALLBACK_PLUGINS" in bad["msg"]


def test_addresses_are_a_roles_own_else_plumblines_else_ansibles_else_the_name():
    hostvars = {
        "a": {"mine": "1", "plumbline_address": "2"},
        "b": {"mine": "", "plumbline_address": "2"},
        "c": {"ansible_host": "3"},
        "d": {},
    }
    assert load("plugins/filter/plumbline.py").plumbline_addresses(list(hostvars), hostvars, "mine") == ["1", "2", "3", "d"]
