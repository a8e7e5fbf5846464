"""A benchmark's options are read once, refused where they cannot be meant, and stay as they were."""

from __future__ import annotations

import dataclasses

import pytest
from ansible.module_utils.plumbline.benchmark import measure
from bench_options import options


def test_options_cannot_be_changed():
    given = options()
    with pytest.raises(dataclasses.FrozenInstanceError):
        given.runs = 9
    assert given.rule.maximum == 5 and given.levels == []


def test_a_layout_gives_its_size_and_its_name():
    given = options(layout={"name": "a", "tp": "8", "pp": 2, "nodes": "2"})
    assert (given.name, given.ranks, given.nodes) == ("a", 16, 2)
    assert (options(layout={}).name, options(layout={}).ranks, options(layout={}).nodes) == ("layout", 1, 1)


def test_files_of_a_step_lie_in_the_work_folder():
    assert options().result_file("bench-01") == "/w/bench-01.json"
    assert "--result-dir /w --result-filename bench-01.json" in options().command


@pytest.mark.parametrize("given, said", [
    ({"prompts": 0}, "prompts must be at least 1"), ({"sweep": [4, 0]}, "sweep must be"), ({"slo": {"latency": 3}}, "'latency'"),
    ({"max_runs": 3}, "max_runs is 3"), ({"max_runs": 10000, "sweep": [1]}, "same prompts"),
])  # fmt: skip
def test_what_cannot_be_meant_is_refused(given, said):
    with pytest.raises(ValueError, match=said):
        options(**given)


def test_what_was_asked_stands_in_the_fact_before_anything_ran():
    layout = {"name": "a", "tp": 8, "pp": 1, "nodes": 1, "executor": "mp", "extra_args": ["--api-key", "abc"], "env": {"HF_TOKEN": "xyz"}}
    given = options(layout=layout, slo={"ttft_ms": 200}, context={"runtime": "host"})
    fact = measure.begin(given).fact()
    assert fact["name"] == "a" and fact["status"] == "incomplete" and fact["measured"]["num_runs"] == 0
    assert fact["measured"]["slo"] == {"ttft_ms": 200.0} and fact["context"]["runtime"] == "host" and fact["context"]["tp"] == 8
    assert "abc" not in str(fact) and "xyz" not in str(fact), "no secret"
