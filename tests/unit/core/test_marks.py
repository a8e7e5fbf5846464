"""Whatever a process of ours does to its title, session and parents, it is found and ended; a neighbour's never is."""

from __future__ import annotations

import os
import subprocess
import sys
import time
import uuid

import pytest
from ansible.module_utils.plumbline.core import marks, processes
from project import ROOT

# What setproctitle does: the title goes where the arguments were, and over the environment behind them.
TITLE = r"""
import ctypes, os, sys, time
stat = open("/proc/self/stat").read().rpartition(")")[2].split()
arg_start, env_end = int(stat[45]), int(stat[48])
title = b"VLLM::EngineCore"
ctypes.memset(arg_start, 0, env_end - arg_start)
ctypes.memmove(arg_start, title, len(title))
"""
# setsid and a second fork: its parent is gone, its session and group are its own.
AWAY = r"""
import os, time
if os.fork():
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
"""
STUBBORN = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
WAIT = "time.sleep(60)\n"


# A program of its own, which pytest's path does not reach.
ALONE = dict(os.environ, PYTHONPATH=str(ROOT / "plugins/module_utils"))


def python(*parts):
    return [sys.executable, "-c", "import time\n" + "".join(parts) + WAIT]


def until(condition, seconds=10.0):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


@pytest.fixture
def serve_id():
    name = "test-%s" % uuid.uuid4()
    yield name
    processes.stop(name, grace_s=0.2)


def start(serve_id, tmp_path, *parts):
    return processes.start(python(*parts), serve_id, processes.base_environment({}), str(tmp_path / "log"))


def titled(serve_id):
    return [pid for pid in processes.marked(serve_id) if processes.command_of(pid) == "VLLM::EngineCore"]


@pytest.mark.parametrize("stubborn", [False, True])
def test_an_engine_core_whose_title_overwrote_its_environment_and_whose_parents_are_gone_is_ended(serve_id, tmp_path, stubborn):
    start(serve_id, tmp_path, AWAY, STUBBORN if stubborn else "", TITLE)
    assert until(lambda: titled(serve_id))
    (engine,) = processes.marked(serve_id)
    assert processes.MARK not in processes.environment_of(engine), "the title went over the mark"
    assert os.getsid(engine) != processes.stat_of(engine).parent != os.getpid()
    assert processes.stop(serve_id, grace_s=1) == [(engine, "VLLM::EngineCore")]
    assert not processes.is_running(engine) and processes.marked(serve_id) == []


def test_a_neighbour_of_the_same_user_with_the_same_title_survives(serve_id, tmp_path):
    neighbour = subprocess.Popen(python(TITLE), start_new_session=True)
    try:
        assert until(lambda: processes.command_of(neighbour.pid) == "VLLM::EngineCore")
        start(serve_id, tmp_path, TITLE)
        assert until(lambda: titled(serve_id))
        assert len(processes.stop(serve_id, grace_s=2)) == 1
        assert neighbour.poll() is None
        assert neighbour.pid not in processes.marked(None, measurements=True)
    finally:
        neighbour.kill()
        neighbour.wait()


def test_another_run_of_ours_survives_the_end_of_one(serve_id, tmp_path):
    other = "test-%s" % uuid.uuid4()
    start(other, tmp_path, TITLE)
    start(serve_id, tmp_path, TITLE)
    try:
        assert until(lambda: titled(serve_id) and titled(other))
        assert len(processes.stop(serve_id, grace_s=2)) == 1
        assert len(processes.marked(other)) == 1
    finally:
        assert len(processes.stop(other, grace_s=2)) == 1


