"""What every check of a number has in common: the number, its limit, and the reason that compares them."""

from __future__ import annotations

from ...core.fact import reason

NO_EXPECTATION = "no expected value for this SKU"
# Everybody may read these files, so root sees no more.
NOT_TOLD = "look why /proc or /sys does not tell it: a container may hide it, and a link that is down has no speed"


def size(count):
    """Return bytes for a person: ``1.5 GiB``."""
    for unit, factor in (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20)):
        if abs(count) >= factor:
            return "%.1f %s" % (count / factor, unit)
    return "%d bytes" % count


def bound(check, value, limit, at_least, say, remedy, bad="failed", where=None):
    """Compare one number with its limit and return the reason.

    ``say`` turns a number into words, ``where`` names the path or interface it was seen at. No number is
    ``incomplete``, no limit ``skipped``: neither is a pass.
    """
    prefix = "%s: " % where if where else ""
    sign = ">=" if at_least else "<="
    threshold = NO_EXPECTATION if limit is None else "%s %s" % (sign, say(limit))
    if value is None:
        return reason(check, "incomplete", prefix + "not readable on this node", threshold, NOT_TOLD)
    if limit is None:
        return reason(check, "skipped", prefix + say(value), threshold)
    good = value >= limit if at_least else value <= limit
    return reason(check, "healthy" if good else bad, prefix + say(value), threshold, None if good else remedy)
