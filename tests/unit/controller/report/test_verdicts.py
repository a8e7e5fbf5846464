"""Verdicts of the report on synthetic runs (report_runs.py): the worst counts, and missing evidence never passes."""

from __future__ import annotations

import shutil

import pytest
from ansible.module_utils.plumbline.controller.report.data import NotARunFolder, Schemas, SchemasMissing, load
from ansible.module_utils.plumbline.controller.report.verdicts import lines, node_verdicts, verdicts, why_list
from ansible.module_utils.plumbline.controller.selection import candidates, select
from project import SCHEMAS
from report_runs import NODES, benchmark, collective, fact, health, pair, put, put_pairs, reason, startup, whole_run


@pytest.fixture
def judge(records):
    """Write a run folder and return its data and verdicts."""

    def run(files):
        found = records(files)
        return found.data, verdicts(found)

    return run


def test_a_run_in_which_everything_passed_has_nothing_failed(judge):
    data, found = judge(whole_run())
    assert [entry["problems"] for entry in data["facts"] if entry["problems"]] == []
    assert found["overall"] == "healthy" and found["failed"] == []
    assert {host: verdict["role"] for host, verdict in found["nodes"].items()} == {
        "node1": "serving",
        "node2": "serving",
        "node3": "spare",
    }
    assert found["nodes"]["node3"]["phases"] == {
        "health": "healthy",
        "clocks": "skipped",
        "gpu_baseline": None,
        "fabric": None,
        "model": None,
    }


def test_a_failed_check_fails_its_node_only_and_says_what_to_do(judge):
    files = whole_run()
    why = reason("disk.free", "failed", "0.4 GiB free", "at least 5 GiB", "Remove old logs.")
    put(files, "node3", health("failed", reasons=[reason("cpu", "healthy", "2 cores"), why]))
    _data, found = judge(files)
    assert {host: verdict["status"] for host, verdict in found["nodes"].items()} == {
        "node1": "healthy",
        "node2": "healthy",
        "node3": "failed",
    }
    assert why_list(found) == ["node node3 is failed: disk.free: 0.4 GiB free (expected at least 5 GiB) → Remove old logs."]


def test_degraded_passes_and_shows(judge):
    files = whole_run()
    put(files, "node2", health("degraded", reasons=[reason("memory", "degraded", "22 GiB")]))
    _data, found = judge(files)
    assert found["overall"] == "degraded" and found["failed"] == []
    assert any("node2" in line and "memory: 22 GiB" in line for line in lines(found))


def test_an_unreachable_node_is_failed_with_the_task_at_which_it_was_lost(judge):
    files = whole_run()
    files["incidents.json"] = [
        {
            "host": "node2",
            "role": "vllm_serve",
            "task": "Serve",
            "state": "unreachable",
            "message": "no route",
            "at": "x",
        }
    ]
    _data, found = judge(files)
    assert found["nodes"]["node2"]["status"] == "failed"
    assert found["nodes"]["node2"]["phases"]["serve"] == "failed"
    assert found["nodes"]["node1"]["status"] == "healthy"
    assert "no route" in found["failed"][0]["why"] and "'Serve'" in found["failed"][0]["why"]


def test_incidents_of_the_report_itself_are_not_findings(judge):
    files = whole_run()
    files["incidents.json"] = [{"host": "node1", "role": "report", "task": "Fail", "state": "failed", "message": "x"}]
    data, found = judge(files)
    assert data["incidents"] == [] and found["failed"] == []


def test_an_incident_on_the_controller_is_listed(judge):
    files = whole_run()
    files["incidents.json"] = [{"host": "localhost", "role": "preflight", "task": "T", "state": "failed", "message": "m"}]
    _data, found = judge(files)
    assert [(item["what"], item["name"], item["status"]) for item in found["failed"]] == [("host", "localhost", "failed")]
    assert found["overall"] == "failed"


def test_a_node_without_any_fact_is_incomplete(judge):
    files = {path: content for path, content in whole_run().items() if "node3" not in path}
    _data, found = judge(files)
    assert found["nodes"]["node3"]["status"] == "incomplete"
    assert found["overall"] == "incomplete"


