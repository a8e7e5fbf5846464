"""One process's words out of a text in which launchers put a tag before what each process printed.

Open MPI (``--tag-output``, also PRRTE's form with a job's name) writes ``[1,0]<stdout>:`` before every piece, also in the middle of
a line; Intel MPI and others ``[0]``; srun ``-l`` ``0: ``; pdsh ``node1: ``. A tag says whose the words after it are, up to the next
tag: so a line that another process wrote in between takes nothing from a row, and gives nothing to it. Stamps before a line
(``mpirun --timestamp-output``, log collectors) belong to nobody.
"""

from __future__ import annotations

import re

TAG = re.compile(r"\[(?:[\w.-]+@)?\d+,\d+\](?:<\w+>)?:?[ \t]?")
STAMP = re.compile(
    r"(?:\[?\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(?:[.,]\d+)?(?:Z|[+-]\d\d:?\d\d)?\]?:?[ \t]"
    r"|(?:Mon|Tue|Wed|Thu|Fri|Sat|Sun) \w{3} [ \d]\d \d\d:\d\d:\d\d \d{4}(?:<\w+>)?:[ \t]?)"
)
# Labels that other words could look like. They count only where the lines of the tests themselves, which start with #, carry them.
LABELS = (
    re.compile(r"\[\d+\][ \t]?"),
    re.compile(r"[ \t]*\d+:[ \t]"),
    re.compile(r"(?![\d#])[\w.-]+:[ \t]"),
    re.compile(r"[\w.-]*[ \t]*\|[ \t]?"),  # docker compose, log viewers
    re.compile(r"\[(?:rank|default)\d+\]:?[ \t]?|\[[\w.-]+/[\w./-]+\][ \t]?"),  # torchrun; kubectl logs --prefix
    re.compile(r"\((?:\w+ )?pid=\d+[^)]*\)[ \t]?"),  # Ray
)
BRACKET = LABELS[0]
# What may stand before a bracket label inside a line: the pieces of a row and nothing else.
ROW_WORDS = re.compile(r"[\w \t.+/-]*$")


def label_of(lines):
    """Return the pattern of the label that most lines of the tests carry, None where they carry none."""
    bare = sum(line.startswith("#") for line in lines)
    best, pattern = 0, None
    for label in LABELS:
        count = sum(bool(match) and _unstamped(line[match.end() :]).startswith("#") for line in lines for match in [label.match(line)])
        if count > best:
            best, pattern = count, label
    return pattern if best > bare else None


def streams(text):
    """Return the text of each process that has a tag, in the order in which they first spoke; of untagged text, all of it."""
    lines = [_unstamped(line) for line in text.splitlines(keepends=True)]
    label = None if any(TAG.match(line) for line in lines) else label_of(lines)
    found = {}
    for line in lines:
        for name, piece in _pieces(line, label):
            found.setdefault(name, []).append(piece)
    return ["".join(pieces) for pieces in found.values()]


def _unstamped(line):
    match = STAMP.match(line)
    while match:
        line = line[match.end() :]
        match = STAMP.match(line)
    return line


def _pieces(line, label):
    """Return ``[(whose, words)]`` of one line."""
    if label is None:
        return _split(line, list(TAG.finditer(line)))
    match = label.match(line)
    if not match:
        return [(None, line)]
    tags = [match]
    if label is BRACKET:
        for inside in BRACKET.finditer(line, match.end()):
            if not ROW_WORDS.match(line[tags[-1].end() : inside.start()]):
                break
            tags.append(inside)
    return _split(line, tags)


def _split(line, tags):
    """Cut a line at its tags. A stamp may stand behind a tag too."""
    ends = [tag.start() for tag in tags[1:]] + [len(line)]
    head = line[: tags[0].start()] if tags else line
    found = [(None, head)] if head else []
    return found + [(tag.group().strip(), _unstamped(line[tag.end() : end])) for tag, end in zip(tags, ends)]  # noqa: B905 -- Python 3.9
