"""The reader of `vllm bench serve` results, on results of real runs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from ansible.module_utils.plumbline import vllm_bench

CAPTURES = Path(__file__).parent.parent / "captures"


@pytest.fixture
def h200():
    return json.loads((CAPTURES / "h200/vllm-0.25.0.bench_serve.qwen2.5-7b-c1.json").read_text())


@pytest.fixture
def cpu():
    return json.loads((CAPTURES / "cpu/vllm-0.32.0.bench_serve.tp1.json").read_text())


def test_good_results_have_no_problem(h200, cpu):
    assert vllm_bench.problems(h200, 5, 512) == []
    assert vllm_bench.problems(cpu, 5, 64) == []


def test_numbers_of_a_run(h200):
    run = vllm_bench.run(h200, 512)
    assert run["throughput_tok_s"] == pytest.approx(512 / 2.404654777)
    assert run["decode_tok_s"] == pytest.approx(1000 / 4.678106246)
    assert run["ttft_ms"] == pytest.approx(14.1424858)
    assert run["e2e_p99_ms"] == pytest.approx(2407.00695)
    assert run["total_input_tokens"] == 285


def test_all_requests_failed_is_no_measurement(h200):
    # What the client writes, with exit status 0, when the server is down: see h200/vllm-0.25.0.bench_serve.server-down.log.
    dead = dict(h200, completed=0, failed=5, total_output_tokens=0, mean_tpot_ms=0.0)
    said = " ".join(vllm_bench.problems(dead, 5, 512))
    assert "0 of 5 requests completed" in said
    assert "5 of 5 requests failed" in said
    assert "0 output tokens instead of 2560" in said


def test_short_answers_are_no_measurement(h200):
    assert vllm_bench.problems(dict(h200, total_output_tokens=2559), 5, 512) == [
        "2559 output tokens instead of 2560 (5 requests of 512)"
    ]


def test_missing_metrics_are_named(h200):
    del h200["mean_e2el_ms"]
    assert vllm_bench.problems(h200, 5, 512) == ["no mean_e2el_ms in the result"]


def test_first_error_is_the_last_line_of_the_first_traceback():
    assert vllm_bench.first_error({"errors": ["", "Traceback\n  x\nConnectionRefusedError: [Errno 111]\n"]}) == (
        "ConnectionRefusedError: [Errno 111]"
    )
    assert vllm_bench.first_error({}) == ""
