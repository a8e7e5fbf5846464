"""A layout that had too few nodes says which verdict kept which node away."""

from __future__ import annotations

import json

from ansible.module_utils.plumbline.controller.report.verdicts import node_verdicts, verdicts, why_list
from ansible.module_utils.plumbline.controller.selection import candidates, select
from project import ROOT
from report_runs import fact, health, put, reason, whole_run

SITE = ROOT / "tests/captures/h200x2/site"
LAYOUTS = [{"name": "tp2", "nodes": 1}, {"name": "pp2", "nodes": 1}, {"name": "tp2_ray", "nodes": 1}]


def unserved(files):
    """Take out of a whole run what serving left."""
    return {path: content for path, content in files.items() if "/startup." not in path and "/benchmark." not in path}


def test_the_run_on_two_h200s_names_the_fabric_verdicts_that_took_its_only_node(records):
    files = {
        "run.json": dict(whole_run()["run.json"], hosts=["this_machine"]),
        "incidents.json": [],
    }
    for path in sorted(SITE.glob("*.json")):
        files["facts/this_machine/" + path.name] = json.loads(path.read_text())
    files["selection.json"] = select(candidates(["this_machine"], node_verdicts(records(files).data)), LAYOUTS)
    assert files["selection.json"]["excluded"] == {"this_machine": "fabric: failed"}
    found = verdicts(records(files))
    assert set(found["layouts"]) == {"tp2", "pp2", "tp2_ray"}
    for name in found["layouts"]:
        (item,) = found["layouts"][name]["reasons"]
        assert item["status"] == "incomplete" and "0 of 1 node(s) left" in item["seen"]
        assert "this_machine by its fabric: collective.ranks: 1 devices with ranks 0 on 1 host(s) vm" in item["seen"]
        assert "server.log" not in str(item) and "install a build with MPI" in item["remedy"]
    (line,) = [line for line in why_list(found) if line.startswith("layout tp2 ")]
    assert "collective.ranks" in line and "asked for, and left no fact" not in line


def test_of_several_nodes_each_is_named_and_no_more_than_three_verdicts(records):
    files = unserved(whole_run())
    bad = health("failed", [reason("disk.free", "failed", "0.4 GiB", "at least 5 GiB", "Remove logs.")])
    for node in ("node1", "node2"):
        put(files, node, bad)
    excluded = {"node1": "health: failed", "node2": "health: failed"}
    layouts = [{"name": "pp2_across", "nodes": ["node3"], "missing": 1}]
    files["selection.json"] = {"serving": ["node3"], "spares": [], "excluded": excluded, "layouts": layouts}
    (item,) = verdicts(records(files))["layouts"]["pp2_across"]["reasons"]
    assert "1 of 2 node(s) left" in item["seen"] and item["remedy"] == "Remove logs."
    assert "node1 by its health: disk.free: 0.4 GiB" in item["seen"] and "node2 by its health" in item["seen"]


def test_without_a_verdict_against_a_node_there_are_too_few(records):
    files = unserved(whole_run())
    files["selection.json"] = {
        "serving": ["node1"], "spares": [], "excluded": {}, "layouts": [{"name": "pp2", "nodes": ["node1"], "missing": 1}],
    }  # fmt: skip
    (item,) = verdicts(records(files))["layouts"]["pp2"]["reasons"]
    assert "no node was kept away: there are too few" in item["seen"]


def test_a_layout_that_had_its_nodes_and_left_nothing_says_so_as_before(records):
    found = verdicts(records(unserved(whole_run())))["layouts"]
    assert {item["reasons"][0]["seen"] for item in found.values()} == {"asked for, and left no fact"}


def test_a_layout_whose_nodes_were_chosen_and_then_failed_says_what_kept_them_away(records):
    files = whole_run()
    for path in [path for path in files if "tp2_across" in path]:
        del files[path]
    put(
        files, "node2", fact("model", "tiny", "failed", reasons=[reason("model.hash", "failed", "2 files differ", "none", "send it again")])
    )
    found = verdicts(records(files))["layouts"]["tp2_across"]
    assert found["status"] == "incomplete"
    (item,) = found["reasons"]
    assert item["seen"] == "not served; its nodes were kept away: node2 by its model: model.hash: 2 files differ (expected none)"
    assert item["remedy"] == "send it again"
