"""Summary statistics against worked examples."""

from __future__ import annotations

import pytest
from ansible.module_utils.plumbline.core import stats


def test_summary_of_five_runs():
    out = stats.summary([60.8, 60.9, 60.7, 60.8, 60.8])
    assert out["n"] == 5
    assert out["mean"] == pytest.approx(60.8)
    assert out["stdev"] == pytest.approx(0.0707107, rel=1e-5)  # ddof = 1
    assert out["ci95_high"] - out["mean"] == pytest.approx(2.776 * 0.0707107 / 5**0.5, rel=1e-5)
    assert out["median"] == 60.8 and out["min"] == 60.7 and out["max"] == 60.9


def test_one_value_has_no_spread():
    out = stats.summary([3])
    assert out["mean"] == 3 and out["stdev"] is None and out["ci95_low"] is None and out["cv"] is None


def test_no_value_is_an_error():
    with pytest.raises(ValueError):
        stats.summary([])


def test_quantile_interpolates_like_numpy():
    assert stats.quantile([4, 1, 3, 2], 0.5) == 2.5
    assert stats.quantile([10, 20], 0.9) == pytest.approx(19)
    assert stats.quantile([7], 0.99) == 7


def test_t_between_rows_takes_the_wider_interval():
    assert stats.t_975(1) == 12.706
    assert stats.t_975(24) == stats.t_975(20)
    assert stats.t_975(10_000) == 1.984
    with pytest.raises(ValueError):
        stats.t_975(0)


def test_a_distribution_has_quantiles_and_no_interval():
    found = stats.distribution(range(101))
    assert (found["n"], found["p50"], found["p90"], found["p99"], found["max"]) == (101, 50, 90, 99, 100)
    assert found["cv"] == pytest.approx(found["stdev"] / 50) and "ci95_low" not in found
    assert stats.distribution([7])["stdev"] is None
