"""Values that may be odd are read as nothing, and never as something else."""

from __future__ import annotations

import pytest
from ansible.module_utils.plumbline.controller.report.records.reading import get, num, plain, rows, text, texts, whole

NAN = float("nan")


@pytest.mark.parametrize("value, number, integer", [
    (3, 3, 3), (2.0, 2.0, 2), (2.5, 2.5, None), (0, 0, 0), (True, None, None), ("3", None, None), (None, None, None), (NAN, None, None),
    (float("inf"), None, None), ([1], None, None),
])  # fmt: skip
def test_numbers(value, number, integer):
    assert num(value) == number and whole(value) == integer
    assert integer is None or isinstance(whole(value), int)


def test_paths_and_containers():
    value = {"a": {"b": [1, {"c": 2}, None]}, "d": "x"}
    assert get(value, "a", "b") == [1, {"c": 2}, None] and get(value, "a", "x") is None and get(value, "d", "b") is None
    assert rows(value["a"]["b"]) == [{"c": 2}] and rows("x") == rows(None) == rows({"a": 1}) == []
    assert texts(["x", "", 3, "y"]) == ["x", "y"] and texts("x") == ["x"] and texts(3) == texts("") == []
    assert plain(value["a"]) is value["a"] and plain([1]) == {} and text("") == "" and text(3) is None
