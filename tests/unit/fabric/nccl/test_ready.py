"""Which GPUs nccl-tests take, where a node may use some of them."""

from __future__ import annotations

import pytest
from ansible.module_utils.plumbline.fabric.nccl import ready
from ansible.module_utils.plumbline.machine import gpu_choice

CHOSEN = [{"index": 2, "uuid": "GPU-2", "bus_id": "0002:00:00.0"}, {"index": 3, "uuid": "GPU-3", "bus_id": "0003:00:00.0"}]


def test_the_ranks_are_as_many_as_were_chosen(monkeypatch):
    monkeypatch.setattr(ready.nccl_run, "gpus", lambda: 8)
    assert [ready.find_gpus(0), ready.find_gpus(0, 2), ready.find_gpus(1, 2)] == [8, 2, 1]
    with pytest.raises(ready.NotReady) as missing:
        ready.find_gpus(4, 2)
    assert missing.value.args[:3] == ("collective.gpu", "failed", "2 GPU(s)")


def test_nodes_with_different_gpus_are_refused_since_mpirun_has_one_environment(monkeypatch):
    monkeypatch.setattr(gpu_choice, "look_only_at", lambda choice, tool=None: CHOSEN if choice else [])
    assert ready.find_chosen([[2, 3], "2,3"]) == CHOSEN and ready.find_chosen([[], None]) == ready.find_chosen([]) == []
    for choices in ([[2], [3]], [[2], []]):
        with pytest.raises(ready.NotReady) as refused:
            ready.find_chosen(choices)
        assert refused.value.args[:2] == ("collective.gpu_choice", "failed")
    with pytest.raises(ready.NotReady):
        ready.find_chosen(["all"])
