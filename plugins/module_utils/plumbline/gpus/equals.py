"""Which of some equal devices is unlike the others: in how fast it is, and in what it computes.

Equal are devices of one model and as many multiprocessors, under the same torch and CUDA: then the same product is the same in every bit
(cuBLAS documentation, "Results Reproducibility"), and the same work takes as long.

- From five on: the modified z-score of Iglewicz and Hoaglin, as ``controller/fleet.py`` uses it, and a least share of the median.
- Of three or four such a score has no bound to trust: one is apart when the others agree among themselves and it does not.
- Of two nobody can say which is the bad one; that they differ is said of both. One alone is compared with nobody.
"""

from __future__ import annotations

import statistics

from ..core.stats import Spread

LIMIT = 3.5
SCORED = 5  # from so many on the score decides


def groups(rows, key):
    """Return the rows of each group of equals, in order; ``key`` maps a row to what must be equal, None for one without equals."""
    found = {}
    for place, row in enumerate(rows):
        name = key(row)
        found.setdefault(("alone", place) if name is None else name, []).append(row)
    return list(found.values())


def slow(values, share, limit=LIMIT):
    """Return ``(labels that are slow, disagreement)`` of ``{label: rate}``.

    A label is slow when it is more than ``share`` of the median below it, and far from the others. ``disagreement`` is the share by which
    the lowest is below the highest, where they differ by more than ``share`` and no majority says who is wrong; else None.
    """
    if len(values) < 2:
        return [], None
    rates = sorted(values.values())
    if len(values) >= SCORED:
        spread = Spread(rates)
        far = [name for name, rate in values.items() if rate < (1 - share) * spread.middle and spread.score(rate) < -limit]
        return sorted(far, key=values.get), None
    apart = 1 - rates[0] / rates[-1] if rates[-1] > 0 else 0
    if apart <= share:
        return [], None
    others = rates[1:]
    if len(values) >= 3 and 1 - others[0] / others[-1] <= share:
        if rates[0] < (1 - share) * statistics.median(others):
            return [name for name, rate in values.items() if rate == rates[0]], None
        return [], None
    # All but one agree, and that one is faster than they: no fault of theirs.
    if len(values) >= 3 and 1 - rates[0] / rates[-2] <= share:
        return [], None
    return [], apart


def below(value, values):
    """Return by what share ``value`` is below the median of ``values``."""
    middle = statistics.median(values)
    return 1 - value / middle if middle else 0.0


def odd(values):
    """Return ``(labels that differ, whether a majority says so)`` of ``{label: hash}``; nobody differs where all are the same."""
    by_value = {}
    for name, value in values.items():
        by_value.setdefault(value, []).append(name)
    if len(by_value) < 2:
        return [], True
    most = max(by_value.values(), key=len)
    if len(most) * 2 > len(values):
        return [name for name in values if name not in most], True
    return list(values), False
