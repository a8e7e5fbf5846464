"""What is left of a serving run ends, whatever the engine and the driver say."""

from __future__ import annotations

import importlib

import pytest
from ansible.module_utils.plumbline.machine import gpu_memory, nvidia
from module_run import run_module

vllm_processes = importlib.import_module("vllm_processes")
OLD = "Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?"
NEW = (
    "failed to connect to the docker API at unix:///var/run/docker.sock; check if the path is correct and if the daemon is running: "
    "dial unix /var/run/docker.sock: connect: no such file or directory"
)


def engine(folder, text, code):
    tool = folder / "docker"
    tool.write_text("#!/bin/sh\necho '%s' >&2\nexit %d\n" % (text, code))
    tool.chmod(0o755)
    return str(tool)


@pytest.mark.parametrize("said", [OLD, NEW])
def test_an_engine_that_does_not_run_has_no_container(tmp_path, said):
    assert vllm_processes.containers(engine(tmp_path, said, 1), None) == []


def test_an_engine_that_refuses_keeps_no_process_alive(tmp_path, monkeypatch, capsys):
    stopped = []
    monkeypatch.setattr(vllm_processes.processes, "stop", lambda *given: stopped.append(given) or [])
    result = run_module(vllm_processes, capsys, docker=engine(tmp_path, "permission denied", 1))
    assert "permission denied" in result["msg"] and len(stopped) == 1


def test_a_driver_that_hangs_is_said_and_does_not_end_the_module(tmp_path, monkeypatch, capsys):
    def hangs(*_given):
        raise nvidia.NvidiaError("nvidia-smi did not answer within 60 s")

    monkeypatch.setattr(vllm_processes.processes, "stop", lambda *_given: [(4711, "vllm serve")])
    monkeypatch.setattr(gpu_memory, "read", hangs)
    monkeypatch.setattr(gpu_memory, "users", hangs)
    result = run_module(vllm_processes, capsys, docker=str(tmp_path / "none"))
    assert "did not answer" in result["msg"] and result["ended"][0]["pid"] == 4711
