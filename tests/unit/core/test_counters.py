"""Counters grow; what is not known to have grown is not called zero."""

from ansible.module_utils.plumbline.core import counters


def test_difference():
    before, after = {"a": 10, "b": None, "c": 10, "d": 1, "e": 4}, {"a": 15, "b": 3, "c": 4, "e": 4}
    assert counters.difference(before, after) == {"a": 5, "b": None, "c": None, "d": None, "e": 0}
    assert counters.difference({}, {"a": 1}) == {}
