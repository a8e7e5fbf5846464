"""Who serves on the node is told by the lock, as long as its holder comes back."""

from __future__ import annotations

import dcgm_diag
from ansible.module_utils.plumbline.serving import lock

HOLDER = {"token": "t", "run": "20260101", "user": "a", "controller": "c", "pid": 1, "layout": None}


def test_a_holder_counts_until_it_has_not_come_back_for_long(tmp_path):
    path = str(tmp_path / "lock")
    assert dcgm_diag.who_serves(path) is None
    lock.take(path, HOLDER, busy=False, now=1000.0)
    assert "20260101" in dcgm_diag.who_serves(path, now=1010.0)
    assert dcgm_diag.who_serves(path, now=1000.0 + lock.STALE_S + 1) is None
    lock.release(path, "t", kept=False)
    assert dcgm_diag.who_serves(path, now=1010.0) is None
