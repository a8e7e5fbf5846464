"""One variable names a node's GPUs; what cannot be meant is a sentence, and nvidia-smi and programs see no others."""

from __future__ import annotations

import pytest
from ansible.module_utils.plumbline.machine import gpu_choice, gpu_memory, nvidia

FIRST, SECOND = "GPU-0a000000-1111-2222-3333-444444444444", "GPU-0b000000-1111-2222-3333-444444444444"
SMI = """#!/bin/sh
echo "$@" >> "$0.calls"
case "$*" in
*--query-gpu=index,uuid*) echo "index, uuid, pci.bus_id"; echo "0, %s, 00000001:00:00.0"; echo "1, %s, 00000002:00:00.0";;
*) echo "index, name, memory.total [MiB], memory.used [MiB], uuid"; echo "1, NVIDIA H200, 143771 MiB, 0 MiB, %s";;
esac
""" % (FIRST, SECOND, SECOND)


@pytest.fixture
def tool(tmp_path):
    path = tmp_path / "nvidia-smi"
    path.write_text(SMI)
    path.chmod(0o755)
    yield str(path)
    nvidia.ONLY.clear()


@pytest.mark.parametrize("value, choice", [
    ([], []), (None, []), ("", []), ([0, 1], ["0", "1"]), ("0,1", ["0", "1"]), (1, ["1"]), (["01"], ["1"]),
    (["GPU-" + FIRST[4:].upper()], [FIRST]),
])  # fmt: skip
def test_a_choice_is_indexes_or_uuids(value, choice):
    assert gpu_choice.read(value) == choice


@pytest.mark.parametrize("value, words", [
    ([0, 0], "0 is named twice"), (["0", 0], "named twice"), ("all", "'all' is no GPU"), ([-1], "-1 is no GPU"), ([True], "True is no GPU"),
    ([0, FIRST], "do not go together"), ({"a": 1}, "expected a list"), (["GPU-12"], "'GPU-12' is no GPU"),
    ([1.5], "1.5 is no GPU"), (True, "True is no GPU"),
])  # fmt: skip
def test_what_cannot_be_meant_is_a_sentence(value, words):
    with pytest.raises(gpu_choice.WrongChoice, match="plumbline_gpus is .*" + words):
        gpu_choice.read(value)


def test_a_gpu_that_is_not_there_is_named_with_those_that_are(tool):
    with pytest.raises(gpu_choice.WrongChoice, match=r"names 7, which this node has not; it has 0 \(GPU-0a0.*, 1 \(GPU-0b0"):
        gpu_choice.look_only_at([0, 7], tool)


@pytest.mark.parametrize("value", [[1], [SECOND]])
def test_programs_and_nvidia_smi_see_only_the_chosen(tool, value):
    chosen = gpu_choice.look_only_at(value, tool)
    assert chosen == [{"index": 1, "uuid": SECOND, "bus_id": "0002:00:00.0"}]
    assert gpu_choice.environment(chosen) == {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": "1"}
    assert gpu_memory.read(tool)[0]["uuid"] == SECOND
    with open(tool + ".calls") as calls:
        assert calls.read().splitlines()[-1].endswith("-i " + SECOND)


def test_without_a_choice_all_are_seen_and_the_driver_is_not_asked(tool, tmp_path):
    assert gpu_choice.look_only_at([], tool) == [] and gpu_choice.environment([]) == {}
    assert not (tmp_path / "nvidia-smi.calls").exists()
