"""When a benchmark has run often enough."""

from __future__ import annotations

import pytest
from ansible.module_utils.plumbline.benchmark.stop_rule import StopRule, width_percent
from ansible.module_utils.plumbline.core.stats import summary

STEADY, SHAKY = [100.0, 100.5, 99.5, 100.2, 99.8], [100.0, 140.0, 70.0, 120.0, 90.0]


def test_without_an_interval_the_number_of_runs_decides():
    rule = StopRule(3)
    assert [rule.done(SHAKY[:count]) for count in range(5)] == [False, False, False, True, True]
    assert rule.verdict(SHAKY[:3])["reached"] is None and rule.reason(SHAKY[:3]) is None
    assert rule.verdict(SHAKY[:3])["rule"] == "3 runs"


def test_width_is_the_full_interval_over_the_mean():
    found = summary(STEADY)
    assert width_percent(STEADY) == pytest.approx(100 * (found["ci95_high"] - found["ci95_low"]) / found["mean"])
    assert width_percent([100.0]) is None and width_percent([0.0, 0.0]) is None


def test_a_narrow_interval_ends_it_only_after_the_minimum():
    rule = StopRule(4, 10, 2.0)
    assert width_percent(STEADY[:4]) < 2.0
    assert not rule.done(STEADY[:3]) and rule.done(STEADY[:4])
    assert rule.verdict(STEADY[:4])["reached"] is True
    assert rule.reason(STEADY[:4])[1] == "healthy" and rule.reason(STEADY[:4])[4] is None


def test_a_wide_interval_goes_on_to_the_maximum_and_is_said():
    rule = StopRule(2, 5, 2.0)
    assert [rule.done(SHAKY[:count]) for count in (2, 3, 4, 5)] == [False, False, False, True]
    said = rule.verdict(SHAKY)
    assert said["reached"] is False and said["runs"] == 5 and said["width_percent"] > 30
    check, status, seen, threshold, remedy = rule.reason(SHAKY)
    assert (check, status) == ("benchmark.interval", "degraded")
    assert "after 5 run(s)" in seen and "at most 2 % of the mean" in threshold and "max_runs" in remedy


def test_an_interval_without_more_runs_is_judged_all_the_same():
    rule = StopRule(5, 0, 2.0)
    assert rule.done(SHAKY) and rule.reason(SHAKY)[1] == "degraded" and rule.reason(STEADY)[1] == "healthy"


@pytest.mark.parametrize("given, said", [
    ((0,), "at least 1"), ((5, 3), "max_runs is 3"), ((5, 9, -1.0), "must not be negative"), ((1, 1, 2.0), "one run has no interval"),
])  # fmt: skip
def test_what_is_no_rule_is_refused(given, said):
    with pytest.raises(ValueError, match=said):
        StopRule(*given)
