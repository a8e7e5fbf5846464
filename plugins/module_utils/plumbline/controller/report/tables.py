"""Gives every table of the page what a small screen and a screen reader need of it. Standard library only.

On a small screen a row is a card, and each of its cells says what it is: its column's heading, as ``data-label``. A table that is laid out
as cards is no table to a browser any more, so the roles say that it is one. Done here for all tables at once, none can be forgotten.
"""

from __future__ import annotations

import re
from html import unescape

from markupsafe import escape

TABLE = re.compile(r"<table\b([^>]*)>(.*?)</table>", re.S)
HEAD = re.compile(r"<thead>(.*?)</thead>", re.S)
HEADING = re.compile(r"<th\b([^>]*)>(.*?)</th>", re.S)
ROW = re.compile(r"<tr\b.*?</tr>", re.S)
CELL = re.compile(r"<(t[dh])\b([^>]*)>")
TAG = re.compile(r"<[^>]+>")


def labelled(page):
    """Return the page with roles on all tables, a scope on all headings and a label on all cells."""
    return TABLE.sub(_table, page)


def _table(found):
    attributes, inside = found.groups()
    head = HEAD.search(inside)
    if not head:
        return found.group()
    labels = [_plain(text) for _attributes, text in HEADING.findall(head.group(1))]
    body = inside[head.end() :].replace("<tbody>", '<tbody role="rowgroup">')
    made = HEADING.sub(r'<th scope="col" role="columnheader"\1>\2</th>', head.group())
    made = made.replace("<thead>", '<thead role="rowgroup">').replace("<tr>", '<tr role="row">')
    return '<table role="table"%s>%s%s%s</table>' % (
        attributes, inside[: head.start()], made, ROW.sub(lambda row: _row(row.group(), labels), body),
    )  # fmt: skip


def _row(row, labels):
    place = iter(range(len(labels) + 1))

    def cell(found):
        tag, attributes = found.groups()
        column = next(place, len(labels))
        role = "rowheader" if tag == "th" else "cell"
        label = labels[column] if column < len(labels) and "colspan" not in attributes else ""
        return '<%s role="%s"%s%s>' % (tag, role, ' data-label="%s"' % escape(label) if label else "", attributes)

    return CELL.sub(cell, row.replace("<tr", '<tr role="row"', 1))


def _plain(text):
    """Return a heading as text on one line: ``TTFT, ms`` of ``TTFT<small>ms</small>``."""
    return unescape(TAG.sub("", re.sub(r"<small\b[^>]*>", ", ", text))).strip()
