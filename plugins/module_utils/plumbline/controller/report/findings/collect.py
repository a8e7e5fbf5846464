"""Findings: sentences computed from the facts of one run, each with its arithmetic.

A finding claims no more than the data supports: two layouts are called different only where the
95 % intervals of their means do not overlap, and an estimate says what it leaves out. Where a
claim lacks data, the finding says which. Standard library only.
"""

from __future__ import annotations

from ..prediction.compare import comparison
from .communication import communication_findings
from .fabric import fabric_findings
from .layouts import layout_findings
from .pairs import pair_findings
from .prediction import prediction_findings
from .roofline import at_measured_rates, roofline_findings


def findings(records):
    """Return a list of ``{id, level, claim, arithmetic, missing, values}`` from a run's :class:`Records`, most telling first.

    ``level``: ``supported`` (the data carries it), ``overlap`` (intervals overlap: no difference
    shown), ``estimate`` (a model on measured numbers), ``warning`` (something does not fit), or
    ``no data`` (``missing`` says what).
    """
    pairs = pair_findings(records.judged, records.links)
    accusing = [item for item in pairs if item["level"] == "warning"]
    calm = [item for item in pairs if item not in accusing]
    compared = comparison(records)
    served = layout_findings(records.layouts) + prediction_findings(compared)
    served += roofline_findings(at_measured_rates(records.layouts, compared))
    network = fabric_findings(records.collectives) + communication_findings(records.layouts, records.collectives, records.reduces)
    return accusing + served + network + calm
