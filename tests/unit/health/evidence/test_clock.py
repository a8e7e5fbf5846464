"""The clock: what the kernel says, and the best of several exchanges."""

from __future__ import annotations

from ansible.module_utils.plumbline.health.evidence import clock


def test_skew_takes_the_shortest_round_trip():
    samples = [
        {"sent": 100.0, "node": 107.0, "received": 104.0},
        {"sent": 200.0, "node": 205.01, "received": 200.02},
        {"sent": 300.0, "node": 305.0, "received": 299.0},  # the controller's clock went back: worthless
    ]
    assert clock.clock_skew(samples) == {"skew_ms": 5000.0, "bound_ms": 10.0, "samples": 3}
    assert clock.clock_skew([]) is None
    assert clock.clock_skew(samples[2:]) is None


def test_kernel_clock_is_read():
    seen = clock.kernel_clock()
    assert seen["error"] or (isinstance(seen["synchronised"], bool) and seen["max_error_ms"] >= 0)
