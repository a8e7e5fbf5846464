"""Plots of layouts: what is drawn, in which colour, with which units."""

from __future__ import annotations

from ansible.module_utils.plumbline.controller.report.plots.latency import latency
from ansible.module_utils.plumbline.controller.report.plots.listed import colours
from ansible.module_utils.plumbline.controller.report.plots.throughput import throughput
from matplotlib.colors import to_hex
from report_runs import benchmark, put, whole_run


def test_throughput_shows_each_mean_with_its_interval_and_every_run(records, texts):
    found = records(whole_run()).layouts
    figure, _caption = throughput(found, colours(found))
    axes = figure.axes[0]
    assert [bar.get_width() for bar in axes.patches] == [item["summary"]["throughput_tok_s"]["mean"] for item in found]
    assert "tok/s" in axes.get_xlabel()
    dots = [line for line in axes.lines if len(line.get_xdata()) == 5]
    assert [list(line.get_xdata()) for line in dots] == [[run["throughput_tok_s"] for run in item["runs"]] for item in found]
    assert sum("±" in text for text in texts(figure)) == 4 + 1  # four bars and the line that explains


def test_a_layout_has_one_colour_in_every_plot_and_others_have_others(records):
    found = records(whole_run()).layouts
    palette = colours(found)
    assert len(set(palette.values())) == 4
    bars = throughput(found, palette)[0].axes[0].patches
    assert [to_hex(bar.get_facecolor()) for bar in bars] == list(palette.values())
    assert colours(found[:2]) == {name: palette[name] for name in ("tp1", "tp2_within")}


def test_latency_shows_both_times_with_units(records):
    found = records(whole_run()).layouts
    figure, _caption = latency(found, colours(found))
    assert ["(ms)" in axes.get_xlabel() for axes in figure.axes] == [True, True]
    assert "TTFT" in figure.axes[0].get_xlabel() and "TPOT" in figure.axes[1].get_xlabel()


def test_a_failed_benchmark_is_not_drawn(records):
    files = whole_run()
    bad = benchmark("tp1")
    bad["status"] = "failed"
    put(files, "node1", bad)
    found = records(files).layouts
    usable = [item for item in found if item["usable"]]
    assert len(throughput(usable, colours(found))[0].axes[0].patches) == 3
