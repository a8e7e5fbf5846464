"""A plot inside the page: ids of its own, and the page's colours."""

from __future__ import annotations

import re
from xml.etree import ElementTree

from ansible.module_utils.plumbline.controller.report.plots.draw import draw
from ansible.module_utils.plumbline.controller.report.plots.inline import inline
from report_runs import whole_run


def test_an_inlined_plot_has_its_own_ids_and_no_fixed_colour_or_size(records):
    made = draw(records(whole_run()))
    pages = [inline(plot["svg"], plot["name"]) for plot in made]
    ids = [found for page in pages for found in re.findall(r'\bid="([^"]+)"', page)]
    assert len(ids) == len(set(ids))
    for page in pages:
        wanted = set(re.findall(r'(?:xlink:href="|url\()#([^")]+)', page))
        assert wanted <= set(ids)
        assert not re.search(r'^<svg [^>]*\b(width|height)="', page)
        assert not re.search(r"#[0-9a-f]{6}\b", page)
        ElementTree.fromstring(page)
