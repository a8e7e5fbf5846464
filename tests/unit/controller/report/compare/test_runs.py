"""Which run is compared with which, through the whole report: what differs is named, and what is equal is not."""

from __future__ import annotations

import json
import shutil

import pytest
from ansible.module_utils.plumbline.controller.report import render
from ansible.module_utils.plumbline.controller.report.compare import compared
from project import CAPTURES, H200, ROOT, SCHEMAS
from report_runs import collective, health, put, whole_run, write

TEMPLATES = str(ROOT / "roles" / "report" / "templates")
LAB = CAPTURES / "lab_runs"


def report(folder, wanted="", **options):
    """Return ``(comparison, files, problems)`` of a run folder."""
    against = compared.Against(str(folder), str(SCHEMAS), wanted, **options)
    files, _found = render.build(str(folder), str(SCHEMAS), TEMPLATES, against)
    return json.loads(files["facts.json"])["comparison"], files, against.problems


@pytest.fixture(autouse=True)
def without_plots(monkeypatch):
    monkeypatch.setattr(render, "draw", lambda *_records: [])


def of_h200(name, run_id, hour, factor=1.0, **context):
    """Return a run folder's files with one real benchmark of an H200."""
    one = json.loads((H200 / ("plumbline.benchmark.%s.json" % name)).read_text())
    one.update(name="qwen")
    one["context"].update(layout="qwen", **context)
    for run in one["measured"]["runs"]:
        run["throughput_tok_s"] *= factor
        run["tpot_ms"] /= factor
    files = {"run.json": {"run_id": run_id, "hosts": ["vm"], "started_at": "2026-11-27T%02d:00:00Z" % hour}}
    put(files, "vm", one)
    return files


def test_two_starts_of_one_server_are_no_difference_and_five_per_cent_less_is_one(tmp_path):
    write(of_h200("qwen7b", "first", 10), tmp_path / "first")
    equal = write(of_h200("qwen7b.again", "again", 11), tmp_path / "again")
    found, files, problems = report(equal)
    assert {item["says"] for item in found["differences"]} <= {"no difference shown", "within the runs only"} and problems == []
    assert found["with"] == "first" and "differs: worse" not in files["report.md"].decode()
    slow = write(of_h200("qwen7b.again", "slow", 12, 0.95), tmp_path / "slow")
    found, files, _problems = report(slow)
    told = {item["metric"]: item for item in found["differences"] if item["says"] == "differs"}
    assert set(told) == {"throughput_tok_s", "tpot_ms"} and all(item["better"] is False for item in told.values())
    assert found["with"] == "again", "the last one, not the first"
    text = files["report.md"].decode()
    assert "Against run again: TPOT of qwen is 5.26 % higher" in text
    assert "throughput of qwen is 5.00 % lower" in text


def test_two_real_runs_of_the_lab_are_no_difference(tmp_path):
    for folder in LAB.glob("2026*"):
        shutil.copytree(folder, tmp_path / folder.name)
    found, files, _problems = report(tmp_path / "20261127T193507Z")
    assert len(found["differences"]) == 12 and {item["says"] for item in found["differences"]} == {"no difference shown"}
    assert "Against run 20261127T133912Z: no difference shown in 12 numbers." in files["report.md"].decode()


@pytest.mark.parametrize("change", [{"model": "/models/Other"}, {"tp": 2}, {"executor": "ray"}, {"gpu_name": "NVIDIA H100"}])
def test_only_the_same_model_layout_and_sku_are_compared(tmp_path, change):
    write(of_h200("qwen7b", "first", 10, **change), tmp_path / "first")
    found, files, _problems = report(write(of_h200("qwen7b.again", "again", 11), tmp_path / "again"))
    assert found["differences"] == []
    assert "No earlier run to compare with: none of the same model, layout and SKU." in files["report.md"].decode()


def test_a_run_by_name_or_path_may_differ_in_more_and_that_is_said(tmp_path):
    other = write(of_h200("qwen7b", "first", 10, gpu_name="NVIDIA H100", vllm_version="0.24.0"), tmp_path / "elsewhere" / "first")
    this = write(of_h200("qwen7b.again", "again", 11), tmp_path / "results" / "again")
    for wanted in (str(other),):
        found, files, problems = report(this, wanted)
        assert problems == [] and len(found["differences"]) == 3 and found["asked"] == wanted
        assert "vllm_version: 0.25.0, then 0.24.0" in files["report.md"].decode().replace("\\", "")
        assert "gpu: NVIDIA H200, then NVIDIA H100" in files["report.md"].decode()
    shutil.copytree(other, tmp_path / "results" / "first")
    assert report(this, "first")[0]["with"] == "first"


def test_a_name_that_is_no_run_is_told_and_the_report_is_there_all_the_same(tmp_path):
    this = write(of_h200("qwen7b", "again", 11), tmp_path / "again")
    found, files, problems = report(this, "nothing-like-that")
    assert len(problems) == 1 and "no run to compare with" in problems[0] and "`ls " in problems[0]
    assert found["problem"] == problems[0] and b"Not compared with another run" in files["report.html"]
    assert report(this, "none")[1]["report.md"].decode().count("none was asked for") == 1


