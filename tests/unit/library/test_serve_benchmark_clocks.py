"""The clock window inside the modules that measure: what their facts carry with GPUs (mock-nvidia-smi) and without.

The client is mock-vllm, a script that writes a recorded result file: what is tested is the window around it.
"""

from __future__ import annotations

import json
import os
import sys

import pytest
from ansible.module_utils.plumbline.clocks import window as clocks_window
from ansible.module_utils.plumbline.machine import nvidia
from clocks_mock import ROOT, MockGpus
from jsonschema import Draft202012Validator
from module_run import run_module

RESULT = ROOT / "tests" / "captures" / "cpu" / "vllm-0.32.0.bench_serve.tp1.json"
SCHEMAS = {kind: json.loads((ROOT / "docs/schema" / (kind + ".schema.json")).read_text()) for kind in ("fact", "benchmark", "collective")}

MOCK_VLLM = """#!%s
import json, os, sys, time
here = os.path.dirname(os.path.abspath(__file__))
given = dict(zip(sys.argv[1:], sys.argv[2:]))
mood = os.path.join(here, "mood.json")
def show(text):
    with open(mood + ".new", "w") as stream:
        stream.write(text)
    os.replace(mood + ".new", mood)
show(open(os.path.join(here, "load.json")).read())
time.sleep(0.8)
show("{}")
if os.path.exists(os.path.join(here, "unlocks")):
    os.unlink(os.path.join(here, "lock"))
    os.unlink(os.path.join(here, "unlocks"))
result = os.path.join(given["--result-dir"], given["--result-filename"])
open(result, "w").write(open(%r).read())
"""


@pytest.fixture
def gpus(tmp_path, monkeypatch):
    """Return two mock GPUs, locked by us at 1980 MHz, and a mock client beside them."""
    monkeypatch.setattr(clocks_window, "QUIET_S", 0.1)
    mock = MockGpus(tmp_path)
    (tmp_path / "mock-vllm").write_text(MOCK_VLLM % (sys.executable, str(RESULT)))
    (tmp_path / "mock-vllm").chmod(0o755)
    (tmp_path / "load.json").write_text(json.dumps({"use": 97, "used_mib": 40000, "active": "0x0"}))
    mock.lock_by_us(1980)
    return mock


def exit_of(module, given, capsys):
    """Run a module; return its fact, which fits its schemas."""
    fact = run_module(module, capsys, **given)["fact"]
    kind = fact["schema"].split(".")[1].split("/")[0]
    for name in ("fact", kind):
        Draft202012Validator(SCHEMAS[name]).validate(fact)
    return fact


def benchmark(gpus, capsys, nodes=1, **window):
    """Benchmark with the mock client; return the fact."""
    import serve_benchmark

    given = {
        "program": str(gpus.folder / "mock-vllm"), "layout": {"name": "tp1", "tp": 1, "pp": 1, "nodes": nodes, "executor": "mp"},
        "url": "http://127.0.0.1:1", "model": str(gpus.folder), "served_name": "m", "server_pid": os.getpid(), "server_log": "/dev/null",
        "runs": 2, "prompts": 5, "output_len": 64, "work_dir": str(gpus.folder / "work"),
        "clock_window": gpus.window(**window),
    }  # fmt: skip
    return exit_of(serve_benchmark, given, capsys)


def verdicts(fact):
    """Return {check: status}."""
    return {item["check"]: item["status"] for item in fact["reasons"]}


def test_benchmark_carries_clocks_of_its_measured_runs(gpus, capsys):
    fact = benchmark(gpus, capsys, expected_mhz=1980)
    assert fact["status"] == "healthy", fact["reasons"]
    seen = fact["context"]["clocks"]
    assert seen["expected_mhz"] == 1980 and 1.6 <= seen["window_s"] < 8, "two runs, without the warm-up"
    gpu = seen["gpus"]["0001:00:00.0"]
    assert gpu["sm_mhz"]["median"] == 1980 and gpu["at_target"] and gpu["throttle_us"]["hw_thermal_slowdown"] == 0
    assert gpus.calls() == []


def test_benchmark_shows_a_lock_that_was_lost_meanwhile(gpus, capsys):
    (gpus.folder / "unlocks").write_text("")
    fact = benchmark(gpus, capsys, expected_mhz=1980)  # unlocked at the end of the warm-up
    assert fact["status"] == "failed" and verdicts(fact)["clocks.lock"] == "failed" and verdicts(fact)["benchmark.runs"] == "healthy"
    assert fact["measured"]["num_runs"] == 2, "what was measured is kept"


def test_benchmark_over_two_nodes_names_the_node_that_was_watched(gpus, capsys):
    fact = benchmark(gpus, capsys, nodes=2)
    assert fact["context"]["clocks"]["nodes"] == 2 and fact["context"]["clocks"]["node"] == os.uname().nodename
    assert verdicts(fact)["clocks.other_nodes"] == "skipped"