@pytest.mark.parametrize("gone, node, status", [
    ("facts/node3/health.node.json", "node3", "incomplete"),
    ("facts/node2/model.tiny.json", "node2", "incomplete"),
])  # fmt: skip
def test_a_fact_that_the_others_have_is_missed(judge, gone, node, status):
    files = whole_run()
    del files[gone]
    _data, found = judge(files)
    assert found["nodes"][node]["status"] == status


@pytest.mark.parametrize("kept, status", [
    (("across",), "healthy"),  # one GPU a node: nothing within it, and the head alone keeps what the group did
    (("across", "serving"), "healthy"),
    (("across", "within"), "incomplete"),
])  # fmt: skip
def test_what_the_head_kept_for_a_group_is_not_owed_by_the_others(judge, kept, status):
    files = {path: content for path, content in whole_run().items() if "/collective." not in path and "/link." not in path}
    made = {"across": collective("all_reduce", "across", 640.0, 0.11), "within": collective("all_reduce", "within", 640.0, 0.11)}
    made["serving"] = dict(collective("all_reduce", "within", 640.0, 0.11), name="serving_all_reduce")
    for name in kept:
        put(files, "node1", made[name])
    _data, found = judge(files)
    assert found["nodes"]["node2"]["status"] == status
    assert found["nodes"]["node2"]["phases"]["fabric"] == (None if status == "healthy" else status)


def test_a_spare_owes_no_fabric_and_an_excluded_node_no_further_fact(judge):
    files = whole_run()
    del files["facts/node3/clocks.node.json"]
    put(files, "node3", health("failed"))
    files["selection.json"].update(spares=[], excluded={"node3": "health: failed"})
    _data, found = judge(files)
    assert found["nodes"]["node3"]["phases"]["clocks"] is None
    assert [item["check"] for item in found["nodes"]["node3"]["reasons"]] == ["health.check"]


def test_nothing_measured_is_no_failure_and_no_pass(judge):
    files = {path: content for path, content in whole_run().items() if not path.startswith("facts/")}
    files["run.json"]["phases"] = [{"name": "Preflight"}]
    files.pop("selection.json")
    _data, found = judge(files)
    assert found["overall"] == "skipped" and found["failed"] == []


def test_a_failed_benchmark_fails_its_layout_only(judge):
    files = whole_run()
    bad = benchmark("tp2_across")
    bad.update(status="failed", reasons=[reason("benchmark.runs", "failed", "run 3 of 5: the server ended")])
    put(files, "node1", bad)
    _data, found = judge(files)
    assert {name: verdict["status"] for name, verdict in found["layouts"].items()} == {
        "tp1": "healthy",
        "tp2_within": "healthy",
        "pp2_across": "healthy",
        "tp2_across": "failed",
    }
    assert all(verdict["status"] == "healthy" for verdict in found["nodes"].values())


@pytest.mark.parametrize("kinds", [("benchmark",), ("startup",), ("startup", "benchmark")])
def test_a_selected_layout_without_its_facts_is_incomplete(judge, kinds):
    files = whole_run()
    for kind in kinds:
        del files[f"facts/node1/{kind}.pp2_across.json"]
    _data, found = judge(files)
    assert found["layouts"]["pp2_across"]["status"] == "incomplete"
    assert found["overall"] == "incomplete"


def test_a_ray_layout_over_two_nodes_needs_two_ray_addresses(judge):
    files = whole_run()
    for one in (benchmark("pp2_across"), startup("pp2_across")):
        one["context"]["ray_nodes"] = one["context"]["ray_nodes"][:1]
        put(files, "node1", one)
    _data, found = judge(files)
    assert found["layouts"]["pp2_across"]["status"] == "incomplete"
    assert "10.98.0.11" in found["layouts"]["pp2_across"]["reasons"][0]["seen"]


def test_an_invalid_fact_is_incomplete_and_kept(judge):
    files = whole_run()
    odd = health()
    odd["duration_s"] = "long"
    put(files, "node1", odd)
    files["facts/node2/health.node.json"] = '{"schema": '
    _data, found = judge(files)
    assert found["nodes"]["node1"]["status"] == found["nodes"]["node2"]["status"] == "incomplete"
    assert "$.duration_s" in found["failed"][0]["why"] and "facts/node1/health.node.json" in found["failed"][0]["why"]
    assert "cannot be read as JSON" in found["failed"][1]["why"]


