"""When a difference counts: on real samples of an H200 and of the lab, equal runs do not differ and 5 % less does."""

from __future__ import annotations

import json
import math
import random

import pytest
from ansible.module_utils.plumbline.controller.report.compare import judge as judging
from ansible.module_utils.plumbline.controller.report.compare.judge import DIFFERS, NONE, UNKNOWN, WITHIN, judge, sample, successive
from project import CAPTURES, H200

NO_HISTORY = (None, 0)
METRICS = ("throughput_tok_s", "ttft_ms", "tpot_ms")
LAYOUTS = ("tp1", "tp2", "pp2_across", "tp2_across")
LAB = sorted((CAPTURES / "lab_runs").glob("2026*"))


def values(path, metric):
    return [run[metric] for run in json.loads(path.read_text())["measured"]["runs"]]


def h200(name, metric, factor=1.0):
    return sample([value * factor for value in values(H200 / ("plumbline.benchmark.%s.json" % name), metric)])


@pytest.mark.parametrize("metric", METRICS)
def test_two_real_starts_of_one_server_on_an_h200_do_not_differ_though_their_samples_are_apart(metric):
    found = judge(h200("qwen7b.again", metric), h200("qwen7b", metric), metric, NO_HISTORY, 3)
    assert found["says"] in (NONE, WITHIN) and found["low"] < 0 < found["high"]
    if metric != "ttft_ms":
        assert found["says"] == WITHIN, "the samples of the two starts do not touch: that is said, and not called a difference"


@pytest.mark.parametrize("name", ["qwen7b", "qwen32b", "qwen7b.again"])
@pytest.mark.parametrize("metric, factor", [("throughput_tok_s", 0.95), ("tpot_ms", 1 / 0.95)])
def test_five_per_cent_are_found_on_an_h200_with_one_earlier_run(name, metric, factor):
    other = "qwen7b" if name == "qwen7b.again" else name
    found = judge(h200(name, metric, factor), h200(other, metric), metric, NO_HISTORY, 12)
    assert found["says"] == DIFFERS and (found["change"] < -0.04) is (factor < 1)
    assert found["seen_from"] < 0.03


def test_two_real_runs_of_the_lab_do_not_differ():
    for layout in LAYOUTS:
        for metric in METRICS:
            old, new = (sample(values(run / "facts" / "lab1" / ("benchmark.%s.json" % layout), metric)) for run in LAB)
            assert judge(new, old, metric, NO_HISTORY, 12)["says"] == NONE, (layout, metric)


def alarms_in(runs):
    """Return how many differences are called among runs, each compared with the one before it: ``runs`` are {(layout, metric): Sample}."""
    return sum(
        judge(run[key], runs[place - 1][key], key[1], successive([one[key].mean for one in runs[:place]]), len(run))["says"] == DIFFERS
        for place, run in enumerate(runs)
        if place
        for key in run
    )


def equal_runs():
    """Return ``{(layout, metric): Sample}`` of each of twenty equal runs of the lab, one after another."""
    runs = json.loads((CAPTURES / "lab_runs" / "equal.json").read_text())
    return [{("tp1", metric): sample([one[metric] for one in run["runs"]]) for metric in METRICS} for run in runs]


def test_twenty_real_equal_runs_of_the_lab_give_no_false_alarm_in_any_order():
    runs = equal_runs()
    assert len(runs) == 20 and alarms_in(runs) == 0
    pairs = [(new, old) for place, new in enumerate(runs) for old in runs[:place]]
    says = [judge(new[key], old[key], key[1], NO_HISTORY, len(new))["says"] for new, old in pairs for key in new]
    assert len(says) == 570 and says.count(DIFFERS) == 0


def test_what_the_lab_can_show_is_said_and_what_is_larger_is_found():
    """One short request at a time on two cores: 5 % less cannot be told from chance there, and nobody is told that it could."""
    runs = equal_runs()
    key, history = ("tp1", "throughput_tok_s"), successive([run["tp1", "throughput_tok_s"].mean for run in runs[:-1]])
    known = judge(runs[-1][key], runs[-2][key], key[1], history, 3)
    assert known["says"] == NONE and 0.3 < known["seen_from"] < 1
    last = json.loads((CAPTURES / "lab_runs" / "equal.json").read_text())[-1]["runs"]
    for factor, says in ((0.95, NONE), (0.1, DIFFERS)):
        less = sample([one["throughput_tok_s"] * factor for one in last])
        assert judge(less, runs[-2][key], key[1], history, 3)["says"] == says


@pytest.mark.parametrize("seed", range(8))
def test_twenty_equal_runs_of_the_lab_give_at_most_one_false_alarm(seed):
    """All four layouts. Each run is one of the lab's two whole ones, its samples drawn again: the noise is the lab's own."""
    chance = random.Random(seed)
    runs = []
    for _run in range(20):
        real = chance.choice(LAB)
        drawn = {}
        for layout in LAYOUTS:
            known = json.loads((real / "facts" / "lab1" / ("benchmark.%s.json" % layout)).read_text())["measured"]["runs"]
            again = [chance.choice(known) for _sample in known]
            drawn.update({(layout, metric): sample([run[metric] for run in again]) for metric in METRICS})
        runs.append(drawn)
    assert alarms_in(runs) <= 1


@pytest.mark.parametrize("within, between", [(0.01, 0.0), (0.01, 0.005), (0.05, 0.05), (0.0005, 0.0044)])
def test_alarms_are_rare_whatever_the_noise_and_five_per_cent_are_found_where_it_is_small(within, between):
    """Synthetic, so that the truth is known: noise within runs and between them."""
    chance, alarmed, found, rounds = random.Random(7), 0, 0, 12
    for _round in range(rounds):

        def drawn(factor=1.0):
            middle = factor * math.exp(chance.gauss(0, between))
            return sample([middle * math.exp(chance.gauss(0, within)) for _ in range(5)])

        runs = [{(layout, "throughput_tok_s"): drawn() for layout in LAYOUTS} for _ in range(20)]
        alarmed += alarms_in(runs) > 1
        means = [run["tp1", "throughput_tok_s"].mean for run in runs]
        slower = judge(drawn(0.95), runs[-1]["tp1", "throughput_tok_s"], "throughput_tok_s", successive(means), 12)
        found += slower["says"] == DIFFERS
    assert alarmed == 0
    assert found >= rounds - 2 or within == 0.05


def test_one_value_and_no_history_is_not_judged_and_enough_earlier_runs_judge_it():
    one, other = sample([100.0]), sample([90.0])
    assert judge(one, other, "peak_busbw_gbps", NO_HISTORY, 1)["says"] == UNKNOWN
    history = [math.log(value) for value in (90.1, 89.9, 90.0, 90.2, 89.8, 90.0)]
    assert judge(one, other, "peak_busbw_gbps", successive(history), 1)["says"] == DIFFERS
    assert judge(sample([90.1]), other, "peak_busbw_gbps", successive(history), 1)["says"] == NONE


def test_a_change_in_the_past_that_stayed_does_not_hide_a_new_one():
    means = [math.log(value) for value in [100.0, 100.1, 99.9] * 4 + [150.0, 150.1, 149.9] * 4]
    spread, _count = successive(means)
    assert math.sqrt(spread) < 0.1, "the spread around one mean is 0.2"


def test_nothing_is_a_sample_of_what_is_not_positive():
    assert sample([]) is None and sample([1.0, 0.0]) is None
    assert sample([2.0]).deviation is None and judging.sample([2.0, 2.0]).deviation == 0
