"""The table of predictions: what was foretold of each layout, what it took, and what is left for an all-reduce. Standard library only."""

from __future__ import annotations

from ..findings.prediction import spoken_range
from ..format import MISSING, digits
from ..prediction.compare import NAMES
from ..serving import colour

FITS = {True: "yes", False: "no", None: MISSING}
PLACES = {"within": "within the range", "faster": "faster than the range", "slower": "slower than the range", None: MISSING}
NOTHING_LEFT = "none"


def prediction_lines(compared, layouts):
    """Return a line for each of ``compared`` (``prediction.compare.comparison``), none where nothing was foretold of any of them."""
    if not any(record["told"] and (record["told"]["tpot_ms"] is not None or record["told"]["fits"] is not None) for record in compared):
        return []
    places = {layout["name"]: place for place, layout in enumerate(layouts)}
    return [_line(record, places.get(record["name"], len(places))) for record in compared if record["told"]]


def _line(record, place):
    said, reduces = record["told"], record["told"]["all_reduces"]
    known = said["tpot_ms"] is not None
    return {
        "name": record["name"],
        "colour": colour(place),
        "fits": FITS[said["fits"]],
        "said": ("before serving" if said["before"] else "afterwards") if known else "nothing",
        "predicted": digits(said["tpot_ms"]),
        "range": spoken_range(said) if known else MISSING,
        "rate": digits(1e3 / said["tpot_ms"]) if known else MISSING,
        "measured": digits(record["measured_ms"]),
        "off": MISSING if record["off"] is None else "%+.1f %%" % (100 * record["off"]),
        "place": PLACES[record["place"]],
        "all_reduce": digits(said["all_reduce_us"]) if known and reduces else MISSING,
        # A token that was faster than all its other terms leaves none.
        "implied": NOTHING_LEFT if (record["implied_us"] or 0) < 0 else digits(record["implied_us"]),
        "terms": ", ".join("%s %s" % (NAMES.get(term["name"], term["name"]), digits(term["ms"])) for term in said["terms"]) or MISSING,
        "why": "; ".join(said["missing"] if known else said["against"]),
    }
