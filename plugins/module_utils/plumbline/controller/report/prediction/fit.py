"""Fits the two costs of ``constants`` to measured tokens by least squares of the relative error. Standard library only.

``tests/unit/controller/report/prediction/test_fit.py`` runs it on this project's own captures and compares with ``constants``.
"""

from __future__ import annotations

from typing import NamedTuple

# Two-sided 95 % quantile of Student's t by degrees of freedom (any table; scipy.stats.t.ppf(0.975, n)).
STUDENT = {1: 12.706, 2: 4.303, 3: 3.182, 4: 2.776, 5: 2.571, 6: 2.447, 7: 2.365, 8: 2.306}


class Seen(NamedTuple):
    """One measured token: its layers and hand-overs, the ms that reading and all-reduces take of it, and its TPOT in ms."""

    layers: int
    hand_overs: int
    known_ms: float
    tpot_ms: float


class Fitted(NamedTuple):
    """The costs in ms, the standard deviation of the relative residuals, t for the degrees of freedom, and the inverse of XᵀX."""

    layer_ms: float
    hand_over_ms: float
    residual: float
    student: float
    inverse: tuple


def fit(seen):
    """Return the :class:`Fitted` costs of at least three :class:`Seen` tokens, one of them with a hand-over.

    Each equation is divided by its TPOT, so that a residual is the relative error of a prediction:
    layers / TPOT × layer + hand-overs / TPOT × hand_over = 1 − known / TPOT. Raises ValueError where it has no single answer.
    """
    rows = [(one.layers / one.tpot_ms, one.hand_overs / one.tpot_ms, 1 - one.known_ms / one.tpot_ms) for one in seen]
    a, b, c = (sum(row[i] * row[j] for row in rows) for i, j in ((0, 0), (0, 1), (1, 1)))
    right = [sum(row[i] * row[2] for row in rows) for i in (0, 1)]
    determinant, freedom = a * c - b * b, len(rows) - 2
    if determinant <= 1e-12 * max(a, c) ** 2 or freedom < 1:
        raise ValueError("the costs have no single answer: at least three tokens, one of them with a hand-over")
    inverse = (c / determinant, -b / determinant, a / determinant)
    layer, hand_over = inverse[0] * right[0] + inverse[1] * right[1], inverse[1] * right[0] + inverse[2] * right[1]
    squares = sum((row[0] * layer + row[1] * hand_over - row[2]) ** 2 for row in rows)
    return Fitted(layer, hand_over, (squares / freedom) ** 0.5, STUDENT[freedom], inverse)


def layer_alone(seen):
    """Return the cost of a layer in ms from tokens without a hand-over, by the same least squares; ``seen`` may be a single one."""
    rows = [(one.layers / one.tpot_ms, 1 - one.known_ms / one.tpot_ms) for one in seen if not one.hand_overs]
    return sum(x * y for x, y in rows) / sum(x * x for x, _y in rows)
