"""When a number of two runs differs: by the interval of their ratio, never by a fixed percentage. Standard library only.

Logarithms are compared, so that a change is a ratio and a long tail weighs less. What makes two equal runs differ has two parts:

- **within a run**, the spread of its samples. They share a server, its memory and a moment, so that five of them are not five
  independent looks at the machine: in five real starts of the same layout in the lab the runs' means were as far from each other as
  single samples are, and two starts of one server on an H200 differed by 0.62 % where their samples had a spread of 0.06 %.
- **between runs**, which only earlier equal runs show.

So with one earlier run the variance of a run's mean is taken to be that of a single sample, plus what two starts on an H200 differed
by (:data:`BETWEEN_STARTS`). That counts as :data:`PRIOR_WEIGHT` observations; each earlier equal run adds one, by the successive
differences of their means (moving range: NIST/SEMATECH e-Handbook of Statistical Methods, 6.3.2.2; a change in the past that stayed
spoils one difference only). The weighted variance is that of G. K. Smyth (2004, doi:10.2202/1544-6115.1027), its degrees of freedom
those of F. E. Satterthwaite (1946). The interval holds for all comparisons of a run together with :data:`CONFIDENCE` (Bonferroni).
"""

from __future__ import annotations

import math
from typing import NamedTuple

from .student import bound

# All intervals of one comparison of runs cover together with this probability: of fifty equal runs one has a false alarm.
CONFIDENCE = 0.98
# How many earlier runs the guess from within the runs weighs as much as.
PRIOR_WEIGHT = 3
# Standard deviation of a run's mean between two starts, relative: qwen7b and qwen7b.again of tests/captures/h200, by metric
# (|ln(a / b)| / √2 of throughput 211.39 and 210.07 tok/s, TPOT 4.713 and 4.740 ms, TTFT 13.9 and 15.1 ms).
BETWEEN_STARTS = {"throughput_tok_s": 0.0044, "tpot_ms": 0.0041, "ttft_ms": 0.0564}
# Without samples within the runs the earlier runs alone say how far equal runs differ: so many differences of them at least.
LEAST_DIFFERENCES = 3

DIFFERS, WITHIN, NONE, UNKNOWN = "differs", "within the runs only", "no difference shown", "not judged"


class Sample(NamedTuple):
    """What one run measured: how many values, the mean of their logarithms, and its standard deviation (None for a single value)."""

    count: int
    mean: float
    deviation: float | None


def sample(values):
    """Return the :class:`Sample` of positive values; None where there is none, or one that is not positive."""
    if not values or min(values) <= 0:
        return None
    logs = [math.log(value) for value in values]
    mean = math.fsum(logs) / len(logs)
    if len(logs) == 1:
        return Sample(1, mean, None)
    return Sample(len(logs), mean, math.sqrt(math.fsum((item - mean) ** 2 for item in logs) / (len(logs) - 1)))


def successive(means):
    """Return ``(variance, differences)`` of runs by their successive differences: Σ Δ² / 2 / count; (None, 0) below two, oldest first."""
    steps = [after - before for before, after in zip(means, means[1:])]
    return (math.fsum(step * step for step in steps) / 2 / len(steps), len(steps)) if steps else (None, 0)


def judge(new, old, metric, between, comparisons):
    """Return how ``new`` stands to ``old``, both :class:`Sample`.

    ``between`` is what :func:`successive` says of the earlier equal runs, ``comparisons`` how many are made together. The result has
    ``change`` (relative), ``low`` and ``high`` (its interval), ``seen_from`` (the least change that would have counted) and ``says``,
    one of :data:`DIFFERS`, :data:`WITHIN`, :data:`NONE`, :data:`UNKNOWN`; without an interval ``low``, ``high`` and ``seen_from`` are None.
    """
    change = new.mean - old.mean
    share = (1 - CONFIDENCE) / max(1, comparisons)
    half = _half(new, old, metric, between, share)
    inside = _welch(new, old, share)
    if half is None:
        says, seen_from = UNKNOWN, None
    elif abs(change) > half:
        says, seen_from = DIFFERS, math.expm1(half)
    else:
        # Many earlier runs show how far equal ones differ: then what is within that is nothing to look at.
        known = between[1] >= PRIOR_WEIGHT
        says, seen_from = (WITHIN if inside is not None and abs(change) > inside and not known else NONE), math.expm1(half)
    ends = (None, None) if half is None else (math.expm1(change - half), math.expm1(change + half))
    return {"change": math.expm1(change), "low": ends[0], "high": ends[1], "seen_from": seen_from, "says": says}


def _half(new, old, metric, between, share):
    """Return half the width of the interval of the difference, None where nothing says how far equal runs differ."""
    parts = _components(new, old, metric, between)
    if parts is None:
        return None
    variance = math.fsum(part for part, _degrees in parts)
    if not variance:
        return 0.0
    below = math.fsum(part * part / degrees for part, degrees in parts if degrees is not None)
    degrees = min(variance * variance / below, 1e6) if below else 1e6
    return bound(share, degrees) * math.sqrt(2 * variance)


def _components(new, old, metric, between):
    """Return ``[(share of the variance of a run's mean, its degrees of freedom or None for a known one)]``; None where it is not known."""
    variance, differences = between
    inside, degrees = _pooled(new, old)
    if inside is None:
        return [(variance, differences)] if differences >= LEAST_DIFFERENCES else None
    prior = PRIOR_WEIGHT / (PRIOR_WEIGHT + differences)
    parts = [(prior * inside, degrees), (prior * BETWEEN_STARTS.get(metric, 0.0) ** 2, None)]
    if differences:
        # Means of a few samples cannot be known better than their samples allow.
        least = inside * (1 / new.count + 1 / old.count) / 2
        parts.append(((1 - prior) * max(variance, least), differences))
    return parts


def _pooled(new, old):
    """Return ``(variance of a single value, degrees of freedom)`` over both runs; (None, 0) where none has two values."""
    known = [item for item in (new, old) if item.deviation is not None and item.count > 1]
    degrees = sum(item.count - 1 for item in known)
    return (math.fsum((item.count - 1) * item.deviation**2 for item in known) / degrees, degrees) if known else (None, 0)


def _welch(new, old, share):
    """Return half the width of Welch's interval of the difference of two means; None where one of them has no spread."""
    if new.deviation is None or old.deviation is None:
        return None
    parts = [item.deviation**2 / item.count for item in (new, old)]
    below = math.fsum(part * part / (item.count - 1) for part, item in zip(parts, (new, old)))
    return bound(share, sum(parts) ** 2 / below) * math.sqrt(sum(parts)) if below else 0.0
