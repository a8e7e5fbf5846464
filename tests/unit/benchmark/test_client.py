"""The client's command: what a step asks for, and that no two steps ask for the same prompts."""

from __future__ import annotations

import pytest
from ansible.module_utils.plumbline.benchmark import client as bench_client
from bench_options import options

OPTIONS = options(sweep=[64, 1, 4, 4], sweep_prompts_per_slot=2)


def value(argv, option):
    return argv[argv.index(option) + 1]


def test_request_zero_is_sent_once():
    argv = bench_client.argv(OPTIONS, bench_client.run_step(OPTIONS, 1), "/work/bench-01.json")
    assert value(argv, "--num-warmups") == value(argv, "--ready-check-timeout-sec") == "0"


def test_requests_are_greedy_and_of_fixed_length():
    argv = bench_client.argv(OPTIONS, bench_client.run_step(OPTIONS, 2), "/work/bench-02.json")
    assert value(argv, "--temperature") == value(argv, "--random-range-ratio") == "0" and "--ignore-eos" in argv
    assert (value(argv, "--seed"), value(argv, "--num-prompts"), value(argv, "--max-concurrency")) == ("3", "3", "1")
    assert (value(argv, "--result-dir"), value(argv, "--result-filename")) == ("/work", "bench-02.json")
    assert "--goodput" not in argv


def test_an_slo_is_spelled_as_vllm_spells_it():
    given = options(slo={"ttft_ms": 200, "e2e_ms": "5000", "tpot_ms": 12.5})
    argv = bench_client.argv(given, bench_client.run_step(given, 1), "/w/b.json")
    start = argv.index("--goodput")
    assert argv[start + 1 : start + 4] == ["e2el:5000", "tpot:12.5", "ttft:200"] and argv[start + 4].startswith("--")


@pytest.mark.parametrize("slo, said", [({"itl_ms": 1}, "'itl_ms'"), ({"ttft_ms": "fast"}, "'fast'"), ({"ttft_ms": 0}, "above 0"),
                                       ({"ttft_ms": None}, "None")])  # fmt: skip
def test_what_is_no_slo_is_refused(slo, said):
    with pytest.raises(ValueError, match=said):
        bench_client.checked_slo(slo)


def test_a_sweep_goes_up_each_level_once_after_a_warm_up_at_the_highest():
    steps = bench_client.sweep_steps(OPTIONS)
    assert [(step.concurrency, step.prompts) for step in steps] == [(64, 64), (1, 2), (4, 8), (64, 128)]
    assert steps[0].name == "sweep-warmup"


def test_no_two_steps_share_a_seed():
    steps = [bench_client.run_step(OPTIONS, number) for number in range(30)] + bench_client.sweep_steps(OPTIONS)
    assert bench_client.seeds_clash(steps) == []
    steps.append(bench_client.run_step(OPTIONS, bench_client.SWEEP_SEED))
    assert bench_client.seeds_clash(steps) == [OPTIONS.seed + bench_client.SWEEP_SEED]


@pytest.mark.parametrize("given, calls", [((5, 0, []), 6), ((5, 9, []), 10), ((5, 3, []), 6), ((1, 0, [1, 4, 4]), 2 + 3)])
def test_calls_are_counted_with_their_warm_ups(given, calls):
    assert bench_client.most_calls(*given) == calls


def test_as_many_calls_as_there_are_steps():
    given = options(runs=3, max_runs=7, sweep=[1, 8, 64])
    assert bench_client.most_calls(given.runs, given.max_runs, given.sweep) == len(given.levels) + given.rule.maximum + 1
