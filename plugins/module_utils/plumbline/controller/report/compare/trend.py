"""A metric over time, per layout and per node: the runs that are equal to this one, the oldest first. Standard library only."""

from __future__ import annotations

import math

from .metrics import LAYOUT, title
from .runs import LOOKED_BACK, before, equal

# A line of fewer points is no course.
LEAST_POINTS = 3
# Of a layout this one is shown; the others follow it or are in the table of differences.
SHOWN_OF_LAYOUTS = ("throughput_tok_s", "ttft_ms")


def courses(this, earlier):
    """Return ``[{scope, subject, metric, title, unit, points}]`` of a run; ``points`` are ``{run, started_at, value}``, this run's last."""
    earlier = before(this, earlier)
    found = []
    for item in this.measured:
        if item.scope == LAYOUT and item.metric not in SHOWN_OF_LAYOUTS:
            continue
        points = [*equal(item, earlier)[-LOOKED_BACK:], (this, item)]
        if len(points) < LEAST_POINTS:
            continue
        name, unit, _higher = title(item)
        shown = [{"run": run.run_id, "started_at": run.started_at, "value": math.exp(one.sample.mean)} for run, one in points]
        found.append({"scope": item.scope, "subject": item.subject, "metric": item.metric, "title": name, "unit": unit, "points": shown})
    return found
