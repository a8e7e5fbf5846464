"""What ``make bench FAULTS=1`` prints of a run: what each bad node cost, and whether it and no other was named."""

from __future__ import annotations

import sys

import pytest
from project import ROOT

KINDS = {"n5": "dead", "n6": "hung", "n7": "slow"}
SAID = {
    "n1": ("healthy", ""), "n2": ("healthy", ""), "n3": ("healthy", ""), "n4": ("healthy", ""), "n5": ("failed", "unreachable: no sshd"),
    "n6": ("failed", "unreachable: hung"), "n7": ("degraded", "fleet.answer_s: 11 s"),
}  # fmt: skip


@pytest.fixture
def faults(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tests/bench"))
    yield __import__("faults")
    for name in ("faults", "one_script"):
        sys.modules.pop(name, None)


def event(kind, host, task, duration):
    return {"event": "runner_on_" + kind, "event_data": {"host": host, "task": task, "duration": duration}}


def test_what_each_node_cost_is_the_sum_of_its_tasks(faults):
    events = [event("ok", "n1", "Ask", 1.0), event("ok", "n1", "Judge", 2.5), event("unreachable", "n6", "Ask", 20.4)]
    events += [event("start", "n1", "Ask", 0), {"event": "verbose"}]
    assert faults.costs(events) == {"n1": [(2.5, "Judge"), (1.0, "Ask")], "n6": [(20.4, "Ask")]}


def test_a_run_in_which_the_three_are_named_is_sound(faults):
    spent = {**{"n%d" % n: [(2.0, "Judge")] for n in range(1, 8)}, "n6": [(20.4, "Ask"), (1.0, "x")]}
    lines, sound = faults.lines(KINDS, spent, SAID)
    assert sound and "| n6 | hung | 21.4 s | 20.4 s: Ask | failed: unreachable: hung |" in lines
    assert lines[-1] == "the 4 others: median 2.0 s, at most 2.0 s"


@pytest.mark.parametrize("node, found", [
    ("n1", ("degraded", "disk")), ("n5", ("healthy", "")), ("n6", ("degraded", "")), ("n7", ("healthy", "")), ("n7", ("failed", "")),
])  # fmt: skip
def test_a_node_that_is_not_named_rightly_is_not(faults, node, found):
    assert not faults.lines(KINDS, {}, dict(SAID, **{node: found}))[1]


def test_among_few_nodes_a_slow_one_need_not_be_named(faults):
    few = {name: found for name, found in SAID.items() if name != "n1"}
    lines, sound = faults.lines(KINDS, {}, dict(few, n7=("healthy", "")))
    assert sound and lines[-1] == "a slow node is named from 5 nodes on that answer; here are 4"


def test_it_breaks_no_node_where_none_would_be_left(faults):
    with pytest.raises(SystemExit, match="four nodes"):
        faults.measure("hosts.yml", dict.fromkeys(["n1", "n2", "n3"]), 5, None)
