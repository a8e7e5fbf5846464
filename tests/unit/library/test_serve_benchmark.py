"""The module with a mock client: when it stops, what it keeps when a run or a level fails, what it would run.

mock-vllm writes a recorded result of as many requests as it is asked for; no number of it reaches a report.
"""

from __future__ import annotations

import json
import os
import sys

import pytest
import serve_benchmark
from ansible.module_utils.plumbline.benchmark import counters
from clocks_mock import ROOT
from jsonschema import Draft202012Validator
from module_run import run_module

RESULT = ROOT / "tests/captures/cpu/vllm-0.32.0.bench_serve.tp1.json"
LOG = ROOT / "tests/captures/cpu/vllm-0.32.0.serve.tp1.log"
SCHEMAS = [json.loads((ROOT / "docs/schema" / (kind + ".schema.json")).read_text()) for kind in ("fact", "benchmark")]
LAYOUT = {"name": "tp1", "tp": 1, "pp": 1, "nodes": 1, "executor": "mp"}
MOCK_VLLM = """#!%s
import json, os, pathlib, sys
here = pathlib.Path(__file__).resolve().parent
given = dict(zip(sys.argv[1:], sys.argv[2:]))
calls = here / "calls"
(here / "key").write_text(str(os.environ.get("OPENAI_API_KEY")))
calls.write_text((calls.read_text() if calls.exists() else "") + " ".join(sys.argv[1:]) + chr(10))
result, count = json.loads(open(%r).read()), int(given["--num-prompts"])
def times(values):
    return (values * count)[:count]
speed = json.loads((here / "speeds").read_text()).get(given["--seed"], 1.0) if (here / "speeds").exists() else 1.0
for key in ("ttfts", "itls", "latencies", "output_lens", "input_lens"):
    result[key] = times(result[key])
result.update(num_prompts=count, completed=count, total_output_tokens=64 * count, total_input_tokens=57 * count)
result["mean_e2el_ms"] /= speed
if "--goodput" in given:
    result["request_goodput"] = count / result["duration"]
if (here / "fails").exists() and (here / "fails").read_text() == given["--seed"]:
    result.update(completed=0, failed=count)
path = os.path.join(given["--result-dir"], given["--result-filename"])
open(path, "w").write(json.dumps(result))
"""


@pytest.fixture
def bench(tmp_path, capsys):
    """Return a function that runs the module with the mock client and returns its fact, which fits its schemas."""
    tool = tmp_path / "mock-vllm"
    tool.write_text(MOCK_VLLM % (sys.executable, str(RESULT)))
    tool.chmod(0o755)

    def run(check=False, **given):
        arguments = {
            "program": str(tool), "layout": LAYOUT, "url": "http://127.0.0.1:1",
            "model": str(tmp_path), "served_name": "m", "server_pid": os.getpid(), "server_log": str(LOG), "runs": 2, "prompts": 3,
            "output_len": 64, "work_dir": str(tmp_path / "work"), "_ansible_check_mode": check, **given,
        }  # fmt: skip
        out = run_module(serve_benchmark, capsys, **arguments)
        for schema in SCHEMAS if "fact" in out else ():
            Draft202012Validator(schema).validate(out["fact"])
        return out.get("fact") or out

    run.folder = tmp_path
    run.calls = lambda: (tmp_path / "calls").read_text().splitlines()
    return run


def status(fact, check):
    return next((item["status"] for item in fact["reasons"] if item["check"] == check), None)


def test_without_a_rule_it_runs_as_often_as_asked(bench):
    fact = bench(runs=3)
    assert fact["status"] == "healthy", fact["reasons"]
    assert fact["measured"]["num_runs"] == 3 and len(bench.calls()) == 4, "and a warm-up"
    assert fact["measured"]["stop"] == {"rule": "3 runs", "width_percent": 0.0, "reached": None, "runs": 3}
    assert "sweep" not in fact["measured"] and "slo" not in fact["measured"]
    assert fact["context"]["max_num_seqs"] == 8 and fact["context"]["prefix_caching"] is False


@pytest.mark.parametrize("preload", [False, True])
@pytest.mark.parametrize("given", [
    {"env": {"VLLM_API_KEY": "keyMadeUp4711"}},
    {"extra_args": ["--api-key", "keyMadeUp4711", "twoMadeUp"]},
    {"layout": dict(LAYOUT, extra_args=["--api-key=keyMadeUp4711"]), "env": {"OPENAI_API_KEY": "of something else"}},
])  # fmt: skip
def test_the_servers_key_reaches_client_and_counters_and_nothing_that_is_kept(bench, monkeypatch, given, preload):
    shown = []
    monkeypatch.setattr(counters, "read", lambda url, key="": shown.append(key) or dict.fromkeys(counters.COUNTERS, 0))
    fact = bench(sweep=[1], preload=preload, **given)
    assert fact["measured"]["num_runs"] == 2 and (bench.folder / "key").read_text() == "keyMadeUp4711" and set(shown) == {"keyMadeUp4711"}
    kept = [path.read_text() for path in (bench.folder / "work").iterdir()]
    assert not any("MadeUp" in text for text in [json.dumps(fact), *bench.calls(), *kept])


def test_a_client_of_a_server_without_a_key_gets_none(bench):
    bench()
    assert (bench.folder / "key").read_text() == "None"


