"""The study as a run folder: its published numbers, facts of the schema, rendered; and what the report says of its layouts."""

from __future__ import annotations

import json

import pytest
from ansible.module_utils.plumbline.controller.report import render
from ansible.module_utils.plumbline.controller.report.data import load
from ansible.module_utils.plumbline.controller.report.findings.prediction import prediction_findings
from ansible.module_utils.plumbline.controller.report.prediction.compare import comparison
from ansible.module_utils.plumbline.controller.report.records.collect import collect
from project import ROOT, SCHEMAS

FOLDER = ROOT / "docs/reference/study"
# As published: tok/s, E2E in s, TTFT in ms.
PUBLISHED = {"a_tp4": (60.8, 8.42, 25), "b_tp8": (99.5, 5.14, 19), "c_tp8_pp2": (67.5, 7.59, 25.8), "d_tp16": (34.3, 14.93, 58.5)}
RENDER = "ansible-playbook playbooks/report.yml -e report_run_dir=docs/reference/study"


@pytest.fixture(scope="module")
def data():
    return load(str(FOLDER), str(SCHEMAS))


def facts(data, kind):
    return {(item["host"], item["name"]): item["fact"] for item in data["facts"] if item["kind"] == kind}


@pytest.fixture
def folder(tmp_path):
    """Return a copy of the study's facts, and how to change one."""

    def changed(name, kind="benchmark", **context):
        for path in FOLDER.rglob("*.json"):
            if path.name != "facts.json":
                target = tmp_path / path.relative_to(FOLDER)
                target.parent.mkdir(parents=True, exist_ok=True)
                content = json.loads(path.read_text())
                if path.name == "%s.%s.json" % (kind, name):
                    content["context"].update(context)
                target.write_text(json.dumps(content))
        return found(load(str(tmp_path), str(SCHEMAS)))

    return changed


def found(data):
    return {item["id"]: item for item in prediction_findings(comparison(collect(data)))}


def test_every_fact_fits_its_schema(data):
    assert data["problems"] == []
    assert [item["file"] for item in data["facts"] if item["problems"]] == []


def test_the_layouts_are_as_published(data):
    benchmarks = {name: fact["measured"] for (_host, name), fact in facts(data, "benchmark").items()}
    summaries = {name: {key: stats["mean"] for key, stats in measured["summary"].items()} for name, measured in benchmarks.items()}
    assert {name: (one["throughput_tok_s"], one["e2e_ms"] / 1e3, one["ttft_ms"]) for name, one in summaries.items()} == PUBLISHED
    for name, one in summaries.items():
        assert one["tpot_ms"] == pytest.approx((one["e2e_ms"] - one["ttft_ms"]) / 511)
        assert one["throughput_tok_s"] == pytest.approx(512e3 / one["e2e_ms"], rel=0.002), name


def test_the_page_and_the_facts_have_the_same_numbers():
    page = (ROOT / "docs/reference/study.md").read_text()
    for throughput, e2e, ttft in PUBLISHED.values():
        assert "| %s tok/s | %.2f s | %s ms |" % (throughput, e2e, ttft) in page


def test_health_and_bandwidth_are_as_published(data):
    health = {host: fact["measured"]["nhc"] for (host, _name), fact in facts(data, "health").items()}
    assert {host: nhc["nccl_allreduce_gbps"] for host, nhc in health.items()} == {
        "vmssE6JHE7": 482.5,
        "vmssAYZGM2": 482.6,
        "vmssCZIUQ2": 482.5,
    }
    assert sorted(list(nhc["ib_write_gbit_s"].values())[0] for nhc in health.values()) == [392.7, 392.7, 392.8]
    (across,) = [fact for (_host, name), fact in facts(data, "collective").items() if name.endswith("across")]
    (point,) = across["measured"]["sweep"]
    assert (point["in_place"]["busbw_gbps"], point["out_of_place"]["busbw_gbps"], point["size_bytes"]) == (483.3, 484.1, 2**33)
    assert point["in_place"]["busbw_gbps"] == pytest.approx(
        point["size_bytes"] / point["in_place"]["time_us"] / 1e3 * 2 * 15 / 16, rel=1e-4
    )


def test_the_starts_are_as_published(data):
    starts = {name: fact["measured"] for (_host, name), fact in facts(data, "startup").items()}
    assert starts["a_tp4"] == {
        "load_weights_s": 31.3,
        "model_gib": 34.01,
        "kv_cache_gib": 32.87,
        "kv_cache_tokens": 430800,
        "compile_s": 40,
    }
    assert starts["b_tp8"] == {"kv_cache_gib": 49.6, "kv_cache_tokens": 1300336, "compile_s": 371, "graph_capture_s": 360}


