"""A forked call is the program with its arguments in a process of its own, as one that was started alone; nothing is left of either."""

from __future__ import annotations

import json
import os
import signal
import sys
import time
import types

import pytest
from ansible.module_utils.plumbline.benchmark import calls as calls_module
from ansible.module_utils.plumbline.benchmark.calls import Calls
from ansible.module_utils.plumbline.core import processes
from ansible.module_utils.plumbline.serving.runtime import Runtime
from project import ROOT

MOCK_DOCKER = str(ROOT / "tests/mocks/docker/mock-docker")
# What a call sees of itself. `vllm` stands for what takes long to import.
PROGRAM = """#!%s
import json, os, subprocess, sys, time
imported = "vllm" in sys.modules
import vllm
if "--hang" in sys.argv:
    subprocess.Popen(["sleep", "71"])
    print("hangs", flush=True)
    time.sleep(72)
if "--fail" in sys.argv:
    raise SystemExit(3)
if "--raise" in sys.argv:
    raise KeyError("no such prompt")
print(json.dumps({"name": __name__, "argv": sys.argv, "path": sys.path[0], "pid": os.getpid(), "parent": os.getppid(),
                  "word": os.environ.get("WORD"), "imported": imported, "stdin": sys.stdin.read(), "imports": vllm.COUNT}))
"""
VLLM = "import os\nCOUNT = os.environ.setdefault('IMPORTS', str(os.getpid()))\nprint('noise of an import')\n"


@pytest.fixture(params=["host", "container"])
def made(request, tmp_path, monkeypatch):
    """Return a function that makes ``Calls`` of a program on the node and in a container."""
    monkeypatch.setattr(calls_module, "Runtime", lambda container: Runtime(container, MOCK_DOCKER))
    (tmp_path / "vllm").mkdir()
    (tmp_path / "vllm/__init__.py").write_text(VLLM)
    (tmp_path / "work").mkdir()

    def make(text=PROGRAM % sys.executable, preload=True):
        program = tmp_path / "program"
        program.write_text(text)
        program.chmod(0o755)
        made = Calls(types.SimpleNamespace(
            container="box" if request.param == "container" else "", env={"WORD": "hello", "PYTHONPATH": str(tmp_path)},
            program=str(program), preload=preload, work_dir=str(tmp_path / "work"),
        ))  # fmt: skip
        made.folder, made.program = tmp_path, str(program)
        return made

    return make


def one(calls, *arguments):
    """Make one call to its end; return its exit status and the last line of its log."""
    log = calls.folder / "work" / "bench-01.log"
    running = calls.start([calls.program, *arguments], str(log))
    deadline = time.monotonic() + 20
    while running.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    status = running.end()
    lines = log.read_text().splitlines()
    return status, lines[-1] if lines else ""


def seen(calls, *arguments):
    status, said = one(calls, *arguments)
    assert status == 0, said
    return json.loads(said)


def test_a_forked_call_sees_what_one_on_its_own_sees(made):
    with made(preload=False) as calls:
        alone = [seen(calls, "bench", "--seed", str(number)) for number in (1, 2)]
        assert calls.preloaded is False
    with made() as calls:
        forked = [seen(calls, "bench", "--seed", str(number)) for number in (1, 2)]
        assert calls.preloaded is True
    differs = ("pid", "parent", "imported", "imports")
    for one_alone, one_forked in zip(alone, forked):
        assert {key: value for key, value in one_alone.items() if key not in differs} == {
            key: value for key, value in one_forked.items() if key not in differs
        }
    assert forked[0]["argv"][1:] == ["bench", "--seed", "1"] and forked[0]["name"] == "__main__" and forked[0]["word"] == "hello"
    assert [item["imported"] for item in alone + forked] == [False, False, True, True]
    assert len({item["pid"] for item in alone + forked}) == 4, "a process for each call"
    assert forked[0]["parent"] == forked[1]["parent"] == int(forked[0]["imports"]), "forked from the one that has imported"
    # In a container it ends with its input, a moment after the program that hands it in.
    deadline = time.monotonic() + 10
    while processes.is_running(forked[0]["parent"]) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not processes.is_running(forked[0]["parent"]), "which is gone when the benchmark is"


@pytest.mark.parametrize("preload", [False, True], ids=["alone", "forked"])
def test_its_status_and_its_words_are_its_own(made, preload):
    with made(preload=preload) as calls:
        assert one(calls, "--fail")[0] == 3
        status, said = one(calls, "--raise")
        assert status == 1 and said == "KeyError: 'no such prompt'"
        assert seen(calls)["argv"][1:] == [], "the next call has a log of its own"


@pytest.mark.parametrize("preload", [False, True], ids=["alone", "forked"])
def test_a_call_that_is_ended_leaves_nothing_and_the_next_one_runs(made, preload):
    with made(preload=preload) as calls:
        log = calls.folder / "hang.log"
        running = calls.start([calls.program, "--hang"], str(log))
        deadline = time.monotonic() + 20
        while "hangs" not in log.read_text() and time.monotonic() < deadline:
            running.poll()
            time.sleep(0.05)
        mine = [pid for pid in running_pids() if processes.environment_of(pid).get("PYTHONPATH") == str(calls.folder)]
        assert any(processes.command_of(pid) == "sleep 71" for pid in mine)
        assert running.poll() is None
        assert running.end() != 0
        deadline = time.monotonic() + 5
        while any(processes.is_running(pid) for pid in mine) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not [pid for pid in mine if processes.is_running(pid)]
        assert seen(calls)["word"] == "hello"


def running_pids():
    return [int(entry) for entry in os.listdir("/proc") if entry.isdigit()]


def test_what_cannot_be_forked_runs_alone(made):
    with made("#!/bin/sh\necho '{\"shell\": \"'$1'\"}'\n") as calls:
        assert seen(calls, "bench") == {"shell": "bench"} and calls.preloaded is False
        assert seen(calls, "again") == {"shell": "again"}


def test_a_thread_that_an_import_left_forbids_the_fork(made):
    with made() as calls:
        (calls.folder / "vllm/__init__.py").write_text(
            VLLM + "import threading, time\nthreading.Thread(target=time.sleep, args=[1]).start()\n"
        )
        found = seen(calls)
        assert calls.preloaded is False and found["imported"] is False


def test_the_end_of_what_calls_are_forked_from_is_the_end_of_the_call(made):
    with made() as calls:
        parent = seen(calls)["parent"]
        os.kill(parent, signal.SIGKILL)
        assert one(calls)[0] == -signal.SIGKILL
        assert seen(calls)["parent"] != parent, "and the next one has a new one"
