"""Every case in ``health/``: one test each; a new one is a new file."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

import pytest
from ansible.module_utils.plumbline.health import remedy
from case import Found, check, read

HERE = Path(__file__).parent
CASES = [read(path) for path in sorted((HERE / "health").glob("*.txt"))]


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_case(case, tmp_path):
    driver = importlib.import_module("drivers." + case.kind)
    try:
        found = driver.run(case, tmp_path)
    except Exception as error:  # what a reader may raise is part of what is expected
        found = Found([], {}, error)
    for expectation in case.expect:
        check(found, expectation, remedy.classify)


def test_page_names_cases_that_are_there():
    page = (HERE.parents[1] / "docs" / "false-passes.md").read_text(encoding="utf-8")
    names, missing = {case.name for case in CASES}, []
    for row in re.findall(r"\|([^|]*) \|$", page.partition("## By kind")[2], re.M):
        kind = None
        for word, number in re.findall(r"(?:\b([a-z]+)-)?\b(\d\d)\b", row):
            kind = word or kind
            if kind and not any(name.startswith("%s-%s-" % (kind, number)) for name in names):
                missing.append("%s-%s" % (kind, number))
    assert missing == []


def test_every_driver_has_a_case():
    kinds = {path.stem for path in (HERE / "drivers").glob("*.py")} - {"__init__"}
    assert kinds == {case.kind for case in CASES}
