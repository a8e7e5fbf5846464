"""Statistics of a few runs: what a person needs to judge whether two numbers differ."""

from __future__ import annotations

import math
import statistics

# Two-sided 95 % quantiles of Student's t by degrees of freedom. Source: NIST/SEMATECH e-Handbook of Statistical
# Methods, table 1.3.6.7.2 (column 0.975). Between two rows the smaller number of degrees, the wider interval, is used.
T_975 = {
    1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306, 9: 2.262, 10: 2.228,
    11: 2.201, 12: 2.179, 13: 2.160, 14: 2.145, 15: 2.131, 16: 2.120, 17: 2.110, 18: 2.101, 19: 2.093, 20: 2.086,
    25: 2.060, 30: 2.042, 40: 2.021, 60: 2.000, 100: 1.984,
}  # fmt: skip


def t_975(degrees):
    """Return the two-sided 95 % quantile of Student's t for ``degrees`` >= 1 degrees of freedom."""
    if degrees < 1:
        raise ValueError("Student's t needs at least one degree of freedom, got %r" % degrees)
    return T_975[max(known for known in T_975 if known <= degrees)]


def quantile(values, share):
    """Return the ``share`` (0..1) quantile of ``values``, linearly interpolated, as numpy's default does."""
    ordered = sorted(values)
    if not ordered:
        raise ValueError("no values to take a quantile of")
    if not 0 <= share <= 1:
        raise ValueError("a quantile's share lies in 0..1, got %s" % share)
    place = (len(ordered) - 1) * share
    low = math.floor(place)
    high = min(low + 1, len(ordered) - 1)
    return ordered[low] + (ordered[high] - ordered[low]) * (place - low)


def summary(values):
    """Summarise the runs' ``values``: n, mean, stdev (ddof = 1), cv, median, min, max and the 95 % t-interval.

    With one value the spread is unknown: stdev, cv and the interval are None, never zero.
    """
    values = [float(value) for value in values]
    if not values:
        raise ValueError("no values")
    mean = statistics.fmean(values)
    out = {
        "n": len(values),
        "mean": mean,
        "stdev": None,
        "cv": None,
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
        "ci95_low": None,
        "ci95_high": None,
    }
    if len(values) > 1:
        out["stdev"] = statistics.stdev(values)
        out["cv"] = out["stdev"] / mean if mean else None
        half = t_975(len(values) - 1) * out["stdev"] / math.sqrt(len(values))
        out["ci95_low"], out["ci95_high"] = mean - half, mean + half
    return out


def distribution(values):
    """Describe single measurements: n, mean, stdev (ddof = 1), cv, min, p50, p90, p99 and max, all in the values' unit but cv.

    It has no interval of the mean: requests of one run share a server and a moment, so they are no independent samples.
    """
    values = [float(value) for value in values]
    out = {key: value for key, value in summary(values).items() if key in ("n", "mean", "stdev", "cv", "min")}
    out.update({"p%d" % share: quantile(values, share / 100) for share in (50, 90, 99)})
    out["max"] = max(values)
    return out


# Scale of the mean absolute deviation, for which a modified z-score falls back when the MAD is 0 (more than half the values are equal):
# 1.253314, as IBM SPSS uses it.
MEAN_AD_SCALE = 1.253314


class Spread:
    """Where numbers lie and how far apart: median, median and mean absolute deviation, worked out once for all of them.

    Iglewicz and Hoaglin, "How to Detect and Handle Outliers", 1993; NIST/SEMATECH e-Handbook, section 1.3.5.17.
    """

    def __init__(self, values):
        self.middle = statistics.median(values)
        deviations = [abs(item - self.middle) for item in values]
        self.mad = statistics.median(deviations)
        self._mean = sum(deviations) / len(deviations)

    def score(self, value):
        """Return the modified z-score of ``value``; 0 where all are equal."""
        if self.mad > 0:
            return 0.6745 * (value - self.middle) / self.mad
        return (value - self.middle) / (MEAN_AD_SCALE * self._mean) if self._mean > 0 else 0.0
