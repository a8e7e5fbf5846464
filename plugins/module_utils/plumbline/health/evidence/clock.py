"""The clock of a node: what the kernel says of it, and what comparing it with the controller's showed."""

from __future__ import annotations

import ctypes
import os

STA_UNSYNC = 0x0040  # linux/timex.h
STA_NANO = 0x2000


class Timex(ctypes.Structure):
    """``struct timex`` of linux/timex.h; ``modes`` 0 only reads."""

    _fields_ = [
        ("modes", ctypes.c_uint), ("offset", ctypes.c_long), ("freq", ctypes.c_long), ("maxerror", ctypes.c_long),
        ("esterror", ctypes.c_long), ("status", ctypes.c_int), ("constant", ctypes.c_long),
        ("precision", ctypes.c_long), ("tolerance", ctypes.c_long), ("time_s", ctypes.c_long),
        ("time_frac", ctypes.c_long), ("tick", ctypes.c_long), ("rest", ctypes.c_long * 32),
    ]  # fmt: skip


def kernel_clock():
    """Return what adjtimex(2) says: ``synchronised``, ``offset_ms``, ``max_error_ms``; ``error`` where it fails."""
    state = Timex()
    try:
        result = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.byref(state))
    except (AttributeError, OSError) as error:
        return {"error": "adjtimex is not available: %s" % error}
    if result < 0:
        return {"error": "adjtimex: %s" % os.strerror(ctypes.get_errno())}
    return {
        "error": None,
        "synchronised": not state.status & STA_UNSYNC,
        "offset_ms": state.offset / (1e6 if state.status & STA_NANO else 1e3),
        "max_error_ms": state.maxerror / 1e3,
    }


def clock_skew(samples):
    """Return ``{"skew_ms", "bound_ms", "samples"}`` of the best exchange with the controller; None without one.

    A sample is ``{"sent", "node", "received"}``: the controller's clock, the node's, the controller's again, in
    seconds. The node read its clock somewhere between, so skew = node - (sent + received) / 2, wrong by at most
    half the round trip (the estimate of NTP, RFC 5905 section 8). The shortest round trip is the best one.
    """
    best = None
    for sample in samples or []:
        round_trip = sample["received"] - sample["sent"]
        if round_trip < 0:
            continue  # the controller's clock was set meanwhile: worthless
        skew = sample["node"] - (sample["sent"] + sample["received"]) / 2
        if best is None or round_trip / 2 * 1000 < best["bound_ms"]:
            best = {"skew_ms": round(skew * 1000, 3), "bound_ms": round(round_trip / 2 * 1000, 3)}
    if best is not None:
        best["samples"] = len(samples)
    return best