def test_what_a_module_started_before_it_was_killed_is_found_by_reset_only(tmp_path):
    # As in library/: the module belongs, then starts a benchmark of its own session; then its connection goes and it is killed.
    mark = str(uuid.uuid4())
    module = subprocess.Popen(
        [sys.executable, "-c", "import subprocess, sys, time\n"
         "from plumbline.core import marks\n"
         "marks.belong(marks.measuring())\n"
         "subprocess.Popen(['sleep', '60'], start_new_session=True)\ntime.sleep(60)"],
        env=dict(ALONE, KILLED_MODULE=mark),
    )  # fmt: skip

    def ours():
        return [pid for pid in processes.marked(None, measurements=True) if processes.environment_of(pid).get("KILLED_MODULE") == mark]

    try:
        assert until(lambda: [pid for pid in ours() if processes.command_of(pid) == "sleep 60"])
        module.kill()
        module.wait()
        (left,) = ours()
        assert left not in processes.marked(), "the end of a layout does not end another's measurement"
    finally:
        for pid in ours():
            processes.send(pid, 9)
        module.kill()
        module.wait()
    assert until(lambda: not ours())


def test_the_limit_is_inherited_and_lowered_without_root():
    code = ("import os, sys\nfrom plumbline.core import marks\n"
            "os.getuid() or os.setuid(65534)\n"
            "marks.belong(marks.measuring()); marks.belong(marks.serving('a')); marks.belong(marks.measuring())\n"
            "print(marks.limit_of(os.getpid()) == marks.serving('a'))")  # fmt: skip
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, env=ALONE).stdout == "True\n"


def test_limits_that_say_nothing(tmp_path):
    for pid, text in (
        (1, "Max file locks            unlimited            unlimited            locks     \n"),
        (2, ""),
        (3, "Max file locks"),
    ):
        (tmp_path / str(pid)).mkdir()
        (tmp_path / str(pid) / "limits").write_text(text)
        assert marks.limit_of(pid, str(tmp_path)) is None
    assert not marks.is_ours(None) and not marks.is_ours(77) and not marks.is_ours(marks.measuring())
    assert marks.is_ours(marks.serving("a")) and marks.is_ours(marks.serving("a"), "a") and not marks.is_ours(marks.serving("a"), "b")


def test_who_asks_and_what_started_it_is_never_found(serve_id, tmp_path):
    code = "from plumbline.core import processes; print(processes.marked(%r))" % serve_id
    argv = ["sh", "-c", '"$@"; exit', "sh", sys.executable, "-c", code]
    log = tmp_path / "log"
    env = processes.base_environment({"PYTHONPATH": ALONE["PYTHONPATH"]})
    processes.start(argv, serve_id, env, str(log))
    assert until(lambda: log.exists() and log.read_text().strip()) and log.read_text() == "[]\n"


def test_survivors_are_named_with_pid_title_and_why(monkeypatch):
    stat = processes.Stat("D", 1, 1, 1)
    monkeypatch.setattr(processes, "marked", lambda *_given: [4711])
    monkeypatch.setattr(processes, "command_of", lambda _pid: "VLLM::EngineCore")
    monkeypatch.setattr(processes, "stat_of", lambda _pid: stat)
    monkeypatch.setattr(processes, "send", lambda *_given: None)
    with pytest.raises(processes.Survivors, match=r"after SIGKILL: 4711 VLLM::EngineCore \(state D") as raised:
        processes.stop("x", grace_s=0.1, kill_s=0.1)
    assert raised.value.left == [4711] and raised.value.ended == [(4711, "VLLM::EngineCore")]


def test_a_process_that_may_not_be_read_costs_no_second_look(monkeypatch):
    monkeypatch.setattr(processes, "_environ", lambda _pid: None)
    monkeypatch.setattr(processes.time, "sleep", lambda _s: pytest.fail("asked again"))
    assert processes.marked("test-no-such") == []


# Modules whose programs end with them or within seconds, or are meant to stay: a lab's nodes, a serving run's programs.
UNMARKED = {
    "gpu_clocks", "layout_prediction", "preflight_node", "ray_node", "serve_lock", "serve_node", "serve_postmortem", "ssh_access",
    "ssh_host_keys", "ssh_key",
    "vllm_processes", "vllm_worker",
}  # fmt: skip


def test_every_module_that_goes_on_after_a_lost_connection_marks_itself():
    modules = {path.stem: path.read_text() for path in (ROOT / "library").glob("*.py") if not path.stem.startswith("lab_")}
    marked = {name for name, text in modules.items() if "\n    marks.belong(marks.measuring())" in text.partition("if __name__ ==")[2]}
    assert set(modules) - marked == UNMARKED
