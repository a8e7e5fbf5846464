"""The text format holds, whatever is in the facts: by its grammar, and by Prometheus' own parser where it is installed."""

from __future__ import annotations

import json
import re

import pytest
from ansible.module_utils.plumbline.controller.report.data import load
from ansible.module_utils.plumbline.controller.report.exports.files import export_paths
from ansible.module_utils.plumbline.controller.report.exports.prometheus import Families, prometheus
from ansible.module_utils.plumbline.controller.report.exports.values import MAPS, values
from ansible.module_utils.plumbline.controller.report.records.collect import collect
from ansible.module_utils.plumbline.controller.report.verdicts import verdicts
from project import ROOT, SCHEMAS
from report_runs import benchmark, fact, health, put, reason, serving_all_reduce, whole_run, with_sweep, write

REAL = sorted(path.parent for path in (ROOT / "docs/reference/h200x4").glob("*/run.json"))
NAME = r"[a-zA-Z_:][a-zA-Z0-9_:]*"
LABEL = r'([a-zA-Z_][a-zA-Z0-9_]*)="((?:[^"\\\n]|\\["\\n])*)"'
SAMPLE = re.compile(r"(%s)(?:\{(%s(?:,%s)*)\})? (?P<number>-?[0-9][0-9.e+-]*)" % (NAME, LABEL, LABEL))


def parse(text):
    """Return ``{name: {labels: number}}`` of a file in the text format; assert its grammar, and that nothing is there twice."""
    assert text.endswith("\n") and not text.endswith("\n\n")
    found, helped, typed, current = {}, set(), set(), None
    for line in text[:-1].split("\n"):
        if line.startswith("# HELP "):
            current = line.split(" ")[2]
            assert current not in helped, "two families of one name"
            helped.add(current)
            assert re.fullmatch(r"# HELP %s (?:[^\\]|\\\\|\\n)+" % NAME, line)
        elif line.startswith("# TYPE "):
            assert line == "# TYPE %s gauge" % current
            typed.add(current)
        else:
            match = SAMPLE.fullmatch(line)
            assert match, line
            assert match[1] == current in helped & typed
            pairs = re.findall(LABEL, match[2] or "")
            assert len({label for label, _value in pairs}) == len(pairs), line
            labels = frozenset((label, unescaped(value)) for label, value in pairs)
            assert labels not in found.setdefault(current, {}), line
            found[current][labels] = float(match["number"])
    agrees_with_prometheus(text, found)
    return found


def unescaped(value):
    return re.sub(r"\\(.)", lambda match: "\n" if match[1] == "n" else match[1], value)


def agrees_with_prometheus(text, found):
    try:
        from prometheus_client.parser import text_string_to_metric_families
    except ImportError:
        return
    theirs = {family.name: {frozenset(item.labels.items()): item.value for item in family.samples} for family in parse_all(text)}
    assert text_string_to_metric_families and theirs == found


def parse_all(text):
    from prometheus_client.parser import text_string_to_metric_families

    families = list(text_string_to_metric_families(text))
    assert {family.type for family in families} == {"gauge"} and all(family.documentation for family in families)
    return families


def written(folder):
    data = load(str(folder))
    return parse(prometheus(data, verdicts(collect(data))).decode())


def sample(metrics, name, **labels):
    """Return the one sample of a metric that has these labels among its own."""
    (number,) = [number for mine, number in metrics[name].items() if set(labels.items()) <= mine]
    return number


@pytest.mark.parametrize("folder", REAL, ids=lambda path: path.name)
def test_real_runs_are_well_formed(folder):
    metrics = written(folder)
    assert len(metrics) > 20
    # Data is in labels: no address, size or path in a name.
    assert [name for name in metrics if re.search(r"\d{3,}|__", name)] == []


def test_numbers_of_a_real_node():
    metrics = written(ROOT / "docs/reference/h200x4/one_node")
    folder = ROOT / "docs/reference/h200x4/one_node/facts/this_machine"
    gpu = json.loads((folder / "health.node.json").read_text())["measured"]["gpus"]["0000:00:06.0"]
    assert sample(metrics, "plumbline_health_gpus_power_w", gpu="0000:00:06.0", node="this_machine", sku="generic") == gpu["power_w"]
    served = json.loads((folder / "benchmark.a_tp4.json").read_text())["measured"]
    tpot = sample(metrics, "plumbline_benchmark_distribution_tpot_ms", layout="a_tp4", stat="p99")
    assert tpot == served["distribution"]["tpot_ms"]["p99"]
    point = json.loads((folder / "collective.all_reduce.within.json").read_text())["measured"]["sweep"][0]
    labels = {"fact": "all_reduce.within", "size_bytes": str(point["size_bytes"])}
    assert sample(metrics, "plumbline_collective_sweep_busbw_gbps", **labels) == point["busbw_gbps"]
    assert sample(metrics, "plumbline_collective_sweep_time_us", stat="median", **labels) == point["time_us"]["median"]


