"""The module on two mocked GPUs and with a stand-in for torch: what fails is named beside what was measured."""

from __future__ import annotations

import json
import shutil

import gpu_baseline
import pytest
from ansible.module_utils.plumbline.controller.report.data import Schemas
from ansible.module_utils.plumbline.gpus import program
from ansible.module_utils.plumbline.machine import nvidia
from clocks_mock import MockGpus
from module_run import run_module
from project import ROOT, SCHEMAS

KNOWN = {"NVIDIA H200": {"hbm_read_gbps": 4322, "hbm_read_min_gbps": 4106, "source": "measured"}}


@pytest.fixture
def world(tmp_path, monkeypatch, capsys):
    """Return ``run(plan, **arguments)``, which returns the fact; two GPUs, or none with ``gpus=False``."""
    shutil.copy(ROOT / "tests/mocks/gpus/stand-in-python", tmp_path / "python")
    monkeypatch.setattr(program, "SLACK_S", 1)
    monkeypatch.setattr(gpu_baseline.clocks_window, "Window", _window(tmp_path, gpu_baseline.clocks_window.Window))
    monkeypatch.setattr(gpu_baseline.processes, "marked", list)
    mock = MockGpus(tmp_path)
    mock.mood(active="0x0000000000000004", sm=1335)

    def run(plan=None, gpus=True, chosen=(), **more):
        (tmp_path / "plan.json").write_text(json.dumps(plan or {}))
        if gpus:
            more.setdefault("nvidia_smi", str(mock.tool))
        given = {"python": str(tmp_path / "python"), "matrix_s": 0.1, "memory_s": 0.02, "transfer_s": 0.02, "start_s": 20, "known": KNOWN}
        result = run_module(gpu_baseline, capsys, **{**given, "gpus": list(chosen), **more})
        assert result["changed"] is False, result
        fact = result["fact"]
        assert Schemas(str(SCHEMAS)).problems("gpu_baseline", fact) == []
        return fact

    run.mock = mock
    yield run
    nvidia.ONLY.clear()


def _window(folder, kind):
    return lambda *given, **more: kind(*given, state_dir=str(folder / "run"), **more)


def checks(fact):
    return {item["check"]: item["status"] for item in fact["reasons"]}


def bad(fact):
    return [(item["check"], item["status"], item["seen"]) for item in fact["reasons"] if item["status"] not in ("healthy", "skipped")]


def test_two_good_gpus_are_measured_at_once_and_pass(world):
    fact = world()
    assert fact["status"] == "healthy", bad(fact)
    first, second = fact["measured"]["gpus"]
    assert [first["index"], second["index"]] == [0, 1] and first["uuid"].startswith("GPU-0000") and first["model"] == "NVIDIA H200"
    assert first["read_gbps"] == 4310 and first["copy_gbps"] == 4000 and first["bf16_tflops"] == 700 and first["h2d_gbps"] == 55
    assert first["h2d_turns_gbps"] == [55, 55, 55] and first["d2h_turns_gbps"] == [54, 54, 54]
    assert fact["measured"]["peer_gbps"] == [[None, 380.0], [380.0, None]] and fact["measured"]["cpu"] is None
    assert checks(fact)["gpu_baseline.read.baseline"] == checks(fact)["gpu_baseline.hash"] == "healthy"
    assert fact["context"]["torch_version"] == "2.11.0" and set(fact["context"]["clocks"]["gpus"]) == {"0001:00:00.0", "0002:00:00.0"}


def test_one_wrong_element_and_a_slow_read_take_the_node_out(world):
    fact = world({"1": {"exact_wrong": 1, "read_gbps": 4000}})
    told = {check: seen for check, status, seen in bad(fact) if status == "failed"}
    assert fact["status"] == "failed"
    assert told["gpu_baseline.values"] == "GPU 1: 1 of 64 elements of a product are not what the processor computed"
    assert told["gpu_baseline.read.baseline"] == "GPU 1: 4000 GB/s"
    assert "no majority" in next(seen for check, _status, seen in bad(fact) if check == "gpu_baseline.read")


@pytest.mark.parametrize("plan, status, told", [
    ({"fault": "kill", "at": "read"}, "incomplete", "GPU 1: killed by SIGKILL at reading"),
    ({"fault": "hang", "at": "copy"}, "failed", "GPU 1: hung at copying, given up after"),
    ({"fault": "error: CUDA error: uncorrectable ECC error encountered", "at": "read"}, "failed", "uncorrectable ECC"),
    ({"fault": "error: CUDA out of memory. Tried to allocate 4.00 GiB", "at": "read"}, "incomplete", "out of memory at reading"),
    ({"fault": "error: No module named 'torch'", "at": "torch"}, "incomplete", "No module named"),
])  # fmt: skip
def test_a_gpu_that_does_not_come_through_is_named_and_the_rest_is_kept(world, plan, status, told):
    fact = world({"1": plan})
    assert fact["status"] == status
    assert told in next(seen for check, _status, seen in bad(fact) if check == "gpu_baseline.run")
    good, lost = fact["measured"]["gpus"]
    assert good["read_gbps"] == 4310 and good["d2h_gbps"] == 54, "the other GPU went on"
    assert lost["d2h_gbps"] is None and (lost["bf16_tflops"] == 700 or plan["at"] == "torch"), "what it had measured stays"


