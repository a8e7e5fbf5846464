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
