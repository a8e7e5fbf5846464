"""All that a report says of a run against others: differences, nodes against a fleet's baseline, courses. Controller only."""

from __future__ import annotations

import os

from . import fleet, index, runs, trend

NOTHING = {"with": None, "asked": None, "runs_before": 0, "differences": [], "fleet": None, "nodes": [], "courses": []}
OFF = "none"


def compare(records, run_dir, schema_dir, wanted="", baseline_file="", results_dir=None, keep=True):
    """Return what :data:`NOTHING` shows the keys of, and the run as :class:`index.Run`.

    ``wanted`` is a run id or a path, "" for the last equal run of each layout, :data:`OFF` for none; ``baseline_file`` a fleet's baseline.
    ``results_dir`` has the other runs: the folder around ``run_dir``, if it is not given. Raises :class:`runs.NoSuchRun` and
    :class:`fleet.NoBaseline`.
    """
    this = runs.of_records(records, os.path.basename(os.path.abspath(run_dir)))
    found = dict(NOTHING, asked=wanted or None)
    if baseline_file:
        baseline = fleet.read(baseline_file)
        found.update(fleet={"file": baseline_file, "run_id": baseline.get("run_id")}, nodes=fleet.against(this, baseline))
    if wanted == OFF:
        return found, this
    results_dir = results_dir or os.path.dirname(os.path.abspath(run_dir))
    earlier = index.runs(results_dir, lambda folder: runs.read(folder, schema_dir), keep)
    other = runs.named(wanted, results_dir, schema_dir) if wanted else None
    differences = runs.compared(this, earlier, other)
    names = list(dict.fromkeys(item["run"] for item in differences))
    before = [run for run in earlier if run.started_at < this.started_at and run.run_id != this.run_id]
    found.update(differences=differences, runs_before=len(before), courses=trend.courses(this, earlier))
    found["with"] = other.run_id if other else ", ".join(names) or None
    return found, this
