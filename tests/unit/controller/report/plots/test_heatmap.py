"""The map of pairs: colours, numbers, marks, and that all of it is in the picture."""

from __future__ import annotations

from dataclasses import replace
from xml.etree import ElementTree

import pytest
from ansible.module_utils.plumbline.controller.report.plots.draw import draw
from ansible.module_utils.plumbline.controller.report.plots.heatmap import heatmap
from report_runs import NODES, put_pairs, whole_run

SLOW3 = {("node1", "node2"): 0.118, ("node1", "node3"): 0.0024, ("node2", "node3"): None}


@pytest.fixture
def pairs(records):
    """Return the pairs and the verdicts on nodes of a whole run with these pairs."""

    def read(nodes, values):
        files = whole_run()
        put_pairs(files, nodes, values)
        found = records(files)
        return found.links, found.judged

    return read


def test_pairs_are_drawn_both_ways_with_numbers_and_the_suspect_marked(pairs, records, texts):
    found, judged = pairs(NODES, SLOW3)
    figure, caption = heatmap("all_reduce", found, judged)
    numbers = [item.get_text() for item in figure.axes[0].texts]
    assert sorted(numbers) == ["0.0024", "0.0024", "0.118", "0.118", "none", "none"]
    ticks = [tick.get_text() for tick in figure.axes[0].get_yticklabels()]
    assert ticks == ["node1", "node2", "node3\nsuspect"] and "Suspect: node3." in caption
    assert "4 MiB" in " ".join(texts(figure)) and "GB/s" in figure.axes[1].get_ylabel()
    made = draw(replace(records(whole_run()), links=found, judged=judged))
    assert made[-1]["name"] == "pairs_all_reduce" and ElementTree.fromstring(made[-1]["svg"]).tag.endswith("svg")


def test_slower_is_darker_and_nothing_measured_has_no_colour(pairs):
    found, judged = pairs(NODES, SLOW3)
    figure, _caption = heatmap("all_reduce", found, judged)
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
    figure, caption = heatmap("all_reduce", *pairs(names, values))
    assert not figure.axes[0].texts and len([item for item in figure.axes[0].patches if item.get_fill()]) == 380
    assert "No node stands out." in caption


def test_pairs_that_left_no_number_at_all_are_no_plot(pairs):
    assert heatmap("all_reduce", *pairs(NODES, dict.fromkeys(SLOW3))) is None


def test_everything_of_a_plot_of_pairs_lies_in_the_picture(pairs):
    for count in (3, 4, 16, 40):
        names = ["vm-%03d" % number for number in range(count)]
        values = {(one, two): 4.0 if "vm-001" in (one, two) else 40.0 for place, one in enumerate(names) for two in names[place + 1 :]}
        figure, _caption = heatmap("all_reduce", *pairs(names, values))
        assert len(figure.axes) == 2
        for axes in figure.axes:
            place = axes.get_position()
            assert 0 < place.x0 < place.x1 < 1 and 0 < place.y0 < place.y1 < 1
        assert "vm-001\nsuspect" in [tick.get_text() for tick in figure.axes[0].get_yticklabels()]


def test_two_suspects_are_framed_in_the_order_of_the_nodes(pairs):
    names = ["vm-%03d" % number for number in range(6)]
    slow = {"vm-001", "vm-004"}
    values = {(one, two): 4.0 if slow & {one, two} else 40.0 for place, one in enumerate(names) for two in names[place + 1 :]}
    figure, caption = heatmap("all_reduce", *pairs(names, values))
    frames = [(patch.get_x(), patch.get_y()) for patch in figure.axes[0].patches if not patch.get_fill()]
    assert frames == [place for index in (1, 4) for corner in ((-0.5, index - 0.5), (index - 0.5, -0.5)) for place in (corner, corner)]
    assert "Suspect: vm-001, vm-004." in caption
