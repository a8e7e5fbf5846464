"""What is accepted fast is what jsonschema accepts: on every real capture, and on each of them broken in many ways."""

from __future__ import annotations

import copy
import json
import random

import pytest
from ansible.module_utils.plumbline.controller.report.accept import accepts
from ansible.module_utils.plumbline.controller.report.data import Schemas
from project import ROOT, SCHEMAS
from report_runs import whole_run

SCHEMA = {name.name: json.loads(name.read_text()) for name in SCHEMAS.glob("*.schema.json")}
ODD = [None, True, False, 0, 1, 1.0, -1, 2.5, "", "x", [], [1], {}, {"a": None}, 1e9]


def facts():
    made = [content for path, content in whole_run().items() if path.startswith("facts/")]
    for path in sorted((ROOT / "tests" / "captures").rglob("*.json")):
        content = json.loads(path.read_text())
        if isinstance(content, dict) and str(content.get("schema", "")).startswith("plumbline."):
            made.append(content)
    return made


def find(uri):
    return next((item for name, item in SCHEMA.items() if uri.rpartition("/")[2] == name or uri == item.get("$id")), None)


def places(value, path=()):
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value[:3]) if isinstance(value, list) else ()
    for key, item in items:
        yield from places(item, (*path, key))


def broken(fact, chance):
    """Return the fact with one value replaced, removed or added."""
    fact = copy.deepcopy(fact)
    path = chance.choice([item for item in places(fact) if item])
    holder = fact
    for key in path[:-1]:
        holder = holder[key]
    how = chance.randrange(3)
    if how == 0 or not isinstance(holder, dict):
        holder[path[-1]] = chance.choice(ODD)
    elif how == 1:
        del holder[path[-1]]
    else:
        holder["not_there_before"] = chance.choice(ODD)
    return fact


def test_nothing_is_accepted_that_jsonschema_refuses_and_nearly_all_that_is_good_is():
    schemas, chance, refused, accepted = Schemas(str(SCHEMAS)), random.Random(14), 0, 0
    for fact in facts():
        kind = fact["schema"].split(".")[1].split("/")[0]
        for candidate in [fact] + [broken(fact, chance) for _ in range(60)]:
            for name in ("fact.schema.json", "%s.schema.json" % kind):
                good = schemas._validator(name).is_valid(candidate)
                fast = accepts(SCHEMA[name], find)(candidate)
                assert good or not fast, (name, fact["name"])
                refused, accepted = refused + (good and not fast), accepted + fast
    assert accepted > 1000 and refused < accepted / 4, (accepted, refused)


@pytest.mark.parametrize("schema", [{"multipleOf": 2}, {"not": {}}, {"oneOf": [{}]}, {"properties": {"a": {"uniqueItems": True}}}])
def test_a_keyword_that_is_not_known_accepts_nothing(schema):
    assert not accepts(schema, find)({"a": [1, 1]})


def test_problems_are_told_as_before():
    fact = next(item for item in facts() if item["schema"] == "plumbline.health/1")
    schemas = Schemas(str(SCHEMAS))
    assert schemas.problems("health", fact) == []
    assert schemas.problems("health", dict(fact, status="good")) == [
        "$.status: 'good' is not one of ['skipped', 'healthy', 'degraded', 'incomplete', 'failed']"
    ]
