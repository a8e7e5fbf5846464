"""All that a report says of a run against others: differences, nodes against a fleet's baseline, courses. Controller only."""

from __future__ import annotations

import os

from . import fleet, index, runs, trend

NOTHING = {"with": None, "asked": None, "runs_before": 0, "differences": [], "fleet": None, "nodes": [], "courses": []}
OFF = "none"


class Against:
    """Compares a run's records with other runs; what could not be compared is in ``problems``, and the run itself in ``run``.

    ``wanted`` is a run id or a path, "" for the last equal run of each layout, :data:`OFF` for none; ``baseline_file`` a fleet's baseline.
    ``results_dir`` has the other runs: the folder around ``run_dir``, if it is not given. With ``keep`` False no index is written.
    """

    def __init__(self, run_dir, schema_dir, wanted="", baseline_file=None, results_dir=None, keep=True):
        self._run_dir, self._schema_dir = os.path.abspath(run_dir), schema_dir
        self._wanted, self._baseline_file, self._keep = wanted, baseline_file, keep
        self._results_dir = results_dir or os.path.dirname(self._run_dir)
        self.problems = []
        self.run = None

    def __call__(self, records):
        """Return what :data:`NOTHING` shows the keys of; ``problem`` is there too where something was asked for and could not be done."""
        self.run = runs.of_records(records, os.path.basename(self._run_dir))
        found = dict(NOTHING, asked=self._wanted or None)
        for part in (self._fleet, self._runs):
            try:
                found.update(part())
            except (runs.NoSuchRun, fleet.NoBaseline) as error:
                # The report of what was measured is written all the same.
                self.problems.append(str(error))
                found["problem"] = str(error)
        return found

    def _fleet(self):
        if not self._baseline_file:
            return {}
        baseline = fleet.read(self._baseline_file)
        about = {"file": self._baseline_file, "run_id": str(baseline.get("run_id") or "unknown")}
        return {"fleet": about, "nodes": fleet.against(self.run, baseline)}

    def _runs(self):
        if self._wanted == OFF:
            return {}
        earlier = index.runs(self._results_dir, lambda folder: runs.read(folder, self._schema_dir), self._keep)
        other = runs.named(self._wanted, self._results_dir, self._schema_dir) if self._wanted else None
        differences = runs.compared(self.run, earlier, other)
        names = list(dict.fromkeys(item["run"] for item in differences))
        return {
            "differences": differences,
            "with": other.run_id if other else ", ".join(names) or None,
            "runs_before": len(runs.before(self.run, earlier)),
            "courses": trend.courses(self.run, earlier),
        }