def test_an_invalid_fact_that_says_failed_stays_failed(judge):
    files = whole_run()
    odd = health("failed")
    odd["extra"] = 1
    put(files, "node1", odd)
    _data, found = judge(files)
    assert found["nodes"]["node1"]["status"] == "failed"


def test_nan_in_a_fact_is_named(judge):
    files = whole_run()
    put(files, "node1", health(load_1m=float("nan")))
    data, found = judge(files)
    assert found["nodes"]["node1"]["status"] == "incomplete"
    assert any("NaN" in problem for entry in data["facts"] for problem in entry["problems"])


def test_a_passing_benchmark_without_runs_does_not_fit_its_schema():
    bare = benchmark("tp1")
    bare["measured"]["runs"] = []
    assert any("runs" in problem for problem in Schemas(str(SCHEMAS)).problems("benchmark", bare))
    bare["status"] = "failed"
    assert Schemas(str(SCHEMAS)).problems("benchmark", bare) == []


def test_a_fact_under_another_kinds_name_is_a_problem():
    assert any("$.schema" in problem for problem in Schemas(str(SCHEMAS)).problems("startup", benchmark("tp1")))
    assert "unknown kind 'weather'" in Schemas(str(SCHEMAS)).problems("weather", {})[0]


def test_a_schema_may_refer_to_another_by_file_name(tmp_path):
    shutil.copytree(SCHEMAS, tmp_path / "schema")
    (tmp_path / "schema" / "link.schema.json").write_text('{"$id": "plumbline.link/1", "$ref": "fact.schema.json"}')
    assert Schemas(str(tmp_path / "schema")).problems("link", fact("link", "eth0")) == []


def test_missing_folders_are_told(tmp_path):
    with pytest.raises(NotARunFolder, match="neither run.json nor facts/"):
        load(str(tmp_path), str(SCHEMAS))
    (tmp_path / "facts").mkdir()
    with pytest.raises(SchemasMissing, match="fact.schema.json"):
        load(str(tmp_path), str(tmp_path))


def test_without_run_json_the_rest_is_judged_and_the_run_is_incomplete(judge):
    files = whole_run()
    del files["run.json"]
    _data, found = judge(files)
    assert set(found["nodes"]) == set(NODES)
    assert found["overall"] == "incomplete"
    assert any("run.json is missing" in item["why"] for item in found["failed"])


@pytest.mark.parametrize("tags, skip_tags, status", [
    (["all"], [], "incomplete"),
    (["health"], [], "incomplete"),
    (["serve", "benchmark"], [], "skipped"),
    (["all"], ["health", "clocks"], "skipped"),
])  # fmt: skip
def test_a_node_owes_facts_only_of_phases_that_were_asked_for(judge, tags, skip_tags, status):
    files = {path: content for path, content in whole_run().items() if "/node" not in path or "tp1" in path}
    files["run.json"].update(tags=tags, skip_tags=skip_tags)
    files["run.json"]["phases"].append({"name": "GPU clocks"})
    del files["selection.json"]
    _data, found = judge(files)
    assert found["nodes"]["node2"]["status"] == found["nodes"]["node3"]["status"] == status


@pytest.mark.parametrize("tags", [["all"], ["serve"], ["benchmark"]])
def test_serving_without_a_benchmark_is_incomplete(judge, tags):
    files = {path: content for path, content in whole_run().items() if "benchmark." not in path}
    files["run.json"]["tags"] = tags
    assert judge(files)[1]["layouts"]["tp1"]["status"] == "incomplete"


@pytest.mark.parametrize("tags, owed", [(["all"], True), (["serve"], True), (["fabric"], False)])
def test_selected_layouts_owe_facts_only_where_serving_was_asked_for(judge, tags, owed):
    files = {path: content for path, content in whole_run().items() if "benchmark." not in path and "startup." not in path}
    files["run.json"]["tags"] = tags
    found = judge(files)[1]["layouts"]
    assert [verdict["status"] for verdict in found.values()] == (["incomplete"] * 4 if owed else [])


