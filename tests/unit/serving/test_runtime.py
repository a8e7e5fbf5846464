"""Programs start, are watched and end the same way on a node and in a container of it."""

from __future__ import annotations

import os
import time
import uuid
from pathlib import Path

import pytest
from ansible.module_utils.plumbline.core import marks, processes
from ansible.module_utils.plumbline.serving import runtime as runtime_module
from ansible.module_utils.plumbline.serving.runtime import Runtime, RuntimeProblem
from project import ROOT

MOCK = str(ROOT / "tests/mocks/docker/mock-docker")


def runtimes():
    return [pytest.param(Runtime(), id="host"), pytest.param(Runtime("box", MOCK), id="container")]


def wait_for(condition, seconds=5.0):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


@pytest.mark.parametrize("runtime", runtimes())
def test_started_program_is_marked_logged_and_known_by_its_pid(runtime, tmp_path):
    serve_id, log = "test-%s" % uuid.uuid4(), str(tmp_path / "new" / "log")
    argv = ["sh", "-c", "echo says $WORD; sleep 61 & exec sleep 62"]
    pid = runtime.start(argv, serve_id, {"WORD": "hello"}, log)
    try:
        assert wait_for(lambda: processes.command_of(pid) == "sleep 62"), "the program, not its child or a client"
        assert wait_for(lambda: Path(log).read_text() == "says hello\n")
        assert pid in processes.marked(serve_id)
        assert marks.limit_of(pid) == marks.serving(serve_id), "both marks, in a container as well"
    finally:
        processes.stop(serve_id, grace_s=2)
    assert processes.marked(serve_id) == []


@pytest.mark.parametrize("runtime", runtimes())
def test_client_is_polled_and_ended_with_its_children(runtime, tmp_path):
    mark = str(uuid.uuid4())
    with open(tmp_path / "log", "wb") as log:
        client = runtime.client(["sh", "-c", "echo out; sleep 61 & exec sleep 62"], {"CLIENT_MARK": mark}, log)

        def left():
            return [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc")))
                    if processes.environment_of(pid).get("CLIENT_MARK") == mark and processes.is_running(pid)]  # fmt: skip

        assert wait_for(lambda: len([pid for pid in left() if processes.command_of(pid).startswith("sleep")]) == 2)
        assert client.poll() is None
        # A container's client hands its program's words on after the program has begun.
        assert wait_for((tmp_path / "log").read_text)
        client.end()
    assert wait_for(lambda: left() == []), "ending the client alone would leave the program in the container"
    assert (tmp_path / "log").read_text() == "out\n"


@pytest.mark.parametrize("runtime", runtimes())
def test_client_that_ended_by_itself_keeps_its_status(runtime, tmp_path):
    with open(tmp_path / "log", "wb") as log:
        client = runtime.client(["sh", "-c", "exit 7"], {}, log)
        assert wait_for(lambda: client.poll() is not None)
        assert client.end() == 7


def test_values_never_stand_on_a_command_line(tmp_path):
    argv, env = Runtime("box", MOCK)._command(["vllm"], {"HF_TOKEN": "hf_secretsecret"})
    assert "hf_secretsecret" not in " ".join(argv)
    assert env["HF_TOKEN"] == "hf_secretsecret"
    done = Runtime("box", MOCK).run(["sh", "-c", 'echo "$HF_TOKEN $CONTAINER_ENV"'], {"HF_TOKEN": "hf_secretsecret"})
    assert done.stdout.split() == ["hf_secretsecret", "HF_TOKEN"]


def test_the_docker_command_finds_the_engine_that_the_node_names(tmp_path, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "unix:///run/elsewhere.sock")
    argv, env = Runtime("box", MOCK)._command(["vllm"], {"A": "1"})
    assert env["DOCKER_HOST"] == "unix:///run/elsewhere.sock" and "DOCKER_HOST" not in argv, "and the container gets none of it"
    assert "DOCKER_HOST" not in Runtime()._command(["vllm"], {"A": "1"})[1]


def test_refusing_container_is_said_in_its_own_words(tmp_path):
    with pytest.raises(RuntimeProblem, match="No such container: gone"):
        Runtime("gone", MOCK).start(["true"], "x", {}, str(tmp_path / "log"))


def test_program_that_ends_before_it_is_seen_has_no_pid(tmp_path, monkeypatch):
    # As if every look came too late.
    monkeypatch.setattr(runtime_module, "_with_token", lambda token: [])
    assert Runtime("box", MOCK).start(["true"], "test-%s" % uuid.uuid4(), {}, str(tmp_path / "log"), patience_s=0.2) is None


def test_programs_are_looked_for_where_they_would_run(tmp_path):
    tool = tmp_path / "vllm"
    tool.write_text("#!/bin/sh\n")
    assert not Runtime().has_program(str(tool)), "not executable"
    tool.chmod(0o755)
    assert Runtime().has_program(str(tool))
    assert Runtime("box", MOCK).has_program("sh") and not Runtime("box", MOCK).has_program("no-such-program")
    assert Runtime().python_beside("/venv/bin/vllm") == "/venv/bin/python"
    assert Runtime("box", MOCK).python_beside("vllm") == "python3"