def test_a_verdict_is_one_of_its_statuses(tmp_path):
    files = whole_run()
    put(files, "node2", health("failed", [reason("disk.free", "failed", "0.4 GiB", "at least 5 GiB", "Remove logs.")]))
    metrics = written(write(files, tmp_path))
    verdict = metrics["plumbline_node_verdict"]
    assert sample(metrics, "plumbline_node_verdict", node="node2", status="failed") == 1
    assert sample(metrics, "plumbline_node_verdict", node="node2", status="healthy") == 0
    assert sample(metrics, "plumbline_node_verdict", node="node1", status="healthy") == 1
    assert sum(verdict.values()) == 3 and len(verdict) == 15
    assert sample(metrics, "plumbline_run_verdict", status="failed") == 1 and sum(metrics["plumbline_run_verdict"].values()) == 1
    assert sample(metrics, "plumbline_layout_verdict", layout="tp1", status="healthy") == 1
    assert sample(metrics, "plumbline_node_phase_verdict", node="node2", phase="health", status="failed") == 1
    assert sample(metrics, "plumbline_run_started_timestamp_seconds") == 1795521600
    assert sample(metrics, "plumbline_run_info", run_id="20261124T120000Z", playbook="site.yml") == 1


def test_single_runs_and_what_has_no_unit_are_left_out(tmp_path):
    files = whole_run()
    put(files, "node1", with_sweep(benchmark("tp1")))
    put(files, "node1", serving_all_reduce((2, 1, 16384, 12.5, 12.0, 13.0)))
    metrics = written(write(files, tmp_path))
    assert not [name for name in metrics if name.startswith("plumbline_benchmark_runs")]
    assert {dict(labels)["stat"] for labels in metrics["plumbline_benchmark_summary_ttft_ms"]} & {"n", "cv"} == set()
    assert sample(metrics, "plumbline_benchmark_sweep_queued", layout="tp1", concurrency="16") == 1
    assert sample(metrics, "plumbline_collective_results_time_us", tp="2", message_bytes="16384") == 12.5


def test_odd_texts_stay_in_their_labels(tmp_path):
    odd = 'C:\\dir "quoted"\nnext }'
    files = whole_run()
    files["run.json"]["playbook"] = odd
    files["facts/node1/health.node.json"]["measured"]["disk_free_bytes"] = {odd: 7}
    metrics = written(write(files, tmp_path))
    assert sample(metrics, "plumbline_run_info", playbook=odd) == 1
    assert sample(metrics, "plumbline_health_disk_free_bytes", path=odd) == 7


def test_fact_that_breaks_its_schema_keeps_its_status_and_loses_its_numbers(tmp_path):
    files = whole_run()
    put(files, "node1", fact("model", "odd", measured={"files": "nine", "size_bytes": 3}))
    metrics = written(write(files, tmp_path))
    assert sample(metrics, "plumbline_fact_status", fact="odd", status="incomplete") == 1
    assert not [labels for labels in metrics["plumbline_model_size_bytes"] if ("fact", "odd") in labels]


def test_two_numbers_that_would_be_the_same_sample_stay_two(tmp_path):
    families = Families()
    for path in ("a/b_c", "a_b/c"):
        families.sample("plumbline_x_a_b_c", "help", {"node": "n"}, 1, path)
    assert len(parse("\n".join(families.lines()) + "\n")["plumbline_x_a_b_c"]) == 2


def maps_of(schema, names=()):
    """Yield the names of the properties of a schema whose keys are data."""
    if isinstance(schema, dict):
        if isinstance(schema.get("additionalProperties"), dict) and names and names[-1] not in ("properties", "additionalProperties"):
            yield names[-1]
        for key, inner in schema.items():
            if key != "context":
                yield from maps_of(inner, names if key == "properties" else names + (key,))


def test_every_dictionary_by_data_has_a_label_for_its_keys():
    """Words all the same are metrics with their unit and statistics; the table of paths has no name of its own."""
    words = {"distribution", "spread_us", "by_path"}
    context_only = {"channels", "sent_bytes", "nhc", "environment", "devices", "components"}
    kinds = [path for path in SCHEMAS.glob("*.schema.json") if path.stem not in ("report.schema", "line.schema")]
    found = {name for path in kinds for name in maps_of(json.loads(path.read_text()))}
    assert found - words - context_only <= set(MAPS), found - words - context_only - set(MAPS)
    assert "gpus" in found and "xids_count" in found


def test_keys_below_data_are_words_again():
    (value,) = values({"gpus": {"0000:00:06.0": {"power_w": 77.5}}})
    assert (value.words, value.labels, value.number) == (("gpus", "power_w"), {"gpu": "0000:00:06.0"}, 77.5)


@pytest.mark.parametrize("path", ["plumbline.txt", "facts.json", "/var/lib/node_exporter/plumbline.prom.tmp"])
def test_name_that_its_reader_would_not_take_is_refused(path):
    with pytest.raises(ValueError, match="ends in .prom"):
        export_paths({"jsonl": "", "prometheus": path})
