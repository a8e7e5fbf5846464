"""Puts an SVG of matplotlib's into a page. Controller only: needs the colours of the plots."""

from __future__ import annotations

import re

from .style import GRID, INK, MUTED, PALETTE, PAPER

# Colours of the plots -> custom properties of the page, so that a plot follows light and dark.
PAGE_COLOURS = {
    INK: "var(--ink)",
    MUTED: "var(--muted)",
    GRID: "var(--line)",
    PAPER: "var(--card)",
    **{colour: "var(--c%d)" % index for index, colour in enumerate(PALETTE)},
}


def inline(svg, name):
    """Return an SVG (bytes) for use inside a page, as text: no prolog, ids of its own, colours that follow the page."""
    text = svg.decode("utf-8")
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.S)
    text = re.sub(r"<!--.*?-->", "", text, flags=re.S)
    text = re.sub(r'\bid="', 'id="%s-' % name, text)
    text = re.sub(r'(xlink:href="|url\()#', r"\1#%s-" % name, text)
    text = re.sub(r"#[0-9a-fA-F]{6}\b(?=[;\" ])", lambda found: PAGE_COLOURS.get(found.group().lower(), found.group()), text)
    # The page scales it: width and height in points would fix its size.
    return re.sub(r'^<svg ([^>]*?)(?:width|height)="[^"]*"([^>]*?)(?:width|height)="[^"]*"', r"<svg \1\2", text)
