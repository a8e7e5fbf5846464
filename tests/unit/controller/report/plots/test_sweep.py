"""Throughput against latency: lines, points, and what the legend says of the SLO."""

from __future__ import annotations

import pytest
from ansible.module_utils.plumbline.controller.report.plots.draw import draw
from ansible.module_utils.plumbline.controller.report.plots.listed import colours
from ansible.module_utils.plumbline.controller.report.plots.style import PAPER
from ansible.module_utils.plumbline.controller.report.plots.sweep import throughput_latency
from report_runs import PLOTS, benchmark, put, whole_run, with_sweep


def test_a_sweep_is_one_labelled_line_a_layout_and_drawn_only_where_there_is_one(records, texts):
    files = whole_run()
    put(files, "node1", with_sweep(benchmark("tp1")))
    put(files, "node1", with_sweep(benchmark("tp2_across"), levels=((1, 30.0), (4, 60.0))))
    made = draw(records(files))
    assert [plot["name"] for plot in made] == PLOTS[:2] + ["sweep_by_layout"] + PLOTS[2:]
    found = records(files).layouts
    figure, _caption = throughput_latency(found, colours(found))
    axes = figure.axes[0]
    lines = [line for line in axes.lines if len(line.get_xdata()) > 1]
    assert [list(line.get_ydata()) for line in lines] == [[100.0, 380.0, 900.0], [30.0, 60.0]]
    assert list(lines[0].get_xdata()) == pytest.approx([90.0, 85.5, 50.625])
    assert [item.get_text() for item in axes.texts] == ["1", "4", "16, a queue", "1", "4"]
    assert axes.get_yscale() == "log", "900 is more than eight times 30"
    said = " ".join(texts(figure))
    assert "tok/s" in axes.get_xlabel() and "Hollow" in said and "Dashed" not in said
    assert [item.get_text().split("\n")[0] for item in axes.get_legend().get_texts()] == ["tp1", "tp2_across"]


@pytest.mark.parametrize("shares, hollow, last", [
    ((1.0, 0.9, 0.004), [False, False, True], "within the SLO: 380 tok/s"), ((0.89, 0.5, 0.0), [True] * 3, "no level within the SLO"),
    ((1.0, 1.0, 1.0), [False] * 3, "within the SLO: 900 tok/s"), ((None,) * 3, [False] * 3, "up to 900 tok/s"),
])  # fmt: skip
def test_levels_that_miss_the_slo_are_hollow_and_the_legend_tells_the_best_within_it(records, shares, hollow, last, texts):
    files = whole_run()
    one = with_sweep(benchmark("tp1"))
    for level, share in zip(one["measured"]["sweep"], shares):
        level["goodput_share"] = share
    put(files, "node1", one)
    found = records(files).layouts
    figure, _caption = throughput_latency(found, colours(found))
    axes = figure.axes[0]
    points = [line for line in axes.lines if len(line.get_xdata()) == 1]
    assert [line.get_markerfacecolor() == PAPER for line in points] == hollow
    (label,) = [item.get_text() for item in axes.get_legend().get_texts()]
    assert label.split("\n")[:2] == ["tp1", "up to 900 tok/s"] and label.endswith(last)
    assert axes.get_legend().get_title().get_text() == "SLO: TTFT ≤ 200 ms\nTPOT ≤ 20 ms"
    assert ("Hollow" in " ".join(texts(figure))) is any(hollow)


def test_levels_before_one_that_failed_are_drawn_and_marked(records, texts):
    files = whole_run()
    bad = with_sweep(benchmark("tp1"), levels=((1, 100.0), (4, 380.0)))
    bad["status"] = "failed"
    bad["measured"]["sweep"].append({"concurrency": 8, "num_prompts": 1, "completed": 1, "failed": 0, "total_throughput_tok_s": None,
                                     "throughput_tok_s": 1.0})  # fmt: skip
    put(files, "node1", bad)
    found = records(files).layouts
    figure, _caption = throughput_latency(found, colours(found))
    assert "Dashed: the benchmark did not pass" in " ".join(texts(figure))
    assert [item.get_text() for item in figure.axes[0].texts] == ["1", "4"]
