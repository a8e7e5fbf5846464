"""Running torchrun under a limit: every way out leaves no process."""

import json
import os
import sys
import time

from ansible.module_utils.plumbline.core.processes import is_running
from ansible.module_utils.plumbline.fabric import torch_run as collective_run


def script(tmp_path, text):
    path = tmp_path / "fake_torchrun.py"
    path.write_text(text)
    return [sys.executable, str(path)]


# As torchrun does, the parent puts its worker in a session of its own; and this one ignores SIGTERM.
STUBBORN = """
import os, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import signal, time; signal.signal(15, 1); time.sleep(600)"], start_new_session=True)
open("child.pid", "w").write(str(child.pid))
print("started", flush=True)
time.sleep(600)
"""


def test_timeout_kills_workers_in_their_own_session(tmp_path, monkeypatch):
    monkeypatch.setattr(collective_run, "GRACE_S", 0.5)
    status, took_s, tail = collective_run.run(script(tmp_path, STUBBORN), dict(os.environ), str(tmp_path), 1, 2)
    assert status is None
    assert 2 <= took_s < 10
    assert "started" in tail
    child = int((tmp_path / "child.pid").read_text())
    deadline = time.monotonic() + 5
    while is_running(child) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert not is_running(child)


def test_exit_status_and_log_are_returned(tmp_path):
    command = script(tmp_path, "import sys; sys.stderr.write('ValueError: no such port'); sys.exit(3)")
    status, _took_s, tail = collective_run.run(command, dict(os.environ), str(tmp_path), 1, 10)
    assert (status, tail) == (3, "ValueError: no such port")


def test_ranks_that_are_done_are_not_waited_for(tmp_path, monkeypatch):
    monkeypatch.setattr(collective_run, "GRACE_S", 0.5)
    text = "import json, time; json.dump({'stage': 'done'}, open('rank0.json', 'w')); time.sleep(600)"
    status, took_s, _tail = collective_run.run(script(tmp_path, text), dict(os.environ), str(tmp_path), 1, 60)
    assert status == 0
    assert took_s < 10


def test_finished_needs_every_rank(tmp_path):
    (tmp_path / "rank0.json").write_text(json.dumps({"stage": "done"}))
    assert not collective_run.finished(str(tmp_path), 2)
    (tmp_path / "rank1.json").write_text(json.dumps({"stage": "measuring"}))
    assert not collective_run.finished(str(tmp_path), 2)
    (tmp_path / "rank1.json").write_text(json.dumps({"stage": "done"}))
    assert collective_run.finished(str(tmp_path), 2)