def test_benchmark_without_a_gpu_says_so(gpus, capsys):
    gpus.tool.unlink()
    if nvidia.is_present(nvidia.presence(str(gpus.tool))):
        pytest.skip("this machine has a GPU")
    fact = benchmark(gpus, capsys)
    assert fact["status"] == "healthy" and fact["context"]["clocks"] == {"status": "skipped", "seen": "no GPU"}


def test_benchmark_that_fails_in_its_warm_up_has_no_clocks(gpus, capsys):
    (gpus.folder / "mock-vllm").write_text("#!/bin/sh\nexit 1\n")
    fact = benchmark(gpus, capsys)
    assert fact["status"] == "failed" and "clocks" not in fact["context"]


def test_collective_carries_clocks(gpus, capsys, monkeypatch):
    import collective_torch

    def run(command, env, folder, count, timeout_s):
        gpus.work()
        return 0, 0.5, ""

    sample = {"size_bytes": 8, "times_us": [5.0, 6.0], "operations": 3, "wrong": 0}
    state = {0: {"stage": "done", "error": None, "samples": [sample], "torch_version": "2"}}
    monkeypatch.setattr(collective_torch.collective_run, "run", run)
    monkeypatch.setattr(collective_torch.collective_run, "states", lambda folder: state)
    given = {
        "op": "all_reduce", "scope": "within", "addresses": ["127.0.0.1"], "nproc_per_node": 2, "sizes": [8], "backend": "nccl",
        "torchrun": sys.executable, "clock_window": gpus.window(), "env": {"NCCL_ALGO": "Ring", "HF_TOKEN": "by mistake"},
    }  # fmt: skip
    fact = exit_of(collective_torch, given, capsys)
    gpu = fact["context"]["clocks"]["gpus"]["0002:00:00.0"]
    assert gpu["sm_mhz"]["median"] == 1980 and fact["context"]["clocks"]["expected_from"] == "record"
    assert verdicts(fact)["clocks.lock"] == "healthy"
    given_to_ranks = fact["context"]["environment"]
    assert given_to_ranks["NCCL_ALGO"] == "Ring" and given_to_ranks["NCCL_SOCKET_IFNAME"] == fact["context"]["interface"]
    assert given_to_ranks["HF_TOKEN"] == "[scrubbed]" and "PATH" not in given_to_ranks, "what the ranks were given, without secrets"
    gpus.lock(None)
    fact = exit_of(collective_torch, given, capsys)
    assert fact["status"] == "failed" and verdicts(fact)["clocks.lock"] == "failed"


def test_a_benchmark_whose_gpus_no_sample_saw_at_work_keeps_its_verdict(gpus, capsys):
    (gpus.folder / "load.json").write_text(json.dumps({"used_mib": 40000}))
    fact = benchmark(gpus, capsys)
    assert fact["status"] == "healthy" and verdicts(fact)["clocks.load"] == "skipped"


@pytest.mark.parametrize(
    ("ended", "stage", "graph_error", "status", "graph"),
    [
        ((0, 0.5, ""), "done", None, "healthy", None),
        (
            (0, 0.5, ""),
            "done",
            "at 8 bytes: RuntimeError: CUDA error: operation not permitted when stream is capturing",
            "healthy",
            "skipped",
        ),
        ((1, 0.5, "terminate called after throwing an instance of 'c10::DistBackendError'"), "graph", None, "degraded", "degraded"),
        ((None, 150.0, ""), "graph", None, "degraded", "degraded"),
        ((None, 150.0, ""), "measuring", None, "failed", None),
    ],
)
def test_a_collective_keeps_its_plain_numbers_whatever_becomes_of_graphs(
    gpus, capsys, monkeypatch, ended, stage, graph_error, status, graph
):
    import collective_torch

    def run(command, env, folder, count, timeout_s):
        gpus.work(1.0)
        return ended

    sample = {"size_bytes": 8, "times_us": [15.0, 16.0], "operations_per_sample": 20, "clock": "cuda_events", "operations": 41, "wrong": 0}
    state = {"stage": stage, "error": None, "graph_error": graph_error, "samples": [sample], "torch_version": "2"}
    monkeypatch.setattr(collective_torch.collective_run, "run", run)
    monkeypatch.setattr(collective_torch.collective_run, "states", lambda folder: {0: state})
    given = {
        "op": "all_reduce", "scope": "within", "addresses": ["127.0.0.1"], "nproc_per_node": 2, "sizes": [8], "backend": "nccl",
        "torchrun": sys.executable, "clock_window": gpus.window(),
    }  # fmt: skip
    fact = exit_of(collective_torch, given, capsys)
    assert (fact["status"], verdicts(fact).get("collective.graph")) == (status, graph), fact["reasons"]
    assert fact["measured"]["latency_8b_us"] == 15.5 and fact["measured"]["method"]["clock"] == "cuda_events"
