"""Plots of collectives: axes, labels, and which sweeps are drawn."""

from __future__ import annotations

import pytest
from ansible.module_utils.plumbline.controller.report.plots.collectives import bandwidth, collective_latency
from ansible.module_utils.plumbline.controller.report.plots.draw import draw
from report_runs import PLOTS, collective, put, whole_run


def test_collectives_have_logarithmic_axes_and_a_label_for_each_scope(records, texts):
    mine = [item for item in records(whole_run()).collectives if item["op"] == "all_reduce"]
    figure, _caption = bandwidth("all_reduce", mine)
    axes = figure.axes[0]
    assert axes.get_xscale() == "log" and axes.get_yscale() == "linear" and "GB/s" in axes.get_ylabel()
    assert sorted(max(line.get_ydata()) for line in axes.lines) == sorted(item["peak_busbw_gbps"] for item in mine)
    labels = " ".join(texts(figure))
    assert "within a node" in labels and "across nodes" in labels
    figure, _caption = collective_latency("all_reduce", mine)
    assert figure.axes[0].get_xscale() == figure.axes[0].get_yscale() == "log"
    figure.canvas.draw()
    ticks = [tick.get_text() for tick in figure.axes[0].get_xticklabels()]
    assert "8 B" in ticks and "8 MiB" in ticks


def test_a_second_tool_has_its_own_lines_and_labels_and_a_control_has_none(records):
    files = whole_run()
    for scope, base in (("within", 11.0), ("across", 28.0)):
        other = collective("all_reduce", scope, base, 2.0)
        other["name"] = "nccl_tests." + other["name"]
        other["context"]["tool"] = "nccl-tests"
        put(files, "node1", other)
    control = collective("all_reduce", "across", 9000.0, 0.01)
    control["name"] += ".forced_socket"
    control["context"].update(control="forced socket", tool="nccl-tests")
    put(files, "node1", control)
    made = [item for item in records(files).collectives if item["op"] == "all_reduce" and not item["control"]]
    figure, _caption = bandwidth("all_reduce", made)
    assert len(figure.axes[0].lines) == 5 and len({line.get_linestyle() for line in figure.axes[0].lines}) == 2
    labels = [item.get_text() for item in figure.axes[0].texts]
    assert len(labels) == 4 and sum("nccl-tests" in label for label in labels) == 2
    drawn = draw(records(files))
    assert [plot["name"] for plot in drawn] == PLOTS


@pytest.mark.parametrize(
    ("check", "status", "sound"),
    [("collective.baseline", "failed", True), ("collective.values", "failed", False), ("collective.sweep", "incomplete", False)],
)
def test_a_sweep_that_only_missed_its_threshold_is_drawn(records, check, status, sound):
    files = whole_run()
    fact = collective("all_reduce", "across", 30.0, 0.1)
    fact["status"] = status
    fact["reasons"] = [{"check": check, "status": status, "seen": "x", "threshold": None, "remedy": None}]
    put(files, "node1", fact)
    (item,) = [item for item in records(files).collectives if item["op"] == "all_reduce" and item["scope"] == "across"]
    assert item["sound"] is sound
