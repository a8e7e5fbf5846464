"""Every log in ``serving/``, of failed starts and of starts: one test each; what is right of it is in ``expected.json``."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from ansible.module_utils.plumbline.serving import cause, log

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


def test_every_input_is_expected():
    assert [path.name for path in sorted(HERE.rglob("*.log")) if path.name not in json.dumps(EXPECTED)] == []