def test_c_is_the_executors_and_the_report_says_what_to_run(data):
    item = found(data)["layouts.unexplained.c_tp8_pp2"]
    assert item["level"] == "warning" and item["values"]["suspect"] == "executor"
    assert item["values"]["rest_ms"] == pytest.approx(2.67, abs=0.01)
    assert "serve b_tp8 with executor: ray" in item["claim"] and "c_tp8_pp2 with executor: mp" in item["claim"]


def test_d_is_not_infiniband_and_the_report_says_what_to_run(data):
    item = found(data)["layouts.unexplained.d_tp16"]
    assert item["level"] == "warning" and item["values"]["suspect"] == "not InfiniBand"
    assert item["values"]["implied_us"] == pytest.approx(138, abs=0.5)
    assert "That is not InfiniBand" in item["claim"] and "with the 2.67 ms that c_tp8_pp2 lacks, 121 µs are left" in item["claim"]
    assert "serve_benchmark_expected_transport: IB" in item["claim"] and "fabric_baseline_nccl_force_socket: true" in item["claim"]


def test_a_and_b_are_explained(data):
    ids = found(data)
    assert "layouts.unexplained.a_tp4" not in ids and "layouts.unexplained.b_tp8" not in ids
    assert "the range holds" in ids["layouts.prediction.a_tp4"]["claim"]
    assert "faster than the range" in ids["layouts.prediction.b_tp8"]["claim"]


def test_what_nccl_said_carried_d_is_believed(folder):
    wire = {"verdict": "Socket", "evidence": []}
    item = folder("d_tp16", transport=wire)["layouts.unexplained.d_tp16"]
    assert item["values"]["suspect"] == "wire" and "NCCL said that Socket carried it" in item["claim"]
    assert "not InfiniBand" not in item["claim"]
    item = folder("d_tp16", transport={**wire, "verdict": "IB"})["layouts.unexplained.d_tp16"]
    assert item["values"]["suspect"] == "fabric" and "InfiniBand carried it" in item["claim"]


def test_d_over_infiniband_as_it_should_be_is_within_its_range(tmp_path, folder):
    """28 µs each, and the executor's part as in C."""
    folder("d_tp16")
    path = tmp_path / "facts/vmssE6JHE7/benchmark.d_tp16.json"
    content = json.loads(path.read_text())
    content["measured"]["summary"]["tpot_ms"] = {"n": 5, "mean": 11.5, "median": 11.5}
    path.write_text(json.dumps(content))
    ids = found(load(str(tmp_path), str(SCHEMAS)))
    assert "layouts.unexplained.d_tp16" not in ids
    assert "the range holds" in ids["layouts.prediction.d_tp16"]["claim"]


def test_a_slow_layout_of_one_node_is_the_nodes(tmp_path, folder):
    folder("a_tp4")
    path = tmp_path / "facts/vmssE6JHE7/benchmark.a_tp4.json"
    content = json.loads(path.read_text())
    content["measured"]["summary"]["tpot_ms"] = {"n": 5, "mean": 18.5, "median": 18.5}
    path.write_text(json.dumps(content))
    item = found(load(str(tmp_path), str(SCHEMAS)))["layouts.unexplained.a_tp4"]
    assert item["values"]["suspect"] == "node" and "GPU baseline" in item["claim"]


def section(text):
    """Return what the page says of predictions."""
    return text.partition("## Predicted and measured")[2].partition("\n#")[0]


def test_the_committed_report_says_what_the_facts_render():
    files, verdicts = render.build(str(FOLDER), str(SCHEMAS), str(ROOT / "roles/report/templates"))
    assert verdicts["overall"] == "incomplete"  # how long a start took was not published
    # Of the whole page other parts may change with what other kinds of facts add to it.
    rendered, committed = files["report.md"].decode(), (FOLDER / "report.md").read_text()
    warnings = [line for line in rendered.splitlines() if line.startswith("- **warning**")]
    assert "| d\\_tp16 |" in section(rendered)
    assert section(rendered) == section(committed), "render it again: %s" % RENDER
    assert len(warnings) >= 2 and all(line in committed for line in warnings), "render it again: %s" % RENDER
    plots = sorted(path for path in files if path.endswith(".png"))
    assert [path for path in plots if not (FOLDER / path).is_file()] == []
    assert "plots/token_by_layout.png" in plots
    assert b"Predicted and measured" in files["report.html"] and b"138" in files["report.html"]
