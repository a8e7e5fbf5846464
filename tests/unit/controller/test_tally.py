"""On a large fleet what is well is counted, and what is not has its line; on a small one everything has."""

from __future__ import annotations

from ansible.module_utils.plumbline.controller.tally import Tally


def test_a_thousand_healthy_nodes_are_a_line():
    tally = Tally(hosts=1000)
    assert all(tally.folds("healthy", "health", {"name": "node", "duration_s": index / 1000}) for index in range(999))
    assert not tally.folds("failed", "health", {"name": "node"}) and not tally.folds("degraded", "health", {"name": "fleet"})
    (line,) = tally.lines()
    assert "999 nodes" in line and "healthy" in line and "up to 1.0 s" in line
    assert tally.lines() == []


def test_a_lab_shows_every_verdict():
    tally = Tally(hosts=3)
    assert not tally.folds("healthy", "health", {"name": "node"}) and tally.lines() == []
