"""Counts what went well on a large fleet, so that the terminal shows what did not."""

from __future__ import annotations

# Up to so many nodes are shown one by one, in the terminal and in the report. Of more, those that are well are counted.
SHOWN = 12
# What is shown of a fact that a later task of the same run completes. It is kept as what it is, incomplete: the run may be killed.
PENDING = "pending"
FOLDED = ("healthy", "skipped", PENDING)
# What is told by its words, not by its verdict.
TOLD = ("prediction",)


class Tally:
    """The verdicts of one phase that need no line of their own; ``hosts`` is how many nodes the run has."""

    def __init__(self, hosts=0):
        self.hosts = hosts
        self._counts = {}

    def folds(self, status, kind, fact):
        """Tell whether a fact needs no line of its own, and count it then."""
        if self.hosts <= SHOWN or status not in FOLDED or kind in TOLD:
            return False
        key = status, kind, str(fact.get("name"))
        count, longest = self._counts.get(key, (0, 0.0))
        self._counts[key] = count + 1, max(longest, fact.get("duration_s") or 0.0)
        return True

    def lines(self):
        """Return a line for each kind of fact that was counted, and start anew."""
        found = [
            "  %-10s %-12s %-10s %-22s up to %.1f s" % (status, "%d nodes" % count, kind, name, longest)
            for (status, kind, name), (count, longest) in sorted(self._counts.items(), key=lambda item: item[0][1:])
        ]
        self._counts = {}
        return found
