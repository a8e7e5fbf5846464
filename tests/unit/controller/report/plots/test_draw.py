"""Which plots there are, that they are the same every time, and that odd data does not stop them."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

from ansible.module_utils.plumbline.controller.report.plots.draw import draw
from report_runs import PLOTS, benchmark, whole_run


def test_every_plot_is_drawn_as_svg_and_png(records):
    made = draw(records(whole_run()))
    assert [plot["name"] for plot in made] == PLOTS
    for plot in made:
        assert plot["png"].startswith(b"\x89PNG")
        assert ElementTree.fromstring(plot["svg"]).tag.endswith("svg")
        assert plot["caption"] and plot["title"]


def test_the_same_data_draws_the_same_bytes(records):
    first, second = (draw(records(whole_run())) for _ in range(2))
    assert [(plot["svg"], plot["png"]) for plot in first] == [(plot["svg"], plot["png"]) for plot in second]


def test_without_data_there_is_no_plot_but_a_name(records):
    files = {path: content for path, content in whole_run().items() if not path.startswith("facts/")}
    made = draw(records(files))
    assert [plot["svg"] for plot in made] == [None] * 4


def test_odd_records_are_drawn_as_far_as_they_go(records):
    files = whole_run()
    odd = benchmark("tp1")
    odd["measured"]["runs"] = [{"throughput_tok_s": "fast"}, {}, None]
    odd["measured"]["summary"] = {"throughput_tok_s": {"mean": 12.5}, "ttft_ms": None}
    files["facts/node1/benchmark.tp1.json"] = odd
    found = records(files)
    odd_record = dict(found.layouts[0], name="$x^$ <&> " + "y" * 60, usable=True)
    found.collectives[0]["sweep"] = [{"size_bytes": 8, "time_us": None}, {"size_bytes": 8, "busbw_gbps": 0.5}]
    made = draw(replace(found, layouts=[odd_record, *found.layouts[1:]]))
    assert all(plot["svg"] for plot in made)
