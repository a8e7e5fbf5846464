"""Numbers and sizes as text. Standard library only.

The same number reads the same everywhere in the report: three significant digits, or whole
numbers from 100 upwards; a missing number is an em dash.
"""

from __future__ import annotations

import math

from .records.reading import num

MISSING = "—"
# Runs that differ in nothing but the noise of floating point have an interval that no decimal shows.
MOST_PLACES = 6


def digits(value, unit=""):
    """Return a number to three significant digits with its unit: ``8.31 ms``, ``1,240 tok/s``."""
    value = num(value)
    if value is None:
        return MISSING
    size = abs(value)
    if size and size < 0.001:
        text = "%.2e" % value
    else:
        # Rounding may carry into the next decade: 9.996 is "10.0", not "10.00".
        places = next((places for limit, places in ((0.9995, 3), (9.995, 2), (99.95, 1)) if size < limit), 0)
        if isinstance(value, int) and places < 3:
            places = 0
        text = "%s" % format(value, ",.%df" % places)
        if size < 0.9995:
            text = "%.3g" % value
    return text + " " + unit if unit else text


def mean_and_error(mean, half):
    """Return a mean and the half width of its interval to the same decimal: ``("211.39", "0.08")``; no half width is None.

    The half width decides: one significant digit, or two where the first is small (Particle Data Group, Review of Particle Physics,
    section 5.3 of the introduction: two up to 354, one from 355). The mean has never fewer digits than :func:`digits` gives.
    """
    mean, half = num(mean), num(half)
    if mean is None or half is None:
        return digits(mean), None
    places = _places(mean, half)
    return format(mean, ",.%df" % places), format(half, ",.%df" % places)


def _places(mean, half):
    """Return the decimals in which a mean and its half width are both told."""
    shown = max(0, 2 - math.floor(math.log10(abs(mean)))) if mean else 0
    if not half:
        return min(shown, MOST_PLACES)
    lead, _e, power = ("%.2e" % half).partition("e")
    needed = (1 if float(lead) < 3.55 else 0) - int(power)
    return min(max(shown, needed), MOST_PLACES)


def plural(count, word):
    """Return a count with its word: ``1 node``, ``2 nodes``."""
    return "%d %s%s" % (count, word, "" if count == 1 else "s")


def size(value):
    """Return bytes as text in powers of 1024: ``8 B``, ``16 KiB``, ``1.5 GiB``."""
    value = num(value)
    if value is None:
        return MISSING
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(value) < 1024:
            return "%s %s" % (format(round(value, 1), "g"), unit)
        value /= 1024
    return "%s TiB" % format(round(value, 1), "g")


def seconds(value):
    """Return a duration: ``0.42 s``, ``41 s``, ``3 min 05 s``, ``1 h 02 min``."""
    value = num(value)
    if value is None:
        return MISSING
    if value < 99.5:
        return digits(value, "s")
    minutes, rest = divmod(int(round(value)), 60)
    return "%d min %02d s" % (minutes, rest) if minutes < 60 else "%d h %02d min" % divmod(minutes, 60)


def factor(value):
    """Return a ratio: ``3.39×``."""
    return digits(value) + "×" if num(value) is not None else MISSING


def interval(stats, unit=""):
    """Return ``mean [low, high] unit`` of a summary with a 95 % interval, the mean alone without one."""
    stats = stats or {}
    if num(stats.get("ci95_low")) is None or num(stats.get("ci95_high")) is None:
        return digits(stats.get("mean"), unit)
    values = [num(stats.get(key)) for key in ("mean", "ci95_low", "ci95_high")]
    if values[0] is None:
        return digits(None, unit)
    places = _places(values[0], max(values[2] - values[0], values[0] - values[1]))
    text = "%s [%s, %s]" % tuple(format(value, ",.%df" % places) for value in values)
    return text + " " + unit if unit else text
