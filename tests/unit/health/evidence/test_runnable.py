"""Who is behind a load average: somebody else's processes are counted and named, Plumbline's own are not."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time

import pytest
from ansible.module_utils.plumbline.core import processes
from ansible.module_utils.plumbline.health.evidence import cpu, runnable

BURN = "while True: pass"


@pytest.fixture
def started():
    """Start commands that are nobody's children any more, as a job of somebody else, and end them with what they started."""
    running = []

    def start(command):
        said = subprocess.run(
            ["setsid", "sh", "-c", "(setsid %s > /dev/null 2>&1 & echo $!)" % command], capture_output=True, text=True, check=True
        )
        running.append(int(said.stdout))
        time.sleep(0.5)
        return running[-1]

    yield start
    for pid in running:
        os.killpg(pid, signal.SIGKILL)


def of(found, pid):
    """Return the entry of a process, None without one."""
    return next((item for item in found["top"] if item["pid"] == pid), None)


def test_a_process_of_somebody_else_is_counted_and_named(started):
    pid = started("%s -c '%s'" % (sys.executable, BURN))
    found = runnable.others()
    assert of(found, pid)["mean"] >= 0.8 and BURN in of(found, pid)["command"] and found["mean"] >= 0.8


def test_what_ansible_runs_is_ours(started):
    pid = started("sh -c \"%s -c '%s' && sleep 0\"" % (sys.executable, BURN))
    burning = [child for child, stat in processes.table().items() if stat.parent == pid]
    assert burning
    found = runnable.others()
    assert not of(found, pid) and not of(found, burning[0])


def test_a_job_in_a_home_folder_called_ansible_is_not_ours():
    assert not runnable.OURS.search("/usr/bin/python3 /home/ansible/train.py")
    assert runnable.OURS.search("/usr/bin/python3 /root/.ansible/tmp/ansible-tmp-1/AnsiballZ_node_health.py")
    assert runnable.OURS.search("/opt/venv/bin/python /opt/venv/bin/ansible-playbook site.yml")


STAT = "%d (x) %s %d" + " 1" * 48 + "\n"  # the fields of proc_pid_stat(5)


def record(folder, pid, parent, command, states):
    """Write a process into a recorded /proc."""
    for thread, state in enumerate(states):
        place = folder / str(pid) / "task" / str(pid + thread)
        place.mkdir(parents=True)
        (place / "stat").write_text(STAT % (pid + thread, state, parent))
    (folder / str(pid) / "stat").write_text(STAT % (pid, states[0], parent))
    (folder / str(pid) / "cmdline").write_bytes(command.replace(" ", "\0").encode())


def test_blocked_threads_count_and_the_kernels_own_do_not(tmp_path):
    record(tmp_path, 10, 1, "dd if=/dev/nfs", "DDS")
    record(tmp_path, 20, 2, "", "D")
    record(tmp_path, 30, 1, "sleep 5", "S")
    assert runnable.others(str(tmp_path), samples=2, apart_s=0) == {
        "mean": 2.0,
        "top": [{"pid": 10, "command": "dd if=/dev/nfs", "mean": 2.0}],
    }


def test_nobody_is_looked_for_without_a_suspicion(monkeypatch):
    monkeypatch.setattr(runnable, "others", lambda: {"mean": 9.0, "top": []})
    assert cpu.others({"load": [3.0, 1, 1], "count": 2}, 2) is None
    assert cpu.others({"load": [9.0, 1, 1], "count": 2}, 2) == {"mean": 9.0, "top": []}
    assert cpu.others({"load": [9.0, 1, 1], "count": 2}, None) is None
    assert cpu.others({"load": [9.0, 1, 1], "count": 2}, 2, "/recorded") is None
