"""A node's answer: its Python, and the GPUs that it may use."""

from __future__ import annotations

import preflight_node
import pytest
from ansible.module_utils.plumbline.machine import nvidia
from module_run import run_module

UUID = "GPU-0b000000-1111-2222-3333-444444444444"


@pytest.fixture(autouse=True)
def one_gpu(tmp_path, monkeypatch):
    tool = tmp_path / "nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'index, uuid, pci.bus_id'\necho '0, %s, 00000001:00:00.0'\n" % UUID)
    tool.chmod(0o755)
    monkeypatch.setattr(nvidia, "find_tool", lambda path=None: str(tool))
    yield tool
    nvidia.ONLY.clear()


@pytest.mark.parametrize("gpus", [[0], "0", [UUID], UUID])
def test_chosen_gpus_that_are_there_are_told(gpus, capsys):
    assert [gpu["uuid"] for gpu in run_module(preflight_node, capsys, gpus=gpus)["gpus"]] == [UUID]


def test_no_choice_is_no_question(capsys):
    assert run_module(preflight_node, capsys)["gpus"] == []


@pytest.mark.parametrize("gpus, words", [
    ([0, 0], "named twice"), ("all", "is no GPU"), ([1], "names 1, which this node has not; it has 0 (%s)" % UUID),
    ([0, UUID], "do not go together"),
])  # fmt: skip
def test_a_wrong_choice_is_named(gpus, words, capsys):
    out = run_module(preflight_node, capsys, gpus=gpus)
    assert out["failed"] and "plumbline_gpus" in out["msg"] and words in out["msg"]


def test_a_choice_on_a_node_whose_driver_does_not_answer_is_named(one_gpu, capsys):
    one_gpu.write_text("#!/bin/sh\necho 'No devices were found' >&2\nexit 6\n")
    assert "cannot be seen: nvidia-smi ended with 6: No devices were found" in run_module(preflight_node, capsys, gpus=[0])["msg"]
