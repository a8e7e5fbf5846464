"""What the growth of InfiniBand's counters over a phase means for a node: limits with their sources, and one reason for each.

What a port counts of its link is the node's own affair: its port, its cable, or the switch's port at the other end. What an adapter counts
of its connections may be the peer's doing, which was lost or slow: that degrades a node, and never takes it out.
"""

from __future__ import annotations

import math
from typing import NamedTuple

MONITOR = "NVSentinel, nic-health-monitor"
PER = {1: "s", 60: "min", 3600: "h"}
# Standard deviations by which a count in a window that is shorter than its limit's has to be off before it is told (Poisson).
SIGMAS = 3

REPLACE = "look at cable and transceiver, and at the switch's port; replace the node if it comes back (report it to Azure: fault code %s)"
FLAP, SLOW = "NHC2005", "NHC2003"
PEER = "look at the other nodes first: this counts what a lost or slow peer does to its partners, too"


class Limit(NamedTuple):
    """The most that one counter may grow by: ``most`` in ``per_s`` seconds, or in the whole window where that is None.

    ``status`` is that of a node beyond it, ``source`` where the figure is from.
    """

    counter: str
    most: float
    per_s: int | None
    status: str
    source: str
    remedy: str

    def words(self):
        """Return the limit as a sentence says it: ``<= 120/h``."""
        return "<= %g%s" % (self.most, "/" + PER[self.per_s] if self.per_s else "")


LIMITS = (
    Limit("link_downed", 0, None, "failed", MONITOR + ": fatal", REPLACE % FLAP),
    Limit("local_link_integrity_errors", 0, None, "failed", MONITOR + ": fatal", REPLACE % SLOW),
    Limit("excessive_buffer_overrun_errors", 0, None, "failed", MONITOR + ": fatal", REPLACE % SLOW),
    # IBA wants a bit error rate better than 1e-12, which is so many an hour.
    Limit("symbol_error", 120, 3600, "failed", MONITOR + ", symbol_error_fatal: fatal", REPLACE % SLOW),
    Limit("symbol_error", 10, 1, "degraded", MONITOR, REPLACE % SLOW),
    Limit("link_error_recovery", 5, 60, "degraded", MONITOR, REPLACE % FLAP),
    Limit("port_rcv_errors", 10, 1, "degraded", MONITOR, REPLACE % SLOW),
    Limit(
        "port_xmit_discards", 100, 1, "degraded", MONITOR, "the fabric is congested or a route is wrong: look at the switches (ibdiagnet)"
    ),
    # NVSentinel calls it fatal. NVIDIA's table of mlx5 counters says that the QP's retries were not exceeded: the data arrived.
    Limit("rnr_nak_retry_err", 0, None, "degraded", "any, as NVSentinel has it; not fatal, as NVIDIA describes the counter", PEER),
    Limit("req_rnr_retries_exceeded", 0, None, "degraded", "any: a connection was given up (kernel, mlx5 counters.c)", PEER),
    Limit("req_transport_retries_exceeded", 0, None, "degraded", "any: a connection was given up (kernel, mlx5 counters.c)", PEER),
    Limit("local_ack_timeout_err", 1, 1, "degraded", MONITOR, PEER),
)
COUNTERS = sorted({limit.counter for limit in LIMITS})


def limits(overrides):
    """Return :data:`LIMITS` with ``overrides`` (``{counter: most or None}``) over them; None takes a counter's limits away.

    Of a counter with two limits the first one, which fails a node, is changed and the other goes.
    Raises ValueError for a counter without a limit, or for what is no number.
    """
    found, changed = [], set()
    for name, most in overrides.items():
        if name not in COUNTERS:
            raise ValueError("no limit for %r, expected one of %s" % (name, ", ".join(COUNTERS)))
        if most is not None and (isinstance(most, bool) or not isinstance(most, (int, float)) or not math.isfinite(most) or most < 0):
            raise ValueError("the limit of %s is %r, expected a number from 0 on, or null" % (name, most))
    for limit in LIMITS:
        if limit.counter not in overrides:
            found.append(limit)
        elif overrides[limit.counter] is not None and limit.counter not in changed:
            changed.add(limit.counter)
            found.append(limit._replace(most=overrides[limit.counter], source="the inventory"))
    return found


def exceeded(limit, count, window_s):
    """Return the status of ``count`` in ``window_s`` seconds: ``healthy``, the limit's, or ``degraded`` where it is not certain.

    A limit in an hour is only certainly broken in a window of an hour, or by more than an hour may have in a shorter one. In a shorter one
    its pace is told where chance does not explain it.
    """
    if limit.per_s is None:
        return limit.status if count > limit.most else "healthy"
    allowed = limit.most * window_s / limit.per_s
    if count > limit.most and (window_s < limit.per_s or count > allowed):
        return limit.status
    if window_s < limit.per_s and count > allowed + SIGMAS * math.sqrt(allowed):
        return "degraded"
    return "healthy"
