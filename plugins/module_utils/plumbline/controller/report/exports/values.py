"""What a fact measured, as single values: the words that name each, and what it belongs to.

A key of a fact is either a word of its own (``ready_s``) or data (a PCI address, a path, a message's size). Words make a name, data
makes a label: ``gpus/0000:00:06.0/power_w`` is ``gpus_power_w`` of the ``gpu`` ``0000:00:06.0``.
"""

from __future__ import annotations

import re

from ..records.reading import num

# A dictionary by whose name its keys are data -> the label that they are.
MAPS = {
    "gpus": "gpu",
    "disk_free_bytes": "path",
    "disk_total_bytes": "path",
    "disk_inodes_free_count": "path",
    "disk_write_ms": "path",
    "throttle_us": "reason",
    "reasons_seen": "reason",
    "kernel_log_findings_count": "finding",
    "xids_count": "xid",
    "ib_ports": "port",
    "errors": "counter",
    "metrics": "metric",
    "tests": "test",
    "sources": "source",
}

# What tells the rows of a list apart, in the order in which it is looked for -> the label that it is.
IDENTITY = {
    "size_bytes": "size_bytes",
    "message_bytes": "message_bytes",
    "tp": "tp",
    "nodes": "nodes",
    "batch": "batch",
    "concurrency": "concurrency",
    "port": "port",
    "name": "device",
}

# Over several values; the word says which of them it is, and has no unit of its own.
STATISTICS = ("n", "mean", "median", "min", "max", "stdev", "cv", "p50", "p90", "p99", "ci95_low", "ci95_high")

WORD = re.compile(r"[a-z][a-z0-9_]*\Z")


class Value:
    """One value: ``path`` (all keys of it), ``words`` (of its name), ``labels`` (a dictionary) and ``number`` (a number or a boolean)."""

    def __init__(self, path, words, labels, number):
        self.path = path
        self.words = words
        self.labels = labels
        self.number = number


def values(measured):
    """Yield a :class:`Value` for every number and boolean in a fact's ``measured``; texts and nulls are none."""
    yield from _walk(measured, (), (), {})


def _walk(item, path, words, labels, keys_are_words=False):
    if isinstance(item, bool) or num(item) is not None:
        yield Value(path, words, labels, item)
    elif isinstance(item, dict):
        as_data = None if keys_are_words else _label_of_keys(item, words)
        yield from _data(item, path, words, labels, as_data) if as_data else _record(item, path, words, labels)
    elif isinstance(item, list):
        yield from _rows(item, path, words, labels)


def _data(item, path, words, labels, label):
    for key, inner in item.items():
        yield from _walk(inner, path + (str(key),), words, {**labels, label: str(key)}, keys_are_words=True)


def _record(item, path, words, labels):
    statistics, unit = sum(key in item for key in STATISTICS) > 1 or set(item) <= set(STATISTICS), _unit_of_statistics(item)
    for key, inner in item.items():
        key = str(key)
        if statistics and key in STATISTICS:
            yield from _walk(inner, path + (key,), words + unit, {**labels, "stat": key})
        else:
            yield from _walk(inner, path + (key,), words + (key,), labels)


def _label_of_keys(item, words):
    """Return the label that a dictionary's keys are, None where they are words."""
    if words and words[-1] in MAPS:
        return MAPS[words[-1]]
    return None if all(WORD.match(str(key)) for key in item) else "key"


def _unit_of_statistics(item):
    """Return the name of the values that statistics stand beside, where they do: it has the unit."""
    return tuple(key for key, inner in item.items() if isinstance(inner, list) and inner and num(inner[0]) is not None)[:1]


def _rows(items, path, words, labels):
    """Rows are told apart by what they are about; those that say nothing of that, and plain numbers, by their place."""
    for index, row in enumerate(items):
        mine = _identity(row) if isinstance(row, dict) else {}
        place = ",".join(mine.values()) or str(index)
        rest = {key: inner for key, inner in row.items() if key not in IDENTITY or IDENTITY[key] not in mine} if mine else row
        yield from _walk(rest, path + (place,), words, {**labels, **(mine or {"index": place})}, keys_are_words=True)


def _identity(row):
    return {label: str(row[key]) for key, label in IDENTITY.items() if isinstance(row.get(key), (int, str))}
