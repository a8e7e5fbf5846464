"""The node table: the first reason of a node's own status, all others below it, and columns only where something is in them."""

from __future__ import annotations

import pytest
from ansible.module_utils.plumbline.controller.report.verdicts import verdicts
from ansible.module_utils.plumbline.controller.report.view.nodes import SHOWN, counted, node_table
from report_runs import health, put, reason, whole_run


@pytest.fixture
def table(records):
    """Return the node table of a run folder."""
    return lambda files: node_table(verdicts(records(files))["nodes"])


def test_a_node_shows_its_worst_reason_in_cells_and_the_others_as_sentences(table):
    files = whole_run()
    told = [
        reason("memory", "degraded", "22 GiB", "at least 23 GiB"),
        reason("disk.free", "failed", "0.4 GiB", "at least 5 GiB", "Remove logs."),
        reason("cpu", "healthy", "2 cores"),
        reason("clock", "incomplete", "not told"),
    ]
    put(files, "node2", health("failed", reasons=told))
    row = table(files)["rows"][1]
    assert (row["host"], row["role"], row["status"], row["cells"][0]) == ("node2", "serving", "failed", "failed")
    assert (row["seen"], row["threshold"], row["remedy"]) == ("disk.free: 0.4 GiB", "at least 5 GiB", "Remove logs.")
    assert [item["sentence"] for item in row["others"]] == ["clock: not told", "memory: 22 GiB (expected at least 23 GiB)"]


def test_a_calm_node_says_what_passed_or_why_nothing_was_measured(table):
    files = whole_run()
    put(files, "node3", health("skipped", reasons=[reason("health", "skipped", "check mode", "a run")]))
    row = table(files)["rows"][2]
    assert row["status"] == "skipped" and row["seen"] == "health: check mode (expected a run)" and row["others"] == []
    assert table(whole_run())["rows"][2]["seen"] == "1 check passed"


def test_columns_after_the_phases_are_there_where_something_is_in_them(table):
    files = whole_run()
    assert not {"serve", "other"} & set(table(files)["columns"])
    files["incidents.json"] = [{"host": "node1", "role": "vllm_serve", "task": "T", "state": "failed", "message": "m"}]
    found = table(files)
    assert found["columns"][-1] == "serve" and [row["cells"][-1] for row in found["rows"]] == ["failed", None, None]


def verdict(status):
    """Return the verdict on a node."""
    return {"status": status, "role": None, "phases": {"health": status}, "reasons": [reason("disk.free", status, "1 GiB")]}


def test_a_large_fleet_shows_the_worst_first_and_folds_what_is_well():
    nodes = {"n%d" % index: verdict("healthy") for index in range(SHOWN + 1)}
    nodes.update(n3=verdict("degraded"), n7=verdict("failed"))
    found = node_table(nodes)
    assert [row["host"] for row in found["rows"]] == ["n7", "n3"] and len(found["folded"]) == SHOWN - 1
    assert found["summary"] == counted(nodes) == "13 nodes: 1 failed, 1 degraded, 11 healthy"


def test_a_small_one_stays_in_inventory_order():
    found = node_table({"a": verdict("healthy"), "b": verdict("failed")})
    assert [row["host"] for row in found["rows"]] == ["a", "b"] and found["folded"] == [] and found["summary"] is None
