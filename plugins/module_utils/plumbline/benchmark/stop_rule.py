"""When a benchmark has run often enough: a number of runs, or an interval of the mean that is narrow enough.

Stopping at the first interval that is narrow enough favours samples that look quiet: with few runs the true coverage is some
points below 95 % (Y. S. Chow and H. Robbins, "On the asymptotic theory of fixed-width sequential confidence intervals for the
mean", 1965, has it right only in the limit). The minimum of runs is there for that.
"""

from __future__ import annotations

from ..core.stats import summary

METRIC = "throughput_tok_s"


def width_percent(values):
    """Return the full width of the 95 % t-interval in percent of the mean; None with fewer than two values or a mean of 0."""
    found = summary(values) if len(values) > 1 else None
    if not found or not found["mean"]:
        return None
    return 100 * (found["ci95_high"] - found["ci95_low"]) / found["mean"]


class StopRule:
    """At least ``minimum`` runs; then, with ``percent`` above 0, until the interval is that narrow, at most ``maximum`` runs."""

    def __init__(self, minimum, maximum=0, percent=0.0):
        """Raise ValueError where the three numbers make no rule; ``maximum`` 0 is ``minimum``."""
        self.minimum, self.maximum, self.percent = minimum, maximum or minimum, percent
        if minimum < 1:
            raise ValueError("runs must be at least 1, got %d" % minimum)
        if self.maximum < minimum:
            raise ValueError("max_runs is %d, less than the minimum of %d runs" % (self.maximum, minimum))
        if percent < 0:
            raise ValueError("interval_percent must not be negative, got %g" % percent)
        if percent and self.maximum < 2:
            raise ValueError("interval_percent needs max_runs of at least 2: one run has no interval")

    def reached(self, values):
        """Tell whether the runs' ``values`` satisfy the rule; None where it asks for no interval."""
        if not self.percent:
            return None
        width = width_percent(values)
        return len(values) >= self.minimum and width is not None and width <= self.percent

    def done(self, values):
        """Tell whether no further run is due."""
        if len(values) >= self.maximum:
            return True
        return len(values) >= self.minimum and self.reached(values) is not False

    def text(self):
        """Return the rule as a sentence."""
        if not self.percent:
            return "%d runs" % self.minimum
        return "at least %d runs, then until the 95 %% interval of %s is at most %g %% of the mean wide, at most %d runs" % (
            self.minimum, METRIC, self.percent, self.maximum,
        )  # fmt: skip

    def verdict(self, values):
        """Return ``{rule, width_percent, reached, runs}`` for the fact's ``measured.stop``."""
        return {"rule": self.text(), "width_percent": width_percent(values), "reached": self.reached(values), "runs": len(values)}

    def reason(self, values):
        """Return the arguments of ``Measurement.add`` that judge the interval; None where the rule asks for none."""
        if not self.percent:
            return None
        width = width_percent(values)
        wide = "of unknown width" if width is None else "%.3g %% of the mean wide" % width
        seen = "the 95 %% interval is %s after %d run(s)" % (wide, len(values))
        remedy = None if self.reached(values) else "look for what disturbs the runs (clocks, other work, a slow link), or raise max_runs"
        return ("benchmark.interval", "healthy" if self.reached(values) else "degraded", seen, self.text(), remedy)
