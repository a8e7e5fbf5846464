"""What ``make bench SYNC=8`` does around its measurements; the measurements themselves need a lab."""

from __future__ import annotations

import sys

import pytest
from project import ROOT


class Fleet:
    """Notes who copied to whom."""

    head, others, path = "n1", ["n2", "n3", "n4", "n5", "n6", "n7", "n8"], "/m"

    def __init__(self):
        self.pushed = []


@pytest.fixture
def sync(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "tests/bench"))
    module = __import__("sync")
    monkeypatch.setattr(module, "push", lambda fleet, source, target: fleet.pushed.append((source, target)))
    yield module
    for name in ("sync", "validate", "faults", "one_script"):
        sys.modules.pop(name, None)


def test_a_tree_takes_as_many_rounds_as_doublings_and_copies_only_what_is_there(sync):
    fleet = Fleet()
    sync.tree(fleet)
    have = {"n1"}
    for source, target in fleet.pushed:
        assert source in have | {item for _source, item in fleet.pushed}
        have.add(target)
    assert have == {"n1", *fleet.others} and len(fleet.pushed) == 7
    assert sum(source == "n1" for source, _target in fleet.pushed) == 3, "eight nodes are three doublings"


def test_each_node_gets_one_copy_by_each_method(sync):
    for method in (sync.sequential, sync.star):
        fleet = Fleet()
        method(fleet)
        assert sorted(fleet.pushed) == [("n1", name) for name in fleet.others]


def test_moments_of_facts_are_seconds(sync):
    assert sync.moment("2026-11-27T21:50:07.649501Z") - sync.moment("2026-11-27T21:50:06.149501Z") == 1.5
