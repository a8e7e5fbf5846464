"""Every case in ``health/``: one test each; a new one is a new file."""

from __future__ import annotations

import importlib
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
