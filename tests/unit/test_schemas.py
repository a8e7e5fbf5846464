"""Facts against docs/schema: what a module may write, its schema knows.

A key that no schema knows makes a fact of good hardware `incomplete`, as `chosen_gpus` did on four H200s.
"""

from __future__ import annotations

import ast
import json
import pathlib

import pytest

PROJECT = pathlib.Path(__file__).parents[2]
UTILS = PROJECT / "plugins/module_utils/plumbline"
# Of the kinds whose schemas take no key that they do not name.
CODE = [
    *(PROJECT / "library" / name for name in ("node_health.py", "dcgm_diag.py", "gpu_clocks.py")),
    *sorted((UTILS / "health").rglob("*.py")),
    *sorted((UTILS / "clocks").rglob("*.py")),
]
PARTS = ("context", "measured")


def properties(value):
    """Return the names of all properties that a schema describes, and whether it takes any."""
    names = set()
    if isinstance(value, dict):
        names |= set(value.get("properties", {}))
        for inner in value.values():
            names |= properties(inner)
    elif isinstance(value, list):
        for inner in value:
            names |= properties(inner)
    return names


def written(tree):
    """Yield ``(part, key, line)`` for ``x.context["key"] = ...`` and ``x.context.update(key=...)``."""
    for node in ast.walk(tree):
        targets = node.targets if isinstance(node, ast.Assign) else []
        for target in targets:
            if (
                isinstance(target, ast.Subscript)
                and isinstance(target.value, ast.Attribute)
                and target.value.attr in PARTS
                and isinstance(target.slice, ast.Constant)
            ):
                yield target.value.attr, target.slice.value, node.lineno
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "update":
            owner = node.func.value
            if isinstance(owner, ast.Attribute) and owner.attr in PARTS:
                for item in node.keywords:
                    if item.arg:
                        yield owner.attr, item.arg, node.lineno


@pytest.fixture(scope="module")
def known():
    return properties([json.loads(path.read_text()) for path in (PROJECT / "docs/schema").glob("*.json")])


def test_every_key_that_a_module_writes_by_name_is_in_a_schema(known):
    found = [(path, *item) for path in CODE for item in written(ast.parse(path.read_text()))]
    assert len(found) > 3, "the search has gone blind"
    unknown = ["%s:%d %s[%r]" % (path.relative_to(PROJECT), line, part, key) for path, part, key, line in found if key not in known]
    assert not unknown, unknown


def test_a_key_that_no_schema_knows_is_found(known):
    tree = ast.parse('measurement.context["no_such_key_of_ours"] = 1\nmeasurement.context.update(chosen_gpus=[])')
    keys = [key for _part, key, _line in written(tree)]
    assert keys == ["no_such_key_of_ours", "chosen_gpus"]
    assert [key for key in keys if key not in known] == ["no_such_key_of_ours"]
