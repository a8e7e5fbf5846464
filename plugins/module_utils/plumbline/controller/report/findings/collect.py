"""Findings: sentences computed from the facts of one run, each with its arithmetic.

A finding claims no more than the data supports: two layouts are called different only where the
95 % intervals of their means do not overlap, and an estimate says what it leaves out. Where a
claim lacks data, the finding says which. Standard library only.
"""

from __future__ import annotations

from ..records import collectives, judged_nodes, layouts, links
from .fabric import fabric_findings
from .layouts import layout_findings
from .pairs import pair_findings
from .roofline import roofline_findings


def findings(data):
    """Return a list of ``{id, level, claim, arithmetic, missing}``, most telling first.

    ``level``: ``supported`` (the data carries it), ``overlap`` (intervals overlap: no difference
    shown), ``estimate`` (a model on measured numbers), ``warning`` (something does not fit), or
    ``no data`` (``missing`` says what).
    """
    found = layouts(data)
    fabric = collectives(data)
    pairs = pair_findings(judged_nodes(data), links(data))
    accusing = [item for item in pairs if item["level"] == "warning"]
    calm = [item for item in pairs if item not in accusing]
    return accusing + layout_findings(found) + roofline_findings(found) + fabric_findings(found, fabric) + calm
