"""What is left of a serving run ends, whatever the engine and the driver say."""

from __future__ import annotations

import importlib

import pytest
from ansible.module_utils.plumbline.core import processes
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


def test_survivors_are_named_and_fail_after_the_containers_were_removed(tmp_path, monkeypatch, capsys):
    def stop(*_given):
        raise processes.Survivors([(4711, "VLLM::EngineCore"), (4712, "ray::IDLE")], [4711])

    monkeypatch.setattr(vllm_processes.processes, "stop", stop)
    monkeypatch.setattr(processes, "is_running", lambda pid: pid == 4711)
    monkeypatch.setattr(processes, "command_of", lambda _pid: "VLLM::EngineCore --api-key sk-secretsecretsecret")
    monkeypatch.setattr(processes, "stat_of", lambda _pid: processes.Stat("D", 1, 1, 1))
    removed = []
    monkeypatch.setattr(vllm_processes, "containers", lambda *_given: ["plumbline-b"])
    monkeypatch.setattr(vllm_processes, "docker", lambda *words: removed.append(words))
    result = run_module(vllm_processes, capsys)
    assert result["failed"] and removed and "secretsecret" not in str(result)
    assert result["survivors"] == ["4711 VLLM::EngineCore --api-key [scrubbed] (state D: in an uninterruptible call)"]
    assert result["survivors"][0] in result["msg"] and [item["pid"] for item in result["ended"]] == [4712]
