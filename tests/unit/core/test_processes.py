"""Processes are found by their mark, with their children, and nobody else's are touched."""

from __future__ import annotations

import os
import subprocess
import time
import uuid

from ansible.module_utils.plumbline.core import processes


def test_marked_processes_and_their_children_end_and_others_stay(tmp_path):
    serve_id = "test-%s" % uuid.uuid4()
    other = subprocess.Popen(["sleep", "60"])
    try:
        # A child in a session of its own, as Ray starts them: neither the pid nor the process group would find it.
        pid = processes.start(
            ["sh", "-c", "setsid sleep 61 & exec sleep 62"], serve_id, processes.base_environment({}), str(tmp_path / "log")
        )
        deadline = time.monotonic() + 5
        while time.monotonic() < deadline:
            if sorted(map(processes.command_of, processes.marked(serve_id))) == ["sleep 61", "sleep 62"]:
                break
            time.sleep(0.05)
        found = processes.marked(serve_id)
        assert pid in found and len(found) == 2
        ended = processes.stop(serve_id, grace_s=5)
        assert sorted(command for _pid, command in ended) == ["sleep 61", "sleep 62"]
        assert processes.marked(serve_id) == []
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()
        processes.stop(serve_id, grace_s=1)


def test_a_process_that_replaces_itself_all_the_time_is_found_every_time(tmp_path):
    serve_id = "test-%s" % uuid.uuid4()
    program = tmp_path / "again"
    program.write_text('#!/bin/sh\nexec "$0"\n')
    program.chmod(0o755)
    pid = processes.start([str(program)], serve_id, processes.base_environment({}), str(tmp_path / "log"))
    try:
        assert [processes.marked(serve_id) for _look in range(100)] == [[pid]] * 100
    finally:
        processes.stop(serve_id, grace_s=1)


def test_process_that_ignores_sigterm_is_killed(tmp_path):
    serve_id = "test-%s" % uuid.uuid4()
    pid = processes.start(
        ["sh", "-c", "trap '' TERM; while :; do sleep 0.1; done"], serve_id, processes.base_environment({}), str(tmp_path / "log")
    )
    time.sleep(0.3)
    processes.stop(serve_id, grace_s=0.5)
    assert not processes.is_running(pid)
    os.waitpid(pid, 0)


def test_nothing_to_stop():
    assert processes.stop("test-no-such-%s" % uuid.uuid4()) == []


# A command in parentheses, as the kernel prints what is between the first and the last one.
LINE = "42 (a) b (c) S 7 40 42 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 123456 0 0"


def test_stat_reads_names_with_parentheses(tmp_path):
    for name in ("42", "43", "self"):
        (tmp_path / name).mkdir()
    (tmp_path / "42" / "stat").write_text(LINE)
    (tmp_path / "43" / "stat").write_text("43 (cut")
    assert processes.stat_of(42, str(tmp_path)) == processes.Stat("S", 7, 40, 123456)
    assert processes.stat_of(43, str(tmp_path)) is None and processes.stat_of(44, str(tmp_path)) is None
    assert processes.table(str(tmp_path)) == {42: processes.Stat("S", 7, 40, 123456)}
    assert sorted(processes.pids(str(tmp_path))) == [42, 43]


def test_own_stat():
    stat = processes.stat_of(os.getpid())
    assert (stat.state, stat.parent, stat.group) == ("R", os.getppid(), os.getpgrp())
    assert processes.parent_of(os.getpid()) == os.getppid() and processes.is_running(os.getpid())


def test_descendants():
    found = {pid: processes.Stat("S", parent, 1, 1) for pid, parent in {2: 1, 3: 2, 4: 3, 9: 8}.items()}
    assert sorted(processes.descendants(1, found)) == [2, 3, 4]


def group(script):
    """Start a shell as the leader of its own group; return it, and the pids that it names in its first line."""
    process = subprocess.Popen(["sh", "-c", script], stdout=subprocess.PIPE, text=True, start_new_session=True)
    return process, [int(word) for word in process.stdout.readline().split()]


def test_group_ends_with_what_left_the_group():
    # A worker in a session of its own, as those of torchrun and mpirun; it is below the shell, which ends first.
    process, children = group("setsid sleep 60 & a=$!; sleep 61 & echo $a $!; wait")
    assert len(children) == 2 and all(map(processes.is_running, children))
    other = subprocess.Popen(["sleep", "62"], start_new_session=True)
    try:
        processes.end_group(process, grace_s=0.5)
        assert process.returncode is not None and not any(map(processes.is_running, children))
        assert other.poll() is None
    finally:
        other.kill()
        other.wait()
        process.stdout.close()


def test_group_whose_leader_has_ended_is_ended_too():
    process, children = group("(trap '' TERM; while :; do sleep 0.1; done) & echo $!")
    process.wait()
    assert processes.is_running(children[0])
    started = time.monotonic()
    processes.end_group(process, grace_s=0.3)
    assert not processes.is_running(children[0]) and time.monotonic() - started < 5
    process.stdout.close()


def test_group_is_given_its_time_and_no_more():
    process, _children = group("trap 'sleep 0.3; exit 7' TERM; echo; while :; do sleep 0.05; done")
    processes.end_group(process, grace_s=10)
    assert process.returncode == 7, "it ended as it wanted to, within its time"
    started = time.monotonic()
    processes.end_group(process)
    assert time.monotonic() - started < 1, "nothing is left to wait for"
    process.stdout.close()
