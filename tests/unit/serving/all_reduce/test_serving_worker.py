"""What of the worker needs neither torch nor vLLM: its data, and how it sees which kernel ran."""

from __future__ import annotations

import types

import pytest
from ansible.module_utils.plumbline.serving.all_reduce import serving_worker


@pytest.mark.parametrize("dtype", sorted(serving_worker.EXACT))
@pytest.mark.parametrize("ranks", [2, 3, 4, 8, 16, 64])
def test_every_sum_is_exact(ranks, dtype):
    period = serving_worker.period_of(ranks, dtype)
    for turn in (0, 1):
        sums = [sum(serving_worker.contribution(rank, index, turn, period) for rank in range(ranks)) for index in range(period)]
        assert max(sums) <= serving_worker.EXACT[dtype]


@pytest.mark.parametrize("ranks", [2, 4, 8])
def test_a_missing_rank_a_shifted_block_and_the_turn_before_show(ranks):
    period = serving_worker.period_of(ranks, "bfloat16")

    def sums(who, turn, shift=0):
        return [sum(serving_worker.contribution(rank, index + shift, turn, period) for rank in who) for index in range(period)]

    right = sums(range(ranks), 1)
    for rank in range(ranks):
        without = sums([other for other in range(ranks) if other != rank], 1)
        assert all(one != other for one, other in zip(right, without))
    assert sums(range(ranks), 1, shift=1) != right and sums(range(ranks), 0) != right


class Communicator:
    """Stands in for one of vLLM's in this test only."""

    def __init__(self, answer=True):
        self.answer, self.disabled = answer, False

    def all_reduce(self, tensor, out_tensor=None):
        return tensor if self.answer else None

    def custom_all_reduce(self, tensor):
        return self.all_reduce(tensor)


def watched(**communicators):
    dist = types.SimpleNamespace(all_reduce=lambda tensor: None, get_backend=lambda: "nccl")
    parent = types.SimpleNamespace(**communicators)
    return parent, dist, serving_worker.Watch(parent, dist)


def test_the_communicator_that_gave_the_result_is_the_path():
    parent, _dist, watch = watched(ca_comm=Communicator(), pynccl_comm=Communicator(), qr_comm=None, device="cuda:0")
    assert watch.of(lambda: [parent.ca_comm.custom_all_reduce(1) for _number in range(3)]) == ([1, 1, 1], "custom")
    assert watch.of(lambda: parent.pynccl_comm.all_reduce(2)) == (2, "nccl")
    assert watch.of(lambda: parent.pynccl_comm.all_reduce(2, 3)) == (2, "nccl_symm_mem")


def test_one_that_refused_is_not_the_path():
    parent, dist, watch = watched(symm_mem_comm=Communicator(answer=False), pynccl_comm=Communicator(answer=False))

    def reduce():
        if parent.symm_mem_comm.all_reduce(1) is None and parent.pynccl_comm.all_reduce(1) is None:
            dist.all_reduce(1)

    assert watch.of(reduce)[1] == "torch"


def test_what_nobody_knows_is_named_and_what_nobody_saw_is_unknown():
    parent, _dist, watch = watched(brand_new_comm=Communicator())
    assert watch.of(lambda: parent.brand_new_comm.all_reduce(1))[1] == "brand_new"
    assert watch.of(lambda: 1) == (1, "unknown")


def test_what_vllm_set_up_is_kept():
    off = Communicator()
    off.disabled = True
    parent = types.SimpleNamespace(ca_comm=off, pynccl_comm=Communicator(), symm_mem_comm=None)
    assert serving_worker.communicators(parent) == {"custom": "off", "nccl": "on"}
    assert serving_worker.communicators(None) == {}