def test_what_nodes_measure_together_accuses_none_of_them_and_fails_the_run(judge):
    files = whole_run()
    missed = collective("all_reduce", "across", 640.0, 0.11)
    missed["status"] = "failed"
    missed["reasons"].append(reason("collective.baseline", "failed", "peak 0.11 GB/s", "at least 0.2 GB/s", "compare it"))
    put(files, "node1", missed)
    put(files, "node2", missed)
    put(files, "node1", pair("node1", "node2", 1, None))
    _data, found = judge(files)
    assert {verdict["status"] for verdict in found["nodes"].values()} == {"healthy"}
    assert found["overall"] == "failed"
    assert [(item["what"], item["name"], item["status"]) for item in found["failed"]] == [
        ("collective", "all_reduce.across", "failed"),
        ("link", "pair.node1.node2", "failed"),
    ]
    assert "at least 0.2 GB/s" in found["failed"][0]["why"] and "10.98.0.11, 10.98.0.12" in found["failed"][0]["why"]
    assert found["failed"][0]["remedy"] == "compare it"


def test_a_node_found_by_its_pairs_fails_and_the_others_do_not(judge):
    files = whole_run()
    put_pairs(files, NODES, {("node1", "node2"): 0.118, ("node1", "node3"): 0.0024, ("node2", "node3"): 0.0025})
    data, found = judge(files)
    assert not [entry["problems"] for entry in data["facts"] if entry["problems"]]
    assert {host: verdict["status"] for host, verdict in found["nodes"].items()} == {
        "node1": "healthy", "node2": "healthy", "node3": "failed",
    }  # fmt: skip
    assert [item["name"] for item in found["failed"]] == ["node3"] and "slow with every other node" in found["failed"][0]["why"]


def test_a_node_that_failed_within_itself_is_still_its_own_fault(judge):
    files = whole_run()
    broken = collective("all_reduce", "within", 21.0, 2.4)
    broken["status"] = "failed"
    put(files, "node2", broken)
    _data, found = judge(files)
    assert found["nodes"]["node2"]["status"] == "failed" and found["nodes"]["node1"]["status"] == "healthy"


def test_nodes_are_judged_without_their_layouts_as_they_are_with_them(tmp_path, records):
    files = whole_run()
    odd = health()
    odd["duration_s"] = "long"
    put(files, "node2", odd)
    files["incidents.json"] = [{"host": "node3", "role": "gpu_clocks", "task": "Lock", "state": "unreachable", "message": "no route"}]
    found = records(files)
    judged = node_verdicts(load(str(tmp_path), str(SCHEMAS)))
    assert judged == verdicts(found)["nodes"]
    assert {host: verdict["status"] for host, verdict in judged.items()} == {"node1": "healthy", "node2": "incomplete", "node3": "failed"}
    assert set(judged["node1"]) == {"status", "role", "phases", "reasons"}


def test_nodes_are_judged_before_any_was_selected(records):
    files = {path: content for path, content in whole_run().items() if "health" in path or path == "run.json"}
    files["run.json"]["phases"] = files["run.json"]["phases"][:1]
    put(files, "node2", health("failed"))
    judged = node_verdicts(records(files).data)
    assert {host: (verdict["status"], verdict["role"]) for host, verdict in judged.items()} == {
        "node1": ("healthy", None), "node2": ("failed", None), "node3": ("healthy", None),
    }  # fmt: skip


def fleet_of(*statuses):
    """Return verdicts of nodes n00, n01, ...; those that are not healthy give the same reason."""
    nodes = {}
    for index, status in enumerate(statuses):
        found = [reason("disk.free", status, "1 GiB free", "5 GiB", "free space there")]
        nodes["n%02d" % index] = {"status": status, "role": None, "phases": {}, "reasons": found}
    bad = [
        {"what": "node", "name": name, "status": item["status"], "why": "disk.free: 1 GiB free", "remedy": "free space there"}
        for name, item in nodes.items()
        if item["status"] == "failed"
    ]
    return {"overall": "failed", "nodes": nodes, "layouts": {}, "failed": bad}


