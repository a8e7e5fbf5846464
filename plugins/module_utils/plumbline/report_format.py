"""Numbers and sizes as text. Standard library only.

The same number reads the same everywhere in the report: three significant digits, or whole
numbers from 100 upwards; a missing number is an em dash.
"""

from __future__ import annotations

from ansible.module_utils.plumbline.report_records import num

MISSING = "—"


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


def error(value):
    """Return the half width of an interval to two significant digits: ``1.1``, ``0.32``, ``24``."""
    value = num(value)
    if value is None:
        return MISSING
    return "%.2g" % value if abs(value) < 99.5 else digits(value)


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
    text = "%s [%s, %s]" % tuple(digits(stats[key]) for key in ("mean", "ci95_low", "ci95_high"))
    return text + " " + unit if unit else text
