"""Everything that the templates show. Standard library only.

The templates lay out and escape; every sentence and every number is made in this package, so that report.md and report.html say the
same.
"""

from __future__ import annotations

from ...tally import SHOWN
from ..prediction.compare import comparison as against_prediction
from .compared import compared
from .fabric import collective_lines, left_out, together
from .formulas import FORMULAS
from .gpus import gpu_lines
from .headline import headline, when
from .incidents import incident_lines
from .layouts import distribution_lines, dummy_warning, layout_lines
from .models import model_lines
from .nodes import node_table, selection
from .pairs import judged_lines, link_lines
from .prediction import prediction_lines
from .provenance import commands, environment, measurement_lines, phase_lines, run_lines
from .recommend import recommendations
from .sweep import sweep
from .tiles import tiles
from .why import why_lines


def view(records, found, claims, comparison):
    """Return everything that the templates show, by the name under which they show it; plots are added by render.py.

    ``records`` are the run's :class:`Records`, ``found`` its ``verdicts``, ``claims`` its ``findings``, ``comparison`` what
    compare/compared.py says of it beside other runs.
    """
    data, run = records.data, records.data["run"]
    gpus, gpus_left_out = gpu_lines(data)
    return {
        "run_id": run["run_id"],
        "when": when(run),
        "headline": headline(records, found, claims),
        "tiles": tiles(records.layouts, found),
        "failed": found["failed"],
        "why": why_lines(found["failed"]),
        "recommended": recommendations(records),
        "compared": compared(comparison),
        "problems": data["problems"],
        "node_table": node_table(found["nodes"]),
        "selection": selection(data, found["nodes"]),
        "gpus": gpus,
        "gpus_left_out": gpus_left_out,
        "fabric": collective_lines(records.collectives, records.reduces),
        "fabric_left_out": left_out(records.collectives),
        "together": together(found["failed"]),
        "links": link_lines(records.links),
        "judged": judged_lines(records.judged),
        "layouts": layout_lines(records.layouts, found["layouts"]),
        "predictions": prediction_lines(against_prediction(records), records.layouts),
        "distributions": distribution_lines(records.layouts),
        "sweep": sweep(records.layouts),
        "dummy": dummy_warning(records.layouts),
        "findings": claims,
        "formulas": FORMULAS,
        "run": run_lines(run),
        "environment": environment(data["facts"]),
        "commands": commands(run),
        "phases": phase_lines(run),
        "measurements": measurement_lines(data["facts"], len(found["nodes"]) > SHOWN),
        "models": model_lines(data["facts"]),
        "incidents": incident_lines(data["incidents"]),
    }
