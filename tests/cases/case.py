"""One case from the field: a file with what a tool or the kernel printed, and what is right about it.

Lines ``%% key: value`` come first: ``source``, ``kind`` (the driver that reads it, a file in ``drivers/``), ``note``, ``param``
(JSON) and ``expect`` (a JSON list, see :func:`check`). Then ``%% part: NAME`` and its payload to the next part or the end.
"""

from __future__ import annotations

import json
import re
from typing import NamedTuple

STATUSES = ("skipped", "healthy", "degraded", "incomplete", "failed")


class Case(NamedTuple):
    """``parts`` by name, as text; ``params`` and ``expect`` as read."""

    name: str
    kind: str
    source: str
    params: dict
    expect: list
    parts: dict


class Found(NamedTuple):
    """What a driver found: reasons as the project makes them, values by name, and the exception that was raised."""

    reasons: list
    values: dict
    raised: Exception | None = None


def read(path):
    """Return the :class:`Case` in a file."""
    head, parts, name = {}, {}, None
    # As bytes: a payload keeps its line ends, and bytes that are no UTF-8 come as the project reads them.
    for line in path.read_bytes().decode("utf-8", errors="replace").split("\n"):
        line += "\n"
        match = re.match(r"%% (\w+): ?(.*)", line)
        if match and match.group(1) == "part":
            name = match.group(2).strip()
            parts[name] = ""
        elif name is not None:
            parts[name] += line
        elif match:
            head[match.group(1)] = match.group(2).strip()
    if name is not None:
        parts[name] = parts[name][:-1]  # what stands behind the last line end is no line
    return Case(path.stem, head["kind"], head["source"], json.loads(head.get("param", "{}")), json.loads(head["expect"]), parts)


def worst(items):
    """Return the worst status of reasons; ``skipped`` when there is none."""
    return max((item["status"] for item in items), key=STATUSES.index, default="skipped")


def _texts(items, key):
    return "\n".join(str(item.get(key) or "") for item in items)


def check(found, expectation, classify):
    """Assert one expectation; ``classify`` turns a reason into (class, code)."""
    what, *rest = expectation
    if what == "raises":
        raised = type(found.raised).__name__ if found.raised else None
        assert raised == rest[0], "raised %s, expected %s" % (raised, rest[0])
        return
    assert found.raised is None, "raised %r" % found.raised
    if what in ("overall", "overall_not"):
        assert (worst(found.reasons) == rest[0]) == (what == "overall"), "overall is %s\n%s" % (worst(found.reasons), _shown(found))
        return
    if what in ("value", "value_not"):
        name, wanted = rest
        assert name in found.values, "no value %s: %s" % (name, sorted(found.values))
        assert (found.values[name] == wanted) == (what == "value"), "%s is %r" % (name, found.values[name])
        return
    mine = [item for item in found.reasons if item["check"] == rest[0]]
    if what == "absent":
        assert not mine, _texts(mine, "seen")
        return
    assert mine or what == "not_status", "no reason %s\n%s" % (rest[0], _shown(found))
    if what in ("status", "not_status"):
        assert (worst(mine) == rest[1]) == (what == "status"), "%s is %s\n%s" % (rest[0], worst(mine), _shown(found))
    elif what == "seen":
        assert rest[1] in _texts(mine, "seen"), _texts(mine, "seen")
    elif what in ("remedy", "not_remedy"):
        assert (rest[1] in _texts(mine, "remedy")) == (what == "remedy"), _texts(mine, "remedy")
    elif what == "class":
        assert any(tuple(classify(item)) == tuple(rest[1:]) for item in mine), [classify(item) for item in mine]
    else:
        raise AssertionError("unknown expectation %r" % what)


def _shown(found):
    return "\n".join("%s %s: %s" % (item["status"], item["check"], item["seen"]) for item in found.reasons)
