"""The clock of a node."""

from __future__ import annotations

from ...core.fact import reason
from .bound import NO_EXPECTATION


def check_clock(evidence, expect):
    """The node's clock: against the controller's, and whether the kernel calls it disciplined."""
    found = [_skew(evidence["clock_skew"], expect.get("clock_skew_max_ms"))]
    kernel, required = evidence["kernel_clock"], expect.get("clock_sync_required")
    threshold = "disciplined by NTP or PTP" if required else "not required for this SKU: the skew decides"
    if kernel["error"]:
        found.append(reason("clock.sync", "incomplete" if required else "skipped", kernel["error"], threshold))
    elif kernel["synchronised"]:
        text = "the kernel's clock is disciplined, error at most %.1f ms" % kernel["max_error_ms"]
        found.append(reason("clock.sync", "healthy", text, threshold))
    else:
        found.append(
            reason(
                "clock.sync",
                "degraded" if required else "skipped",
                "nothing disciplines the kernel's clock (STA_UNSYNC)",
                threshold,
                "start chrony (with rtcsync) or systemd-timesyncd" if required else None,
            )
        )
    return found


def _skew(seen, limit):
    """Judge only what the measurement can tell: a skew within its own uncertainty of the limit is incomplete."""
    threshold = NO_EXPECTATION if limit is None else "within ±%g ms" % limit
    if seen is None:
        return reason(
            "clock.skew",
            "incomplete",
            "the controller's clock was not compared with the node's",
            threshold,
            "run the node_health role: its action plugin compares them",
        )
    text = "%+.1f ms against the controller, ±%.1f ms" % (seen["skew_ms"], seen["bound_ms"])
    if limit is None:
        return reason("clock.skew", "skipped", text, threshold)
    if abs(seen["skew_ms"]) + seen["bound_ms"] <= limit:
        return reason("clock.skew", "healthy", text, threshold)
    if abs(seen["skew_ms"]) - seen["bound_ms"] > limit:
        return reason("clock.skew", "failed", text, threshold, "correct the clock of the node or of the controller (chronyc)")
    return reason("clock.skew", "incomplete", text, threshold, "run again: the connection was too slow to tell")
