"""Every input in ``serving/``: logs of failed starts, logs of starts, and models' configs; what is right is in ``expected.json``."""

from __future__ import annotations

import importlib
import json
import re
from pathlib import Path

import pytest
from ansible.module_utils.plumbline.serving import cause, log
from case import worst

HERE = Path(__file__).parent / "serving"
EXPECTED = json.loads((HERE / "expected.json").read_text(encoding="utf-8"))


def text_of(name):
    """Return a file as the project decodes it."""
    return (HERE / name).read_bytes().decode("utf-8", errors="replace")


@pytest.mark.parametrize("name", sorted(EXPECTED["cause"]))
def test_cause(name):
    said = cause.root_cause(text_of(name))
    assert re.search(EXPECTED["cause"][name], said), said


@pytest.mark.parametrize("name", sorted(EXPECTED["startup"]))
def test_startup(name):
    measured, context = log.startup(text_of(name))
    wanted = EXPECTED["startup"][name]
    assert {key: measured.get(key) for key in wanted.get("measured", {})} == wanted.get("measured", {})
    assert {key: context.get(key) for key in wanted.get("context", {})} == wanted.get("context", {})
    assert [key for key in wanted.get("without", []) if key in measured or key in context] == []


@pytest.mark.parametrize("name", sorted(EXPECTED.get("configs", {})))
def test_config(name, tmp_path):
    wanted = EXPECTED["configs"][name]
    texts = {"config.json": text_of("configs/" + wanted["config"]), **wanted.get("beside", {})}
    found = importlib.import_module("drivers.config").run(wanted, texts, tmp_path)
    context, said = found.values, "\n".join(item["seen"] for item in found.reasons)
    assert {key: context.get(key) for key in wanted.get("context", {})} == wanted.get("context", {})
    assert [key for key in wanted.get("with", []) if not context.get(key)] == [], context
    assert [key for key in wanted.get("without", []) if key in context] == [], context
    status = worst(found.reasons)
    assert wanted.get("memory", status) == status, said
    assert status not in wanted.get("memory_not", []), said
    assert re.search(wanted.get("says", ""), said), said


def test_every_input_is_expected():
    text = json.dumps(EXPECTED)
    assert [
        path.name for path in HERE.rglob("*") if path.is_file() and path.name != "expected.json" and '"%s"' % path.name not in text
    ] == []
