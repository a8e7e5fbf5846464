"""Student's t for any number of degrees of freedom: what ``core.stats`` has as a table for 95 %. Standard library only."""

from __future__ import annotations

import functools
import math

# Enough for double precision; the continued fraction of the incomplete beta function converges in O(sqrt(max(a, b))) steps.
_STEPS, _TINY = 300, 1e-300


def two_sided(t, degrees):
    """Return the probability that ``|T|`` is above ``|t|``, T after Student with ``degrees`` > 0 degrees of freedom.

    I_x(df / 2, 1 / 2) with x = df / (df + t²). Source: NIST Digital Library of Mathematical Functions, 8.17 (incomplete beta function).
    """
    x = degrees / (degrees + t * t)
    return _incomplete_beta(degrees / 2, 0.5, x)


@functools.lru_cache(maxsize=4096)
def bound(share, degrees):
    """Return the t that ``|T|`` is above with the probability ``share``, 0 < share < 1; by halving, to 12 digits."""
    low, high = 0.0, 1.0
    while two_sided(high, degrees) > share:
        high *= 2
    for _step in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if two_sided(middle, degrees) > share else (low, middle)
    return high


def _incomplete_beta(a, b, x):
    """Return the regularised incomplete beta function I_x(a, b), by its continued fraction (DLMF 8.17.22)."""
    if x <= 0 or x >= 1:
        return min(1.0, max(0.0, x))
    front = math.exp(math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x))
    if x > (a + 1) / (a + b + 2):
        return 1.0 - front * _fraction(b, a, 1 - x) / b
    return front * _fraction(a, b, x) / a


def _fraction(a, b, x):
    """Return the continued fraction of DLMF 8.17.22, evaluated as W. J. Lentz does (1976)."""
    c, d = 1.0, 1.0 / _not_zero(1 - (a + b) * x / (a + 1))
    value = d
    for m in range(1, _STEPS):
        for factor in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1.0 / _not_zero(1 + factor * d)
            c = _not_zero(1 + factor / c)
            value *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return value


def _not_zero(value):
    return value if abs(value) > _TINY else _TINY
