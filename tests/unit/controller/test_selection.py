"""Which nodes serve."""

from __future__ import annotations

import pytest
from ansible.module_utils.plumbline.controller.selection import select
from project import load

filters = load("plugins/filter/plumbline.py")

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
    from ansible.module_utils.plumbline.controller.report import view as report_view

    selection = select([node("a", health="failed"), node("b", health="healthy"), node("c", health="healthy")], LAYOUTS)
    view = report_view._selection({"selection": selection}, {"nodes": {}})
    assert view["excluded"] == [{"host": "a", "why": "health: failed; replaced by the spare c"}]
    assert [item["host"] for item in view["serving"]] == ["b", "c"]


def test_candidates_read_registered_results():
    hostvars = {
        "a": {"ansible_host": "10.0.0.1", "node_health_result": {"fact": {"status": "healthy"}}, "preflight_ping": {"ping": "pong"}},
        "b": {"preflight_ping": {"unreachable": True}},
        "c": {"node_health_result": {"failed": True, "msg": "MODULE FAILURE"}},
        "d": {"node_health_result": {"skipped": True}},
        "e": {"node_health_result": {"results": [{"fact": {"status": "healthy"}}, {"unreachable": True}]}},
    }
    out = filters.plumbline_candidates(list(hostvars), hostvars)
    assert [item["verdicts"] for item in out] == [
        {"health": "healthy"}, {"preflight": "failed"}, {"health": "failed"}, {}, {"health": "failed"},
    ]  # fmt: skip
    assert [item["address"] for item in out] == ["10.0.0.1", "b", "c", "d", "e"]
