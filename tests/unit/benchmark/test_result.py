"""The reader of `vllm bench serve` results, on results of real runs."""

from __future__ import annotations

import json

import pytest
from ansible.module_utils.plumbline.benchmark import result as vllm_bench
from project import CAPTURES


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
    assert vllm_bench.problems(dict(h200, total_output_tokens=2559), 5, 512) == ["2559 output tokens instead of 2560 (5 requests of 512)"]


def test_missing_metrics_are_named(h200):
    del h200["mean_e2el_ms"]
    assert vllm_bench.problems(h200, 5, 512) == ["no mean_e2el_ms in the result"]


def test_first_error_is_the_last_line_of_the_first_traceback():
    assert vllm_bench.first_error({"errors": ["", "Traceback\n  x\nConnectionRefusedError: [Errno 111]\n"]}) == (
        "ConnectionRefusedError: [Errno 111]"
    )
    assert vllm_bench.first_error({}) == ""


def capture(name):
    return json.loads((CAPTURES / ("cpu/vllm-0.32.0.bench_serve.%s.json" % name)).read_text())


def test_goodput_is_what_the_requests_say():
    # vllm bench serve --goodput ttft:60 tpot:12 --max-concurrency 4 on a real server.
    result = capture("goodput.c4")
    assert vllm_bench.problems(result, 8, 64, goodput=True) == []
    run, values = vllm_bench.run(result, 64), vllm_bench.requests(result)
    good = sum(ttft <= 60 and tpot <= 12 for ttft, tpot in zip(values["ttft_ms"], values["tpot_ms"]))
    assert run["goodput_share"] == good / 8 == 0.375
    assert run["request_goodput_per_s"] == pytest.approx(good / run["duration_s"])


def test_without_the_goodput_that_was_asked_for_it_is_no_measurement(cpu):
    assert vllm_bench.problems(cpu, 5, 64, goodput=True) == ["no request_goodput in the result, though an SLO was asked for"]
    assert "request_goodput_per_s" not in vllm_bench.run(cpu, 64)


def test_values_of_requests_give_the_results_own_means(cpu):
    values = vllm_bench.requests(cpu)
    assert {name: len(items) for name, items in values.items()} == {"ttft_ms": 5, "tpot_ms": 5, "itl_ms": 315, "e2e_ms": 5}
    for name, key in (("ttft_ms", "ttft"), ("tpot_ms", "tpot"), ("itl_ms", "itl"), ("e2e_ms", "e2el")):
        assert sum(values[name]) / len(values[name]) == pytest.approx(cpu["mean_%s_ms" % key])


def test_releases_without_latencies_have_them_in_their_gaps(cpu):
    older = {key: value for key, value in cpu.items() if key != "latencies"}
    assert vllm_bench.requests(older)["e2e_ms"] == pytest.approx(vllm_bench.requests(cpu)["e2e_ms"])


def test_a_result_without_details_has_no_values_of_requests(h200):
    assert vllm_bench.requests(h200) == {} and vllm_bench.run(h200, 512)["burst_requests"] is None


def test_answers_in_one_burst_are_counted(cpu):
    # On two busy cores every answer of this run arrived at once: 200 ms to the "first" token, 2 µs between the others.
    result = capture("burst.c8")
    assert result["mean_tpot_ms"] < 0.01
    assert vllm_bench.run(result, 64)["burst_requests"] == 16
    assert vllm_bench.run(cpu, 64)["burst_requests"] == 0


def test_an_answer_too_short_beside_one_too_long_is_no_measurement(cpu):
    odd = dict(cpu, output_lens=[63, 65, 64, 64, 64])
    assert vllm_bench.problems(odd, 5, 64) == ["2 requests did not give 64 output tokens, one gave 63"]