def test_rendering_an_old_run_again_says_what_it_said(tmp_path):
    first = write(of_h200("qwen7b", "first", 10), tmp_path / "first")
    before = report(first)[1]
    write(of_h200("qwen7b.again", "later", 11), tmp_path / "later")
    assert report(first)[1] == before


def test_a_metric_over_time_has_the_equal_runs_in_their_order(tmp_path):
    for hour in range(5):
        files = whole_run()
        files["run.json"].update(run_id="run%d" % hour, started_at="2026-11-24T%02d:00:00Z" % hour)
        put(files, "node1", collective("all_reduce", "within", 21.0 + hour, 2.4))
        write(files, tmp_path / ("run%d" % hour))
    found, files, _problems = report(tmp_path / "run4")
    node = next(item for item in found["courses"] if item["metric"] == "collective.all_reduce.within.latency_8b_us")
    assert [point["run"] for point in node["points"]] == ["run%d" % hour for hour in range(5)] and node["subject"] == "node1"
    assert [round(point["value"]) for point in node["points"]] == [21, 22, 23, 24, 25]
    layout = next(item for item in found["courses"] if item["scope"] == "layout")
    assert len(layout["points"]) == 5 and files["report.html"].count(b'<svg class="course"') == len(found["courses"])


def fleet(hosts, gbps, sku="nd96isr_h100_v5"):
    """Return a run of nodes that each measured a collective within themselves."""
    files = {"run.json": {"run_id": "fleet", "hosts": list(hosts), "started_at": "2026-11-24T10:00:00Z"}}
    for host, rate in zip(hosts, gbps):
        one = health()
        one["context"]["sku"] = sku
        put(files, host, one)
        put(files, host, collective("all_reduce", "within", 20.0, rate))
    return files


def test_further_nodes_stand_against_the_fleet_that_was_there(tmp_path):
    from ansible.module_utils.plumbline.controller.report.compare import fleet as baselines

    hosts = ["n%02d" % number for number in range(12)]
    rates = [400.0 + 0.4 * (number % 5) for number in range(12)]
    first = write(fleet(hosts, rates), tmp_path / "a" / "fleet")
    against = compared.Against(str(first), str(SCHEMAS))
    render.build(str(first), str(SCHEMAS), TEMPLATES, against)
    path = str(tmp_path / "made" / "fleet.json")
    baselines.write(path, baselines.made_of(against.run))
    known = json.loads((tmp_path / "made" / "fleet.json").read_text())
    peak = known["skus"]["nd96isr_h100_v5"]["collective.all_reduce.within.peak_busbw_gbps"]
    assert peak["nodes"] == 12 and 350 < peak["median"] < 401 and peak["unit"] == "GB/s" and 0 < peak["spread"] < 0.005

    later = write(fleet(["x1", "x2"], [400.9, 380.0]), tmp_path / "b" / "later")
    found, files, problems = report(later, baseline_file=path)
    told = [(item["host"], item["better"]) for item in found["nodes"] if item["says"] == "differs" and "peak" in item["metric"]]
    assert told == [("x2", False)] and problems == []
    assert "to the bad: x2." in files["report.md"].decode()
    found, files, _problems = report(write(fleet(["x1"], [400.5]), tmp_path / "c" / "good"), baseline_file=path)
    assert "No node is worse than the fleet's baseline" in files["report.md"].decode()
    found, files, _problems = report(write(fleet(["x1"], [1.0], "other"), tmp_path / "d" / "other"), baseline_file=path)
    assert found["nodes"] == [] and "No node of this run has a number" in files["report.md"].decode()


@pytest.mark.parametrize("content", ["", "[]", '{"schema": "plumbline.fleet_baseline/9", "skus": {}}'])
def test_a_file_that_is_no_baseline_is_told(tmp_path, content):
    path = tmp_path / "fleet.json"
    path.write_text(content)
    this = write(of_h200("qwen7b", "again", 11), tmp_path / "runs" / "again")
    _found, files, problems = report(this, baseline_file=str(path))
    assert "is no fleet baseline" in problems[0] and b"report.html" not in files["report.html"][:1]


def test_a_small_fleet_judges_nobody(tmp_path):
    from ansible.module_utils.plumbline.controller.report.compare import fleet as baselines

    first = write(fleet(["n1", "n2"], [400.0, 401.0]), tmp_path / "a" / "fleet")
    against = compared.Against(str(first), str(SCHEMAS))
    render.build(str(first), str(SCHEMAS), TEMPLATES, against)
    path = str(tmp_path / "fleet.json")
    baselines.write(path, baselines.made_of(against.run))
    found, files, _problems = report(write(fleet(["x1"], [300.0]), tmp_path / "b" / "later"), baseline_file=path)
    assert {item["says"] for item in found["nodes"]} == {"not judged"} and "Not judged against" in files["report.md"].decode()