def test_a_large_fleet_is_a_line_for_what_is_well_and_the_worst_first():
    told = lines(fleet_of("healthy", "degraded", *["healthy"] * 996, "failed", "failed"))
    assert len(told) == 3
    assert told[0].startswith("node   n998, n999") and "failed: disk.free" in told[0]
    assert "n01" in told[1] and "degraded" in told[1]
    assert told[2].startswith("997 nodes are healthy: n00, n02") and told[2].endswith("and 989 more")


def test_a_small_fleet_has_a_line_for_each_node_the_worst_first():
    told = lines(fleet_of("healthy", "failed", "failed"))
    assert [line.split()[1] for line in told] == ["n01", "n02", "n00"]


def test_nodes_of_a_large_fleet_that_miss_the_same_are_named_together():
    (told,) = why_list(fleet_of(*["healthy"] * 20, *["failed"] * 30))
    assert told.startswith("nodes n20, n21") and "and 22 more are failed: disk.free" in told and told.endswith("→ free space there")
    assert len(why_list(fleet_of("failed", "failed"))) == 2


def counters(status, seen="8 ports over 300 s"):
    """Return the fact on a node's InfiniBand counters over the fabric phase."""
    measured = {"window_s": 300.0, "ports": [], "ethernet": None}
    return fact("link", "ib_counters", status, measured, reasons=[reason("ib_counters.link_downed", status, seen, "<= 0")])


def test_a_port_that_counted_errors_keeps_its_own_node_out(judge):
    files = whole_run()
    put(files, "node2", counters("failed", "mlx5_ib4/1 +1 in 300 s"))
    put(files, "node1", counters("healthy"))
    data, found = judge(files)
    assert {host: verdict["phases"]["fabric"] for host, verdict in found["nodes"].items()} == {
        "node1": "healthy",
        "node2": "failed",
        "node3": None,
    }
    assert why_list(found)[0].startswith("node node2 is failed: ib_counters.link_downed: mlx5_ib4/1 +1")
    chosen = select(candidates(NODES, node_verdicts(data)), [{"name": "tp1", "nodes": 1}])
    assert chosen["excluded"] == {"node2": "fabric: failed"}


def test_counters_alone_are_no_measurement_of_the_fabric(judge):
    files = whole_run()
    for path in [path for path in files if "/node2/collective." in path]:
        del files[path]
    put(files, "node2", counters("skipped"))
    _data, found = judge(files)
    assert found["nodes"]["node2"]["phases"]["fabric"] == "incomplete"
    assert "no fabric fact, though node1 has one" in str(found["nodes"]["node2"]["reasons"])


def test_counters_of_nodes_that_nobody_measured_ask_no_measurement_of_others(judge):
    files = {path: content for path, content in whole_run().items() if "/collective." not in path}
    put(files, "node1", counters("skipped"))
    _data, found = judge(files)
    assert "fabric fact" not in str(found["nodes"]["node2"]["reasons"])


def image_copy(status):
    """Return the fact that roles/vllm_serve's copy of an image leaves: model_sync copied it."""
    return fact("model", "plumbline_image_d0d0d0d0d0d0", status, {"files": 1, "size_bytes": 9}, {"source": "directory", "path": "/images"})


def test_the_copy_of_an_image_is_no_verdict_on_a_node_and_no_model(judge):
    files = whole_run()
    for node in ("node1", "node2"):
        put(files, node, image_copy("failed"))
    data, found = judge(files)
    assert found["nodes"]["node2"]["status"] == "healthy" and found["nodes"]["node2"]["phases"]["model"] == "healthy"
    assert "plumbline_image" not in str(found) and len([entry for entry in data["facts"] if "image" in entry["name"]]) == 2


def test_the_copy_of_an_image_is_not_the_model_that_a_node_owes(judge):
    files = whole_run()
    del files["facts/node2/model.tiny.json"]
    put(files, "node2", image_copy("healthy"))
    assert judge(files)[1]["nodes"]["node2"]["phases"]["model"] == "incomplete"


def test_the_copy_of_an_image_asks_no_model_of_others(judge):
    files = {path: content for path, content in whole_run().items() if "/model." not in path}
    put(files, "node1", image_copy("healthy"))
    _data, found = judge(files)
    assert {verdict["phases"]["model"] for verdict in found["nodes"].values()} == {None}
