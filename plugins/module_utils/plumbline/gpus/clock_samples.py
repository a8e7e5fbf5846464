"""The clock window of ``clocks/window.py``, with the time of each sample: a rate is held against the clock of its own phase.

Times are the system's monotonic clock in seconds, which is one for all processes of a machine, in containers too.
"""

from __future__ import annotations

import statistics
import time

# NVML tells utilisation and clocks of up to the last second; what a phase begins with is left out.
LEAD_S = 0.5


class Samples:
    """Wraps a window: ``with samples: ...``; then :meth:`during`."""

    def __init__(self, window, now=time.monotonic):
        self.window, self._now = window, now
        self._keep = window._keep
        window._keep = self._stamped

    def _stamped(self, gpus):
        at = self._now()
        self._keep([dict(gpu, at=at) for gpu in gpus])

    def __enter__(self):
        self.window.__enter__()
        return self

    def __exit__(self, kind, error, trace):
        return self.window.__exit__(kind, error, trace)

    def during(self, bus_id, began, ended):
        """Return ``{"samples", "sm_mhz", "sm_max_mhz", "memory_mhz", "power_w", "temperature_c", "reasons"}`` of a GPU in a span.

        Clocks and power are means, the temperature is the highest, ``reasons`` maps what held the clocks down to the share of the samples;
        None where no sample has a value.
        """
        found = [gpu for gpus in self.window.samples for gpu in gpus if gpu["bus_id"] == bus_id and began + LEAD_S <= gpu["at"] <= ended]
        names = {name for gpu in found for name in gpu["reasons"] or ()}
        return {
            "samples": len(found),
            "sm_mhz": _mean(found, "sm_mhz"),
            "sm_max_mhz": max((gpu["sm_max_mhz"] for gpu in found if gpu["sm_max_mhz"]), default=None),
            "memory_mhz": _mean(found, "memory_mhz"),
            "power_w": _mean(found, "power_w"),
            "temperature_c": max((gpu["temperature_c"] for gpu in found if gpu["temperature_c"] is not None), default=None),
            "reasons": {name: sum(name in (gpu["reasons"] or ()) for gpu in found) / len(found) for name in sorted(names)},
        }


def _mean(gpus, key):
    values = [gpu[key] for gpu in gpus if gpu[key] is not None]
    return statistics.fmean(values) if values else None