def test_a_program_that_is_killed_leaves_what_it_measured(world):
    fact = world({"1": {"fault": "kill the program", "at": "read"}})
    assert ("gpu_baseline.program", "incomplete") in [item[:2] for item in bad(fact)] and fact["status"] == "incomplete"
    assert fact["measured"]["gpus"][0]["bf16_tflops"] == 700


def test_only_the_chosen_gpu_is_measured(world):
    fact = world(chosen=[1])
    assert [row["index"] for row in fact["measured"]["gpus"]] == [1] and fact["measured"]["peer_gbps"] == []
    assert checks(fact)["gpu_baseline.hash"] == "skipped" and fact["status"] == "healthy"


def test_a_gpu_in_use_is_not_measured(world, monkeypatch):
    world.mock.mood(used_mib=60000)
    fact = world()
    assert fact["status"] == "incomplete" and "GPU 0 uses 60000 MiB" in bad(fact)[0][2] and fact["measured"] == {}
    monkeypatch.setattr(
        gpu_baseline.gpu_memory, "holders", lambda _tool: [{"pid": 7, "name": "VLLM::Worker", "used_mib": 60000, "uuid": None}]
    )
    assert "held by 7 VLLM::Worker" in bad(world())[0][2]
    monkeypatch.setattr(gpu_baseline.processes, "marked", lambda: [7, 8])
    fact = world()
    assert fact["status"] == "skipped" and fact["reasons"][0]["seen"] == "a layout serves on these GPUs: not measured"


def test_without_a_gpu_the_processors_are_measured(world, monkeypatch):
    monkeypatch.setattr(nvidia, "presence", lambda *_given: {"pci": [], "driver": False, "tool": None})
    fact = world(gpus=False)
    assert fact["status"] == "healthy", bad(fact)
    assert fact["measured"]["gpus"] == [] and fact["measured"]["cpu"]["read_gbps"] == 4310 and fact["measured"]["cpu"]["h2d_gbps"] is None
    assert fact["context"]["clocks"] == {"status": "skipped", "seen": "no GPU"}


def test_no_python_and_one_that_does_not_run_the_program_are_incomplete(world, tmp_path):
    fact = world(python=str(tmp_path / "none"))
    assert bad(fact) == [("gpu_baseline.torch", "incomplete", "no executable %s" % (tmp_path / "none"))]
    broken = tmp_path / "broken"
    broken.write_text("#!/bin/sh\necho 'cannot open shared object file'; exit 3\n")
    broken.chmod(0o755)
    fact = world(python=str(broken))
    assert fact["status"] == "incomplete" and "ended with 3 and left nothing: cannot open shared object file" in bad(fact)[0][2]


def test_check_mode_starts_nothing(world):
    fact = world(_ansible_check_mode=True)
    assert fact["status"] == "skipped" and checks(fact) == {"check_mode": "skipped"}


def test_wrong_arguments_are_told(capsys):
    assert "matrix_s is 0" in run_module(gpu_baseline, capsys, matrix_s=0)["msg"]
    assert "memory_bytes is 0" in run_module(gpu_baseline, capsys, memory_bytes=0)["msg"]


def test_in_a_container_the_image_brings_torch_and_nothing_is_pulled():
    argv = program.command("/tmp/f", "", "vllm/vllm-openai@sha256:1", "docker", "plumbline.serve", on_gpus=True)
    words = " ".join(argv)
    assert words.startswith("docker run --rm --name plumbline-gpu-baseline --label plumbline.serve=gpu_baseline --network none")
    assert "--pull never --gpus all --volume /tmp/f:/tmp/f --entrypoint sh vllm/vllm-openai@sha256:1 -c" in words
    assert argv[-3:] == ["/tmp/f/torch_worker.py", "--folder", "/tmp/f"]
    assert "--gpus" not in program.command("/tmp/f", "", "image", "docker", "plumbline.serve", on_gpus=False)


def test_no_program_outlives_its_bound():
    seconds = {"matrix": 10, "memory": 2, "transfer": 0.25, "peer": 0.05, "start": 180}
    assert program.longest_s(8, 8, seconds) < 1800, "roles/gpu_baseline ends the task after gpu_baseline_timeout_s"
