"""Changes of a text at places that a parser has found, so that everything else stays as it was written."""

from __future__ import annotations


class Unsafe(Exception):
    """A text would mean something else after its change, or has what no rule is there for. The message says which and where."""


def apply(text, edits):
    """Return ``text`` with ``edits``, ``(start, end, new)`` in characters, none of which may overlap."""
    at = len(text)
    for start, end, new in sorted(edits, reverse=True):
        if end > at:
            raise Unsafe("two changes at character %d" % start)
        text, at = text[:start] + new + text[end:], start
    return text


def offsets(text):
    """Return the offset of each line's first character."""
    found = [0]
    for line in text.splitlines(keepends=True):
        found.append(found[-1] + len(line))
    return found
