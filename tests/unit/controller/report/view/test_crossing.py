"""The headline's sentence on what crossing nodes costs: only where the data carries it."""

from __future__ import annotations

import pytest
from ansible.module_utils.plumbline.controller.report.view.fabric import collective_lines
from ansible.module_utils.plumbline.controller.report.view.headline import _why
from report_runs import collective, put, serving_all_reduce, whole_run


def layout(nodes, tok_s):
    """Return a layout whose throughput is told apart from the other's."""
    rate = {"mean": tok_s, "n": 5, "ci95_low": tok_s - 1, "ci95_high": tok_s + 1}
    return {"ranks": 2, "nodes": nodes, "summary": {"throughput_tok_s": rate}}


BEST = layout(1, 100)
RANKED = [BEST, layout(2, 50)]


def sentence(records, *facts):
    files = whole_run()
    for fact in facts:
        put(files, "node1", fact)
    return _why(records(files), BEST, RANKED)


def test_the_serving_runtimes_own_times_are_told(records):
    fact = serving_all_reduce((2, 1, 16384, 4.4, 4.3, 4.6), (2, 2, 16384, 28.0, 27.0, 30.0))
    assert sentence(records, fact) == (
        "; its ranks never leave the node, where an all-reduce of 16 KiB takes 4.40 µs within a node and 28.0 µs across nodes"
    )


def test_torchs_stand_in_for_them(records):
    assert "an all-reduce of 8 B takes 22.0 µs within a node and 640 µs across nodes" in sentence(records)


@pytest.mark.parametrize(
    "fact",
    [
        # As a lab said it: 1,075 µs within and 341 across, which is noise.
        serving_all_reduce((2, 1, 16384, 1075.0, 320.0, 2400.0), (2, 2, 16384, 341.0, 300.0, 400.0)),
        serving_all_reduce((2, 1, 16384, 300.0, 250.0, 500.0), (2, 2, 16384, 341.0, 300.0, 400.0)),
        # Apart, and yet no cost of crossing.
        serving_all_reduce((2, 1, 16384, 1075.0, 1000.0, 2400.0), (2, 2, 16384, 341.0, 300.0, 400.0)),
    ],
)
def test_noise_is_no_headline_and_no_other_source_is_looked_for(records, fact):
    assert sentence(records, fact) == "; its ranks never leave the node"


def test_torchs_noise_is_none_either(records):
    assert sentence(records, collective("all_reduce", "across", 24.0, 0.11)) == "; its ranks never leave the node"


def test_the_table_has_a_row_for_each_result(records):
    files = whole_run()
    put(files, "node1", serving_all_reduce((2, 1, 16384, 4.4, 4.3, 4.6), (2, 2, 16384, 28.0, 27.0, 30.0)))
    made = records(files)
    mine = [line for line in collective_lines(made.collectives, made.reduces) if "serving runtime" in line["how"]]
    assert [(line["scope"], line["ranks"], line["latency_16k"]) for line in mine] == [
        ("within", "2 on 1 node", "4.40 µs in a graph at 16 KiB"), ("across", "2 on 2 nodes", "28.0 µs in a graph at 16 KiB"),
    ]  # fmt: skip
