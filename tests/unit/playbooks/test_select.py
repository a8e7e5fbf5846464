"""The choice of nodes in a playbook: what the callback kept decides, and the report says the same."""

from __future__ import annotations

import json

import pytest
import yaml
from play_run import results, run_playbook
from project import ROOT
from report_runs import health, reason

# A fact comes back as a module's would; the nodes are this machine under three names.
INVENTORY = {"nodes": {"hosts": {name: {"ansible_connection": "local"} for name in ("node1", "node2", "node3")}}}
LAYOUTS = [{"name": "pp2", "tp": 1, "pp": 2, "nodes": 2, "executor": "mp"}]


@pytest.fixture
def chosen(tmp_path):
    """Return a function that gives nodes their health facts, chooses and reports, and returns (runner, selection, report)."""

    def run(facts, cmdline=""):
        measure = {
            "name": "Prove the health of every node",
            "hosts": "nodes",
            "gather_facts": False,
            "tasks": [{"name": "Measure", "ansible.builtin.set_fact": {"plumbline": {"health": "{{ health_facts[inventory_hostname] }}"}}}],
        }
        playbook = tmp_path / "playbook.yml"
        site = [measure, *({"import_playbook": str(ROOT / "playbooks" / name)} for name in ("select.yml", "report.yml"))]
        playbook.write_text(yaml.safe_dump(site))
        runner = run_playbook(tmp_path, str(playbook), INVENTORY, cmdline, "chosen", health_facts=facts, vllm_serve_layouts=LAYOUTS)
        folder = tmp_path / "results" / "chosen"
        documents = (
            [json.loads((folder / name).read_text()) for name in ("selection.json", "facts.json")] if folder.exists() else [None] * 2
        )
        return runner, *documents

    return run


def test_a_fact_that_breaks_its_schema_keeps_its_node_out_of_serving(chosen):
    broken = dict(health(), measured={"cpu_count": "two"})
    runner, selection, report = chosen({"node1": broken, "node2": health(), "node3": health()})
    assert broken["status"] == "healthy" and runner.rc != 0
    assert selection["serving"] == ["node2", "node3"] and selection["excluded"] == {"node1": "health: incomplete"}
    assert {name: item["status"] for name, item in report["verdicts"]["nodes"].items()} == {
        "node1": "incomplete", "node2": "healthy", "node3": "healthy",
    }  # fmt: skip
    assert any(item["check"] == "fact.schema" for item in report["verdicts"]["nodes"]["node1"]["reasons"])
    said = "\n".join(event.get("stdout", "") for event in runner.events)
    assert "incomplete" in said and "fact.schema" in said


def test_a_failed_node_is_replaced_and_a_good_fleet_serves_in_order(chosen):
    bad = health("failed", [reason("disk.free", "failed", "0.4 GiB", "at least 5 GiB", "Remove logs.")])
    runner, selection, _report = chosen({"node1": health(), "node2": bad, "node3": health()})
    assert runner.rc != 0 and selection["serving"] == ["node1", "node3"]
    assert selection["replaced"] == [{"node": "node2", "by": "node3", "why": "health: failed"}]
    runner, selection, report = chosen(dict.fromkeys(("node1", "node2", "node3"), health()))
    assert runner.rc == 0 and report["verdicts"]["overall"] == "healthy"
    assert (selection["serving"], selection["spares"], selection["excluded"]) == (["node1", "node2"], ["node3"], {})


def test_check_mode_decides_from_the_facts_too_and_leaves_no_folder(chosen, tmp_path):
    runner, selection, _report = chosen({"node1": health("failed"), "node2": health(), "node3": health()}, "--check")
    assert selection is None and not (tmp_path / "results").exists()
    (result,) = results(runner, "Choose from the verdicts so far")
    assert result["plumbline_selection"]["serving"] == ["node2", "node3"]
