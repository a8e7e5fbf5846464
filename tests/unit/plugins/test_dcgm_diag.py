"""A node whose health said that it has no GPU is not asked for DCGM's diagnostic, unless somebody asks for it."""

from __future__ import annotations

import pytest
from action_run import run_action
from ansible.module_utils.plumbline.core.fact import reason
from ansible.plugins.action import ActionBase


@pytest.fixture
def asked(monkeypatch):
    """Return the list of the arguments with which the node was asked."""
    found = []
    monkeypatch.setattr(ActionBase, "_execute_module", lambda self, module_args, **_more: found.append(module_args) or {"changed": False})
    return found


def task_vars(*reasons):
    return {"node_health_result": {"fact": {"reasons": list(reasons)}}}


NONE = reason("gpu", "skipped", "no GPU", "none expected")


def test_without_a_gpu_it_is_skipped_and_leaves_no_fact(asked):
    answer = run_action("dcgm_diag", {"level": 3}, task_vars(NONE))
    assert answer["skipped"] and "fact" not in answer and asked == []


@pytest.mark.parametrize("reasons", [(), (reason("gpu.count", "healthy", "8"),), (reason("gpu", "failed", "no GPU", "8 GPUs"),)])
def test_in_any_doubt_the_node_is_asked(asked, reasons):
    run_action("dcgm_diag", {"level": 1}, task_vars(*reasons))
    assert asked == [{"level": 1}]


@pytest.mark.parametrize("given", [{"required": True}, {"nvidia_smi": "/x/nvidia-smi"}, {"gpus": [0]}])
def test_who_asks_is_answered_by_the_node(asked, given):
    run_action("dcgm_diag", given, task_vars(NONE))
    assert asked == [given]
