"""What plain code accepts is what jsonschema accepts: on every real capture, and on each of them broken in many ways."""

from __future__ import annotations

import copy
import json
import random
import sys
from types import SimpleNamespace

import jsonschema
import pytest
from ansible.module_utils.plumbline.controller import lacking
from ansible.module_utils.plumbline.controller.report import data
from ansible.module_utils.plumbline.controller.report.accept import _Compiler, accepts
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


def test_what_jsonschema_accepts_is_accepted_and_nothing_else():
    schemas, chance, refused, accepted = Schemas(str(SCHEMAS)), random.Random(14), 0, 0
    plain = {name: accepts(schema, find) for name, schema in SCHEMA.items()}
    for fact in facts():
        kind = fact["schema"].split(".")[1].split("/")[0]
        for candidate in [fact] + [broken(fact, chance) for _ in range(60)]:
            for name in ("fact.schema.json", "%s.schema.json" % kind):
                good = schemas._validator(name).is_valid(candidate)
                assert plain[name](candidate) == good, (name, fact["name"])
                refused, accepted = refused + (not good), accepted + good
    assert accepted > 1000 and refused > 1000, (accepted, refused)


@pytest.mark.parametrize("name", sorted(SCHEMA))
def test_every_keyword_of_every_schema_is_known(name):
    """A schema with one that is not known accepts nothing, so that each of its facts would be called broken."""
    _Compiler(find).compiled(SCHEMA[name], SCHEMA[name])


@pytest.mark.parametrize(
    "schema",
    [
        {"enum": [1, "1", None, [1, True], {"a": 1}]},
        {"const": {"a": [True, 2]}},
        {"oneOf": [{"type": "integer"}, {"minimum": 2}]},
        {"if": {"type": "object", "minProperties": 1}, "then": {"required": ["a"]}, "else": {"type": ["number", "array"]}},
        {"if": {"oneOf": [{"required": ["a"]}, {"required": ["b"]}]}, "then": {"maxItems": 1}, "else": False},
    ],
)
def test_values_that_are_equal_or_nearly_so_are_judged_as_by_jsonschema(schema):
    validator, plain = jsonschema.Draft202012Validator(schema), accepts(schema, find)
    values = [*ODD, "1", [1, True], [1.0, True], [1, 1], [True, True], {"a": 1}, {"a": 1.0}, {"a": True}, {"a": [True, 2]}, {"a": [1, 2]}]
    assert [plain(value) for value in values] == [validator.is_valid(value) for value in values]


@pytest.mark.parametrize("schema", [{"multipleOf": 2}, {"not": {}}, {"contains": {}}, {"properties": {"a": {"uniqueItems": True}}}])
def test_a_keyword_that_is_not_known_accepts_nothing(schema):
    assert not accepts(schema, find)({"a": [1, 1]})


def test_problems_are_told_as_before():
    fact = next(item for item in facts() if item["schema"] == "plumbline.health/1")
    schemas = Schemas(str(SCHEMAS))
    assert schemas.problems("health", fact) == []
    assert schemas.problems("health", dict(fact, status="good")) == [
        "$.status: 'good' is not one of ['skipped', 'healthy', 'degraded', 'incomplete', 'failed']"
    ]


def test_without_jsonschema_a_fact_is_judged_as_well_and_the_problem_says_how_to_see_more(monkeypatch):
    fact = next(item for item in facts() if item["schema"] == "plumbline.health/1")
    monkeypatch.setattr(data, "lacks", lambda name: name == "jsonschema")
    schemas = Schemas(str(SCHEMAS))
    assert schemas.problems("health", fact) == []
    (said,) = schemas.problems("health", dict(fact, status="good"))
    assert said == "does not fit docs/schema/fact.schema.json; to see where: `make setup` installs jsonschema"
    assert schemas.problems("health", [])[-1] == "$.schema: None in a file named health.*"


def old(schema):
    raise TypeError("no registry")  # made by attrs, which names the argument that it does not know


@pytest.mark.parametrize("how", ["no referencing", "no registry", "no such draft"])
def test_with_an_old_jsonschema_a_fact_is_judged_as_well(monkeypatch, how):
    """4.10 of Debian 12 and Ubuntu 24.04 has no ``referencing``; beside one it takes no ``registry``. 3.2 has no Draft202012Validator."""
    if how == "no referencing":
        monkeypatch.setitem(sys.modules, "referencing", None)
    elif how == "no registry":
        monkeypatch.setattr(jsonschema, "Draft202012Validator", old)
    else:
        monkeypatch.setitem(sys.modules, "jsonschema", SimpleNamespace(__spec__=jsonschema.__spec__))
    fact = next(item for item in facts() if item["schema"] == "plumbline.health/1")
    schemas = Schemas(str(SCHEMAS))
    assert schemas.problems("health", fact) == []
    (said,) = schemas.problems("health", dict(fact, status="good"))
    assert said == "does not fit docs/schema/fact.schema.json; to see where: `make setup` installs jsonschema"


def test_a_check_that_breaks_is_a_problem_of_the_fact(monkeypatch):
    fact = next(item for item in facts() if item["schema"] == "plumbline.health/1")
    schemas = Schemas(str(SCHEMAS))
    monkeypatch.setattr(schemas, "_accepts", lambda _name, _fact: [][1])
    assert schemas.problems("health", fact) == ["cannot be checked against docs/schema: IndexError: list index out of range"]


def test_the_report_says_that_jsonschema_is_missing_or_too_old(monkeypatch):
    assert lacking.lines() == []
    monkeypatch.setitem(sys.modules, "referencing", None)
    ((what, said),) = lacking.lines()
    assert what == "schemas" and said.endswith(
        "jsonschema is too old (4.18 and later bring referencing): `make setup` installs a newer one"
    )
    monkeypatch.setitem(sys.modules, "jsonschema", None)
    ((what, said),) = lacking.lines()
    assert what == "schemas" and said.endswith("jsonschema is missing: `make setup` installs it")
