"""Plots of synthetic records: what is drawn, that it is the same every time, and that odd data does not stop it."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import pytest
from ansible.module_utils.plumbline.controller.report.data import load
from ansible.module_utils.plumbline.controller.report.plots import draw as plots
from ansible.module_utils.plumbline.controller.report.records import collectives, judged_nodes, layouts, links
from project import ROOT
from report_runs import NODES, benchmark, collective, put, put_pairs, whole_run, with_sweep, write

SCHEMAS = str(ROOT / "docs" / "schema")
NAMES = [
    "throughput_by_layout",
    "latency_by_layout",
    "bandwidth_all_reduce",
    "latency_all_reduce",
    "bandwidth_sendrecv",
    "latency_sendrecv",
]


@pytest.fixture
def records(tmp_path):
    def read(files):
        data = load(str(write(files, tmp_path)), SCHEMAS)
        return layouts(data), collectives(data)

    return read


def texts(figure):
    found = [item.get_text() for item in figure.texts]
    for axes in figure.axes:
        found += [axes.get_xlabel(), axes.get_ylabel(), *(item.get_text() for item in axes.texts)]
    return found


def test_every_plot_is_drawn_as_svg_and_png(records):
    made = plots.draw(*records(whole_run()))
    assert [plot["name"] for plot in made] == NAMES
    for plot in made:
        assert plot["png"].startswith(b"\x89PNG")
        assert ElementTree.fromstring(plot["svg"]).tag.endswith("svg")
        assert plot["caption"] and plot["title"]


def test_the_same_data_draws_the_same_bytes(records):
    first, second = (plots.draw(*records(whole_run())) for _ in range(2))
    assert [(plot["svg"], plot["png"]) for plot in first] == [(plot["svg"], plot["png"]) for plot in second]


def test_throughput_shows_each_mean_with_its_interval_and_every_run(records):
    found, _fabric = records(whole_run())
    figure, _caption = plots.throughput(found, plots.colours(found))
    axes = figure.axes[0]
    assert [bar.get_width() for bar in axes.patches] == [item["summary"]["throughput_tok_s"]["mean"] for item in found]
    assert "tok/s" in axes.get_xlabel()
    dots = [line for line in axes.lines if len(line.get_xdata()) == 5]
    assert [list(line.get_xdata()) for line in dots] == [[run["throughput_tok_s"] for run in item["runs"]] for item in found]
    assert sum("±" in text for text in texts(figure)) == 4 + 1  # four bars and the line that explains


def test_a_layout_has_one_colour_in_every_plot_and_others_have_others(records):
    found, _fabric = records(whole_run())
    palette = plots.colours(found)
    assert len(set(palette.values())) == 4
    bars = plots.throughput(found, palette)[0].axes[0].patches
    from matplotlib.colors import to_hex

    assert [to_hex(bar.get_facecolor()) for bar in bars] == list(palette.values())
    assert plots.colours(found[:2]) == {name: palette[name] for name in ("tp1", "tp2_within")}


def test_latency_shows_both_times_with_units(records):
    found, _fabric = records(whole_run())
    figure, _caption = plots.latency(found, plots.colours(found))
    assert ["(ms)" in axes.get_xlabel() for axes in figure.axes] == [True, True]
    assert "TTFT" in figure.axes[0].get_xlabel() and "TPOT" in figure.axes[1].get_xlabel()


def test_collectives_have_logarithmic_axes_and_a_label_for_each_scope(records):
    _found, fabric = records(whole_run())
    mine = [item for item in fabric if item["op"] == "all_reduce"]
    figure, _caption = plots.bandwidth("all_reduce", mine)
    axes = figure.axes[0]
    assert axes.get_xscale() == "log" and axes.get_yscale() == "linear" and "GB/s" in axes.get_ylabel()
    assert sorted(max(line.get_ydata()) for line in axes.lines) == sorted(item["peak_busbw_gbps"] for item in mine)
    labels = " ".join(texts(figure))
    assert "within a node" in labels and "across nodes" in labels
    figure, _caption = plots.collective_latency("all_reduce", mine)
    assert figure.axes[0].get_xscale() == figure.axes[0].get_yscale() == "log"
    figure.canvas.draw()
    ticks = [tick.get_text() for tick in figure.axes[0].get_xticklabels()]
    assert "8 B" in ticks and "8 MiB" in ticks


def test_a_failed_benchmark_is_not_drawn(records):
    files = whole_run()
    bad = benchmark("tp1")
    bad["status"] = "failed"
    put(files, "node1", bad)
    found, _fabric = records(files)
    usable = [item for item in found if item["usable"]]
    assert len(plots.throughput(usable, plots.colours(found))[0].axes[0].patches) == 3


def test_without_data_there_is_no_plot_but_a_name(records):
    files = {path: content for path, content in whole_run().items() if not path.startswith("facts/")}
    made = plots.draw(*records(files))
    assert [plot["svg"] for plot in made] == [None] * 4


def test_odd_records_are_drawn_as_far_as_they_go(records):
    files = whole_run()
    odd = benchmark("tp1")
    odd["measured"]["runs"] = [{"throughput_tok_s": "fast"}, {}, None]
    odd["measured"]["summary"] = {"throughput_tok_s": {"mean": 12.5}, "ttft_ms": None}
    files["facts/node1/benchmark.tp1.json"] = odd
    found, fabric = records(files)
    odd_record = dict(found[0], name="$x^$ <&> " + "y" * 60, usable=True)
    fabric[0]["sweep"] = [{"size_bytes": 8, "time_us": None}, {"size_bytes": 8, "busbw_gbps": 0.5}]
    made = plots.draw([odd_record, *found[1:]], fabric)
    assert all(plot["svg"] for plot in made)


def test_an_inlined_plot_has_its_own_ids_and_no_fixed_colour_or_size(records):
    made = plots.draw(*records(whole_run()))
    pages = [plots.inline(plot["svg"], plot["name"]) for plot in made]
    ids = [found for page in pages for found in re.findall(r'\bid="([^"]+)"', page)]
    assert len(ids) == len(set(ids))
    for page in pages:
        wanted = set(re.findall(r'(?:xlink:href="|url\()#([^")]+)', page))
        assert wanted <= set(ids)
        assert not re.search(r'^<svg [^>]*\b(width|height)="', page)
        assert not re.search(r"#[0-9a-f]{6}\b", page)
        ElementTree.fromstring(page)


SLOW3 = {("node1", "node2"): 0.118, ("node1", "node3"): 0.0024, ("node2", "node3"): None}


@pytest.fixture
def pairs(tmp_path):
    def read(nodes, values):
        files = whole_run()
        put_pairs(files, nodes, values)
        data = load(str(write(files, tmp_path)), SCHEMAS)
        return links(data), judged_nodes(data)

    return read


def test_pairs_are_drawn_both_ways_with_numbers_and_the_suspect_marked(pairs, records):
    found, judged = pairs(NODES, SLOW3)
    figure, caption = plots.heatmap("all_reduce", found, judged)
    numbers = [item.get_text() for item in figure.axes[0].texts]
    assert sorted(numbers) == ["0.0024", "0.0024", "0.118", "0.118", "none", "none"]
    ticks = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert ticks == ["node1", "node2", "node3\nsuspect"] and "Suspect: node3." in caption
    assert "4 MiB" in " ".join(texts(figure)) and "GB/s" in figure.axes[1].get_ylabel()
    made = plots.draw(*records(whole_run()), found, judged)
    assert made[-1]["name"] == "pairs_all_reduce" and ElementTree.fromstring(made[-1]["svg"]).tag.endswith("svg")


def test_slower_is_darker_and_nothing_measured_has_no_colour(pairs):
    found, judged = pairs(NODES, SLOW3)
    figure, _caption = plots.heatmap("all_reduce", found, judged)
    cells = {}
    for patch in figure.axes[0].patches:
        if patch.get_fill():
            cells[patch.get_x() + 0.5, patch.get_y() + 0.5] = patch
    light = {place: sum(patch.get_facecolor()[:3]) for place, patch in cells.items()}
    assert light[1, 0] == light[0, 1] > light[2, 0] and len(cells) == 6
    assert cells[2, 1].get_hatch() and cells[2, 1].get_facecolor()[:3] == (1, 1, 1)


def test_many_nodes_have_colours_and_no_numbers(pairs):
    names = ["vm-%03d" % number for number in range(20)]
    values = {(one, two): 40.0 for place, one in enumerate(names) for two in names[place + 1 :]}
    figure, caption = plots.heatmap("all_reduce", *pairs(names, values))
    assert not figure.axes[0].texts and len([item for item in figure.axes[0].patches if item.get_fill()]) == 380
    assert "No node stands out." in caption


def test_pairs_that_left_no_number_at_all_are_no_plot(pairs):
    assert plots.heatmap("all_reduce", *pairs(NODES, dict.fromkeys(SLOW3))) is None


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
    made = [item for item in records(files)[1] if item["op"] == "all_reduce" and not item["control"]]
    figure, _caption = plots.bandwidth("all_reduce", made)
    assert len(figure.axes[0].lines) == 5 and len({line.get_linestyle() for line in figure.axes[0].lines}) == 2
    labels = [item.get_text() for item in figure.axes[0].texts]
    assert len(labels) == 4 and sum("nccl-tests" in label for label in labels) == 2
    drawn = plots.draw(*records(files))
    assert [plot["name"] for plot in drawn] == NAMES


def test_everything_of_a_plot_of_pairs_lies_in_the_picture(pairs):
    for count in (3, 4, 16, 40):
        names = ["vm-%03d" % number for number in range(count)]
        values = {(one, two): 4.0 if "vm-001" in (one, two) else 40.0 for place, one in enumerate(names) for two in names[place + 1 :]}
        figure, _caption = plots.heatmap("all_reduce", *pairs(names, values))
        assert len(figure.axes) == 2
        for axes in figure.axes:
            place = axes.get_position()
            assert 0 < place.x0 < place.x1 < 1 and 0 < place.y0 < place.y1 < 1
        assert "vm-001\nsuspect" in [tick.get_text() for tick in figure.axes[0].get_yticklabels()]


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
    _layouts, found = records(files)
    (item,) = [item for item in found if item["op"] == "all_reduce" and item["scope"] == "across"]
    assert item["sound"] is sound


def test_a_sweep_is_one_labelled_line_a_layout_and_drawn_only_where_there_is_one(records):
    files = whole_run()
    put(files, "node1", with_sweep(benchmark("tp1")))
    put(files, "node1", with_sweep(benchmark("tp2_across"), levels=((1, 30.0), (4, 60.0))))
    made = plots.draw(*records(files))
    assert [plot["name"] for plot in made] == NAMES[:2] + ["sweep_by_layout"] + NAMES[2:]
    found, _fabric = records(files)
    figure, _caption = plots.throughput_latency(found, plots.colours(found))
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
def test_levels_that_miss_the_slo_are_hollow_and_the_legend_tells_the_best_within_it(records, shares, hollow, last):
    files = whole_run()
    one = with_sweep(benchmark("tp1"))
    for level, share in zip(one["measured"]["sweep"], shares):
        level["goodput_share"] = share
    put(files, "node1", one)
    found, _fabric = records(files)
    figure, _caption = plots.throughput_latency(found, plots.colours(found))
    axes = figure.axes[0]
    points = [line for line in axes.lines if len(line.get_xdata()) == 1]
    assert [line.get_markerfacecolor() == plots.PAPER for line in points] == hollow
    (label,) = [item.get_text() for item in axes.get_legend().get_texts()]
    assert label.split("\n")[:2] == ["tp1", "up to 900 tok/s"] and label.endswith(last)
    assert axes.get_legend().get_title().get_text() == "SLO: TTFT ≤ 200 ms\nTPOT ≤ 20 ms"
    assert ("Hollow" in " ".join(texts(figure))) is any(hollow)


def test_levels_before_one_that_failed_are_drawn_and_marked(records):
    files = whole_run()
    bad = with_sweep(benchmark("tp1"), levels=((1, 100.0), (4, 380.0)))
    bad["status"] = "failed"
    bad["measured"]["sweep"].append({"concurrency": 8, "num_prompts": 1, "completed": 1, "failed": 0, "total_throughput_tok_s": None,
                                     "throughput_tok_s": 1.0})  # fmt: skip
    put(files, "node1", bad)
    found, _fabric = records(files)
    figure, _caption = plots.throughput_latency(found, plots.colours(found))
    assert "Dashed: the benchmark did not pass" in " ".join(texts(figure))
    assert [item.get_text() for item in figure.axes[0].texts] == ["1", "4"]
