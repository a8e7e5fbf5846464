"""GPUs are free when the driver says so, before a server starts and after it ended."""

from __future__ import annotations

import json

import pytest
from ansible.module_utils.plumbline.machine import gpu_memory, nvidia
from project import H200

# Columns as in the capture h200/nvidia-smi.query.csv, the four that are asked for here.
TEXT = """index, name, memory.total [MiB], memory.used [MiB]
0, NVIDIA H200, 143771 MiB, 0 MiB
1, NVIDIA H200, 143771 MiB, 70312 MiB
2, NVIDIA H200, 143771 MiB, [N/A]
"""


def smi(folder, text, code=0):
    tool = folder / "nvidia-smi"
    tool.write_text("#!/bin/sh\ncat <<'END'\n%sEND\nexit %d\n" % (text, code))
    tool.chmod(0o755)
    return str(tool)


def test_busy_gpus_are_named_and_unknown_use_is_busy():
    gpus = gpu_memory.parse(TEXT)
    assert gpus[0] == {"index": 0, "name": "NVIDIA H200", "total_mib": 143771, "used_mib": 0}
    assert gpu_memory.busy(gpus, 1024) == ["GPU 1 uses 70312 MiB of 143771", "GPU 2 uses an unknown number of MiB of 143771"]


def test_waits_until_the_driver_has_freed_the_memory(tmp_path):
    tool, slept = smi(tmp_path, TEXT), []

    def sleep(seconds):
        slept.append(seconds)
        if len(slept) == 2:
            smi(tmp_path, TEXT.replace("70312", "12").replace("[N/A]", "3 MiB"))

    gpus, left = gpu_memory.wait_until_free(tool, 1024, 60, sleep=sleep)
    assert left == [] and len(slept) == 2 and gpus[1]["used_mib"] == 12


def test_says_what_is_left_when_the_time_is_over(tmp_path):
    _gpus, left = gpu_memory.wait_until_free(smi(tmp_path, TEXT), 1024, 0)
    assert len(left) == 2


def test_driver_that_fails_is_an_error_and_no_driver_is_no_gpu(tmp_path, monkeypatch):
    with pytest.raises(nvidia.NvidiaError, match="ended with 9: NVIDIA-SMI has failed"):
        gpu_memory.read(smi(tmp_path, "NVIDIA-SMI has failed\n", code=9))
    monkeypatch.setattr(nvidia, "find_tool", lambda path=None: None)
    assert gpu_memory.read(None) == [] and gpu_memory.users(None) == []


def test_pids_on_gpus(tmp_path):
    assert gpu_memory.users(smi(tmp_path, "pid, used_gpu_memory [MiB]\n4711, 70000 MiB\n[N/A], 1 MiB\n")) == [4711]


@pytest.mark.parametrize(("name", "worker"), [("qwen7b", 1418), ("qwen32b", 1389)])
def test_a_real_h200_before_with_and_after_a_server(name, worker, tmp_path):
    (idle,) = gpu_memory.parse((H200 / "nvidia-smi.memory.idle.csv").read_text())
    (serving,) = gpu_memory.parse((H200 / ("nvidia-smi.memory.%s.csv" % name)).read_text())
    assert idle == {"index": 0, "name": "NVIDIA H200", "total_mib": 143771, "used_mib": 0}
    assert gpu_memory.busy([idle], 0) == []
    assert 130000 < serving["used_mib"] < serving["total_mib"]
    assert gpu_memory.busy([serving], 1024) == ["GPU 0 uses %d MiB of 143771" % serving["used_mib"]]
    assert gpu_memory.users(smi(tmp_path, (H200 / ("nvidia-smi.apps.%s.csv" % name)).read_text())) == [worker]
    ended = json.loads((H200 / ("plumbline.vllm_processes.%s.txt" % name)).read_text().partition("=> ")[2])
    assert worker in [process["pid"] for process in ended["ended"]]
    assert ended["gpus"] == [idle], "the module returned after the driver had freed the memory"


@pytest.mark.parametrize(
    "text", ["No devices were found\n", TEXT.replace("0, NVIDIA", "[Unknown Error], NVIDIA", 1), TEXT.replace("143771 MiB", "1,4 MiB")]
)
def test_what_is_no_table_of_gpus_is_an_error(text):
    with pytest.raises(nvidia.NvidiaError):
        gpu_memory.parse(text)


def test_no_table_of_processes_is_no_process(tmp_path):
    assert gpu_memory.users(smi(tmp_path, "No devices were found\n")) == []


def test_who_holds_memory_is_named_with_how_much_and_of_which_gpu(tmp_path):
    """Columns as nvidia-smi 580 prints them; a process of another container has no name."""
    text = "pid, used_gpu_memory [MiB], process_name, gpu_uuid\n4711, 70000 MiB, VLLM::Worker_TP0, GPU-1\n12, [N/A], [Not Found], GPU-2\n"
    assert gpu_memory.holders(smi(tmp_path, text)) == [
        {"pid": 4711, "name": "VLLM::Worker_TP0", "used_mib": 70000, "uuid": "GPU-1"},
        {"pid": 12, "name": "", "used_mib": None, "uuid": "GPU-2"},
    ]  # fmt: skip
