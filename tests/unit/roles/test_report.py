"""The report role through ansible-runner on synthetic runs: verdict, idempotence, check mode, --limit."""

from __future__ import annotations

import json
import os

import pytest
from play_run import results, run_playbook
from report_runs import health, put, reason, whole_run, write

# node3 cannot be reached: the report must not need any node.
INVENTORY = {
    "nodes": {
        "hosts": {
            "node1": {"ansible_connection": "local"},
            "node2": {"ansible_connection": "local"},
            "node3": {"ansible_host": "127.0.0.1", "ansible_port": 1},
        }
    }
}


@pytest.fixture
def play(tmp_path):
    folder = tmp_path / "run"

    def run(files=None, cmdline="", **extravars):
        if files is not None:
            write(files, folder)
        return run_playbook(tmp_path, "playbooks/report.yml", INVENTORY, cmdline, **{"report_run_dir": str(folder), **extravars})

    run.folder = folder
    return run


def test_a_good_run_is_reported_and_reporting_again_changes_nothing(play):
    first = play(whole_run())
    assert first.rc == 0
    (rendered,) = results(first, "Render the report")
    assert rendered["overall"] == "healthy" and rendered["not_proven"] == []
    assert {"facts.json", "report.md", "report.html", "junit.xml", "plots/throughput_by_layout.svg"} <= set(rendered["written"])
    assert all((play.folder / path).is_file() for path in rendered["written"])
    second = play()
    assert second.rc == 0 and sum(second.stats["changed"].values()) == 0


def test_a_failed_node_fails_the_run_after_the_report_is_written_also_with_limit(play):
    files = whole_run()
    put(files, "node2", health("failed", [reason("disk.free", "failed", "0.4 GiB", "at least 5 GiB", "Remove logs.")]))
    run = play(files, "--limit node3")
    assert run.rc != 0
    assert (play.folder / "report.html").is_file()
    (message,) = results(run, "Fail on what is failed or incomplete")
    assert "node node2 is failed: disk.free: 0.4 GiB (expected at least 5 GiB) → Remove logs." in message["msg"]
    assert play(None, "--skip-tags verdict").rc == 0


def test_check_mode_writes_nothing_and_fails_nothing(play):
    files = whole_run()
    put(files, "node2", health("failed"))
    run = play(files, "--check")
    assert run.rc == 0
    assert results(run, "Render the report")[0]["overall"] == "failed"
    assert sorted(os.listdir(play.folder)) == ["facts", "incidents.json", "run.json", "selection.json"]


def test_no_folder_is_an_error_that_says_what_to_do(play):
    run = play()
    assert run.rc != 0
    assert "is no folder" in results(run, "Render the report")[0]["msg"]
    run = play(report_run_dir="")
    assert run.rc != 0
    assert "run from the project's root" in results(run, "Check that there is a run to report on")[0]["msg"]


def test_exports_are_written_where_they_are_wanted_and_again_changes_nothing(play, tmp_path):
    collector = tmp_path / "collector"
    collector.mkdir()
    wanted = {"report_jsonl": "facts.jsonl", "report_prometheus": str(collector / "plumbline.prom")}
    assert play(whole_run(), **wanted).rc == 0
    assert len((play.folder / "facts.jsonl").read_text().splitlines()) == len(list(play.folder.glob("facts/*/*.json")))
    assert [path.name for path in collector.iterdir()] == ["plumbline.prom"]
    assert 'plumbline_run_verdict{status="healthy"} 1' in (collector / "plumbline.prom").read_text()
    (rendered,) = results(play(**wanted), "Render the report")
    assert rendered["written"] == [] and rendered["changed"] is False
    (collector / "plumbline.prom").unlink()
    assert play(None, "--check", **wanted).rc == 0 and not list(collector.iterdir())


def test_export_into_a_folder_that_is_not_there_fails_after_the_report_is_written(play, tmp_path):
    run = play(whole_run(), report_prometheus=str(tmp_path / "colector" / "plumbline.prom"))
    assert run.rc != 0
    assert "there is no folder %s" % (tmp_path / "colector") in results(run, "Render the report")[0]["msg"]
    assert (play.folder / "report.html").is_file() and not (tmp_path / "colector").exists()


def artefacts(run):
    return [event["event_data"].get("artifact_data") for event in run.events if event["event"] == "playbook_on_stats"]


def test_under_awx_the_verdicts_are_artefacts_of_the_job_also_when_the_run_fails(play):
    files = whole_run()
    put(files, "node2", health("failed", [reason("disk.free", "failed", "0.4 GiB", "at least 5 GiB", "Remove logs.")]))
    run = play(files, awx_job_id=7)
    assert run.rc != 0
    (found,) = artefacts(run)
    assert found["plumbline_overall"] == "failed"
    assert found["plumbline_nodes"] == {"node1": "healthy", "node2": "failed", "node3": "healthy"}
    assert found["plumbline_layouts"]["tp2_within"] == "healthy"
    assert found["plumbline_report"] == str(play.folder / "report.html")


def test_elsewhere_there_are_no_artefacts_unless_they_are_asked_for(play):
    assert artefacts(play(whole_run())) == [{}]
    assert artefacts(play(report_artifacts=True))[0]["plumbline_overall"] == "healthy"
    assert artefacts(play(awx_job_id=7, report_artifacts="false")) == [{}]


def test_a_run_is_compared_with_the_one_before_and_with_one_by_name_and_a_fleet_is_kept(play, tmp_path):
    before = whole_run()
    before["run.json"].update(run_id="before", started_at="2026-11-23T12:00:00Z")
    write(before, tmp_path / "before")
    fleet = tmp_path / "kept" / "fleet.json"
    assert play(whole_run(), report_fleet_baseline_write=str(fleet)).rc == 0
    text = (play.folder / "report.md").read_text()
    assert "Against run before: no difference shown in" in text
    assert json.loads(fleet.read_text())["schema"] == "plumbline.fleet_baseline/1"
    assert play(report_compare_with="none", report_fleet_baseline=str(fleet)).rc == 0
    text = (play.folder / "report.md").read_text()
    assert "none was asked for" in text and "Against the fleet's baseline" in text
    assert play(report_compare_with=str(tmp_path / "before")).rc == 0 and "Against run before" in (play.folder / "report.md").read_text()


def test_a_run_to_compare_with_that_is_not_there_fails_the_run_after_the_report_is_written(play):
    run = play(whole_run(), report_compare_with="no-such-run")
    assert run.rc != 0 and (play.folder / "report.html").is_file()
    (message,) = results(run, "Fail on what is failed or incomplete")
    assert any("no run to compare with" in line and "no-such-run" in line for line in message["msg"])
