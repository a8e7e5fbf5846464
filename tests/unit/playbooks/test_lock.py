"""Two runs against the same node: the second ends nothing of the first. reset says whose lock it took, and what it ended."""

from __future__ import annotations

import json
import subprocess
import sys
import time
import uuid

import pytest
import yaml
from ansible.module_utils.plumbline.core import processes
from play_run import results, run_playbook
from project import ROOT

INVENTORY = {"nodes": {"hosts": {"node1": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}}}}


@pytest.fixture
def play(tmp_path):
    """Return a function that runs tasks on node1 as a run of its own."""

    def run(name, tasks, cmdline=""):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "play.yml").write_text(yaml.safe_dump([{"hosts": "nodes", "gather_facts": False, "tasks": tasks}]))
        return run_playbook(folder, str(folder / "play.yml"), INVENTORY, cmdline, name)

    return run


def lock_task(path, **more):
    return {"name": "Lock", "serve_lock": dict(path=path, **more)}


def test_an_interrupted_run_is_replaced_and_one_that_goes_on_is_not(play, tmp_path):
    path = str(tmp_path / "lock")
    assert play("first", [lock_task(path, layout="tp8")]).rc == 0  # it ends without giving the lock back, as after Ctrl-C
    (result,) = results(play("second", [lock_task(path)]), "Lock")
    assert result["held"] is False and "run first of" in result["msg"] and "its ansible-playbook has ended" in result["msg"]
    other = subprocess.Popen(["sleep", "60"])  # the second run, had it not ended
    try:
        held = json.loads((tmp_path / "lock").read_text())
        held.update(pid=other.pid, started=processes.stat_of(other.pid).started)
        (tmp_path / "lock").write_text(json.dumps(held))
        (result,) = results(play("third", [lock_task(path)]), "Lock")
        assert result["held"] is True and "run second of" in result["msg"]
    finally:
        other.kill()
        other.wait()


def test_where_another_serves_nothing_is_started_and_nothing_torn_down():
    layout = yaml.safe_load((ROOT / "playbooks/tasks/layout.yml").read_text())
    first = layout[0]["ansible.builtin.include_role"]
    assert (first["name"], first["tasks_from"]) == ("vllm_serve", "lock")
    assert "always" not in layout[0] and "rescue" not in layout[0], "a refusal ends the play: no teardown may follow it"
    (lock,) = yaml.safe_load((ROOT / "roles/vllm_serve/tasks/lock.yml").read_text())
    assert lock["failed_when"] == "__vllm_serve_locks.held | default(false)"


def test_reset_says_what_it_would_end_ends_it_once_and_refuses_an_inventory_without_nodes(tmp_path):
    serve_id = "test-%s" % uuid.uuid4()
    processes.start(["sleep", "63"], serve_id, processes.base_environment({}), str(tmp_path / "log"))

    def ask(name, check):
        folder = tmp_path / name
        folder.mkdir()
        task = {"name": "End", "vllm_processes": {"serve_id": serve_id, "gpu_timeout_s": 0, "docker": "no-such-docker"}}
        (folder / "end.yml").write_text(yaml.safe_dump([{"hosts": "nodes", "gather_facts": False, "tasks": [task]}]))
        (result,) = results(run_playbook(folder, str(folder / "end.yml"), INVENTORY, "--check" if check else ""), "End")
        return result["changed"], result["summary"].partition(" (")[0], processes.marked(serve_id)

    try:
        changed, said, left = ask("check", check=True)
        assert (changed, said) == (True, "would end 1 process") and len(left) == 1
        assert ask("one", check=False) == (True, "ended 1 process", [])
        assert ask("two", check=False) == (False, "", [])
    finally:
        processes.stop(serve_id, grace_s=0.2)
    started = time.monotonic()
    empty = run_playbook(tmp_path, "playbooks/reset.yml", {"nodes": {"hosts": {}}})
    assert empty.rc != 0 and time.monotonic() - started < 60
    (result,) = results(empty, "Expect nodes in the inventory")
    assert 'no node in its group "nodes"' in result["msg"]
