"""One line for each fact, by its schema, with every number that was measured; also those of four real H200s."""

from __future__ import annotations

import json
import subprocess
import sys

import jsonschema
import pytest
from ansible.module_utils.plumbline.controller.report.data import load
from ansible.module_utils.plumbline.controller.report.exports.json_lines import json_lines
from project import ROOT, SCHEMAS
from report_runs import benchmark, fact, health, put, reason, whole_run, with_sweep, write

REAL = sorted(path.parent for path in (ROOT / "docs/reference/h200x4").glob("*/run.json"))
SCHEMA = jsonschema.Draft202012Validator(json.loads((SCHEMAS / "line.schema.json").read_text()))


def lines_of(folder):
    found = [json.loads(line) for line in json_lines(load(str(folder))).decode("ascii").splitlines()]
    for line in found:
        SCHEMA.validate(line)
    return found


def numbers(value):
    """Return all numbers and booleans in a fact's ``measured``, in order."""
    if isinstance(value, (dict, list)):
        return [number for inner in (value.values() if isinstance(value, dict) else value) for number in numbers(inner)]
    return [value] if isinstance(value, (bool, int, float)) else []


@pytest.mark.parametrize("folder", REAL, ids=lambda path: path.name)
def test_every_number_of_a_real_run_is_in_the_line_of_its_fact(folder):
    facts = [json.loads(path.read_text()) for path in sorted(folder.glob("facts/*/*.json"))]
    lines = lines_of(folder)
    assert len(lines) == len(facts) > 3
    named = {(line["kind"], line["name"], line["host"]): line for line in lines}
    assert len(named) == len(lines)
    for path in sorted(folder.glob("facts/*/*.json")):
        kind, _dot, name = path.name.removesuffix(".json").partition(".")
        measured = named[kind, name, path.parent.name]["measured"]
        wanted = numbers(json.loads(path.read_text())["measured"])
        # What tells rows apart (a size, a concurrency) is in the key.
        assert set(map(float, measured.values())) <= set(map(float, wanted))
        in_keys = {part for key in measured for part in key.replace(",", ".").split(".")}
        assert all(number in measured.values() or str(number) in in_keys for number in wanted), path


def test_line_says_what_its_fact_is_of(tmp_path):
    files = whole_run()
    files["facts/node1/health.node.json"]["context"]["sku"] = "Standard_ND96isr_H100_v5"
    put(files, "node1", with_sweep(benchmark("tp1")))
    put(files, "node2", health("failed", [reason("disk.free", "failed", "0.4 GiB", "at least 5 GiB", "Remove logs.")]))
    lines = {(line["host"], line["kind"], line["name"]): line for line in lines_of(write(files, tmp_path))}
    served = lines["node1", "benchmark", "tp1"]
    assert served["layout"] == "tp1" and served["sku"] == "Standard_ND96isr_H100_v5" and served["run_id"] == "20261124T120000Z"
    assert served["measured"]["summary.ttft_ms.mean"] == files["facts/node1/benchmark.tp1.json"]["measured"]["summary"]["ttft_ms"]["mean"]
    assert served["measured"]["sweep.16.total_throughput_tok_s"] == 900.0 and served["measured"]["sweep.16.queued"] is True
    bad = lines["node2", "health", "node"]
    assert (bad["status"], bad["reason"]) == ("failed", "disk.free: 0.4 GiB (expected at least 5 GiB)")
    assert bad["measured"]["disk_free_bytes./var/lib/plumbline"] == 53687091200 and bad["layout"] is None and bad["sku"] is None


def test_fact_that_breaks_its_schema_is_a_line_that_says_so(tmp_path):
    files = whole_run()
    put(files, "node1", fact("model", "odd", measured={"files": "nine", "size_bytes": 3}))
    files["facts/node1/model.torn.json"] = "{"
    lines = {line["name"]: line for line in lines_of(write(files, tmp_path)) if line["kind"] == "model"}
    assert (
        lines["odd"]["status"] == "incomplete" and "fact.schema" in lines["odd"]["reason"] and lines["odd"]["measured"] == {"size_bytes": 3}
    )
    assert lines["torn"]["status"] == "incomplete" and "JSON" in lines["torn"]["reason"] and lines["torn"]["measured"] == {}


def test_script_prints_them_and_says_what_is_no_run(tmp_path):
    script = [sys.executable, str(ROOT / "scripts/facts_jsonl.py")]
    done = subprocess.run([*script, str(REAL[0])], capture_output=True, text=True, check=True, cwd=tmp_path)
    assert done.stdout.encode() == json_lines(load(str(REAL[0])))
    done = subprocess.run([*script, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and "see `ls results`" in done.stderr and done.stdout == ""
