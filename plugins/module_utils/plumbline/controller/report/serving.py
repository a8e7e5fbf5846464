"""What several parts of the report say of layouts: their colour, dummy weights, requests in flight, SLOs. Standard library only."""

from __future__ import annotations

from .records.reading import num

# The bounds of an SLO: name in the fact -> name in the report.
BOUNDS = (("ttft_ms", "TTFT"), ("tpot_ms", "TPOT"), ("e2e_ms", "E2E"))
# A level is within the SLO when this share of its answers is: the goal that DistServe is evaluated with (arXiv:2401.09670).
GOOD_SHARE = 0.9
# Colours for layouts: ``--c0`` and on in report.css, ``PALETTE`` in plots/style.py.
COLOURS = 7


def colour(place):
    """Return which colour the layout at this place among the run's layouts has; the last one is shared by all that follow."""
    return min(place, COLOURS - 1)


def is_dummy(layout):
    """Return whether the layout served weights that nobody read (vLLM's ``--load-format dummy``)."""
    return layout["load_format"] == "dummy"


def in_flight(layout):
    """Return how many requests the runs of a layout kept in flight, in words; "" where it is not known."""
    count = layout["concurrency"]
    return "" if count is None else "one request at a time" if count == 1 else "%d requests in flight" % count


def slo_text(slo):
    """Return an SLO as text, ``TTFT ≤ 200 ms, TPOT ≤ 20 ms``; "" without one."""
    return ", ".join("%s ≤ %g ms" % (label, slo[key]) for key, label in BOUNDS if slo.get(key))


def slos(layouts):
    """Return the SLO of these layouts as text, by name where they differ; "" where none has one."""
    named = {layout["name"]: slo_text(layout["slo"]) for layout in layouts if slo_text(layout["slo"])}
    if len(set(named.values())) == 1 and len(named) == len(layouts):
        return next(iter(named.values()))
    return "; ".join("%s: %s" % pair for pair in named.items())


def within_slo(level):
    """Return whether at least :data:`GOOD_SHARE` of a level's answers kept the SLO; None where there was none."""
    share = num(level.get("goodput_share"))
    return None if share is None else share >= GOOD_SHARE