def test_it_goes_on_until_the_interval_is_narrow(bench):
    # Runs have the seeds 2, 3, 4 …: the third is off, and a few more make up for it.
    (bench.folder / "speeds").write_text(json.dumps({"4": 1.05}))
    fact = bench(runs=3, max_runs=20, interval_percent=4)
    assert 3 < fact["measured"]["num_runs"] < 20 and fact["measured"]["stop"]["reached"] is True
    assert fact["measured"]["stop"]["width_percent"] <= 4 and status(fact, "benchmark.interval") == "healthy"


def test_an_interval_that_stays_wide_is_degraded_at_the_maximum(bench):
    (bench.folder / "speeds").write_text(json.dumps({str(seed): 1 + 0.3 * (seed % 2) for seed in range(9)}))
    fact = bench(runs=2, max_runs=4, interval_percent=1)
    assert fact["measured"]["num_runs"] == 4 and fact["measured"]["stop"]["reached"] is False
    assert fact["status"] == "degraded" and status(fact, "benchmark.interval") == "degraded"


def test_requests_of_all_runs_are_pooled(bench):
    found = bench(runs=2)["measured"]["distribution"]
    assert {name: item["n"] for name, item in found.items()} == {"ttft_ms": 6, "tpot_ms": 6, "itl_ms": 6 * 63, "e2e_ms": 6}
    assert found["ttft_ms"]["p50"] <= found["ttft_ms"]["p90"] <= found["ttft_ms"]["p99"] <= found["ttft_ms"]["max"]


def test_an_slo_gives_goodput_in_runs_and_levels(bench):
    fact = bench(slo={"ttft_ms": 100}, sweep=[2])
    assert fact["measured"]["slo"] == {"ttft_ms": 100.0} and all("--goodput ttft:100 " in call for call in bench.calls())
    assert fact["measured"]["summary"]["goodput_share"]["mean"] == 1.0
    assert fact["measured"]["sweep"][0]["request_goodput_per_s"] > 0


def test_a_sweep_is_kept_by_level_and_says_where_it_queues(bench):
    fact = bench(sweep=[16, 1, 4], sweep_prompts_per_slot=2)
    levels = fact["measured"]["sweep"]
    found = [(level["concurrency"], level["num_prompts"], level["queued"]) for level in levels]
    assert found == [(1, 2, False), (4, 8, False), (16, 32, True)]
    assert fact["status"] == "healthy" and status(fact, "benchmark.queue") == "skipped"
    assert fact["measured"]["num_runs"] == 2 and fact["context"]["sweep_clocks"] == fact["context"]["clocks"]
    seeds = [call.split("--seed ")[1].split()[0] for call in bench.calls()]
    assert len(set(seeds)) == len(seeds) == 3 + 4


def test_a_level_that_fails_ends_the_sweep_and_keeps_those_before(bench):
    (bench.folder / "fails").write_text(str(1 + 10000 + 2))
    fact = bench(sweep=[1, 4, 16])
    assert fact["status"] == "failed" and status(fact, "benchmark.sweep") == "failed" and status(fact, "benchmark.runs") == "healthy"
    assert [level["concurrency"] for level in fact["measured"]["sweep"]] == [1]
    said = next(item["seen"] for item in fact["reasons"] if item["check"] == "benchmark.sweep")
    assert "at 4 requests in flight, 1 of 3 levels measured: 0 of 16 requests completed" in said
    assert fact["measured"]["num_runs"] == 2, "what was measured is kept"


def test_a_run_that_fails_leaves_no_sweep_to_do(bench):
    (bench.folder / "fails").write_text("3")
    fact = bench(sweep=[1])
    assert fact["status"] == "failed" and fact["measured"]["num_runs"] == 1 and "sweep" not in fact["measured"]


def test_forked_calls_are_the_same_calls_with_the_same_result(bench):
    alone = bench(sweep=[1, 4])
    calls = bench.calls()
    (bench.folder / "calls").unlink()
    forked = bench(sweep=[1, 4], preload=True)
    assert bench.calls() == calls and len(calls) == 3 + 3
    assert forked["measured"] == alone["measured"] and forked["command"] == alone["command"]
    assert (alone["context"]["client_preloaded"], forked["context"]["client_preloaded"]) == (False, True)


def test_check_mode_runs_nothing_and_says_what_it_would(bench):
    fact = bench(check=True, runs=5, max_runs=9, interval_percent=2, sweep=[4, 1])
    assert fact["status"] == "skipped" and not (bench.folder / "calls").exists() and not (bench.folder / "work").exists()
    assert "would run at least 5 runs" in fact["reasons"][0]["seen"] and "sweep over 1, 4 requests" in fact["reasons"][0]["seen"]


@pytest.mark.parametrize("given, said", [
    ({"sweep": [0]}, "sweep must be"), ({"slo": {"latency": 3}}, "'latency'"), ({"runs": 5, "max_runs": 3}, "max_runs is 3"),
    ({"max_runs": 10000, "sweep": [1]}, "same prompts"), ({"sweep_prompts_per_slot": 0}, "sweep_prompts_per_slot"),
])  # fmt: skip
def test_what_cannot_be_meant_is_refused(bench, given, said):
    out = bench(**given)
    assert out["failed"] and said in out["msg"]
