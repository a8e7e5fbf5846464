"""A task that is watched survives a short silence of its node, and gives a node up that has gone."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.module_utils.plumbline.controller import unreachable, watched

GONE = "Failed to connect to the host via ssh: ssh: connect to host 10.0.0.4 port 22: Connection timed out"
RUNS = {"_ansible_parsed": True, "started": True, "finished": False, "ansible_job_id": "j1.2"}
DONE = {"_ansible_parsed": True, "finished": True, "changed": True, "ansible_job_id": "j1.2"}
ASK_S = 15  # what an ask takes that is not answered: ansible.cfg's timeout
LINE = "12.0 GB of 140.0 GB, 0.4 GB/s, 320 s left"


class Watched(watched.WatchedAction):
    """Its node answers by the clock: ``told(seconds)`` is an answer or an error."""

    def __init__(self, told, async_s=7500):
        self._task = SimpleNamespace(async_val=async_s, args={}, poll=0)
        self._connection = SimpleNamespace(reset=lambda: None)
        self._display = SimpleNamespace(display=lambda *_args, **_more: None)
        self.told, self.clock, self.asked = told, 0.0, []
        self.processes = lambda: "/proc/4711/cmdline\nlooked\n"

    def monotonic(self):
        return self.clock

    def sleep(self, seconds):
        self.clock += seconds

    def _remote_expand_user(self, path, *_args):
        return path

    def get_shell_option(self, _name, default=None):
        return default

    def progress_path(self, arguments):
        return "/run/progress"

    def _low_level_execute_command(self, command, **_more):
        return {"stdout": self.processes()} if "cmdline" in command else {"stdout_lines": [LINE]}

    def _execute_module(self, module_name=None, module_args=None, **_more):
        self.asked.append(module_args["mode"])
        said = self.told(self.clock)
        if isinstance(said, Exception):
            self.clock += ASK_S
            raise said
        return dict(said)


@pytest.fixture
def watch(monkeypatch):
    def run(told, **more):
        action = Watched(told, **more)
        monkeypatch.setattr(watched, "time", action)
        return action, lambda: action._watch("j1.2", {"inventory_hostname": "node2"})

    return run


def test_a_node_that_dies_is_unreachable_after_two_and_a_half_minutes_and_says_how_far_it_was(watch):
    action, run = watch(lambda now: AnsibleConnectionFailure(GONE) if now > 60 else RUNS)
    with pytest.raises(AnsibleConnectionFailure) as error:
        run()
    assert 60 + 150 <= action.clock <= 60 + 180, "and not after 7500 s"
    cause, remedy = unreachable.explain(str(error.value), "10.0.0.4")
    assert cause.startswith("it does not answer in time; it has been silent for 1") and cause.endswith("its last word was: " + LINE)
    assert "power, console" in remedy and "Connection timed out" in str(error.value)


@pytest.mark.parametrize("silent_s", [20, 125])
def test_a_restart_of_sshd_and_a_break_of_the_network_are_survived_again_and_again(watch, silent_s):
    refused = AnsibleConnectionFailure("Failed to connect to the host via ssh: Connection refused")
    action, run = watch(lambda now: DONE if now > 1500 else refused if now % 400 > 400 - silent_s else RUNS)
    assert run() == {"_ansible_parsed": True, "changed": True} and action.clock > 1500


def test_a_connection_that_breaks_as_the_job_is_put_away_takes_no_result_away(watch):
    action, run = watch(lambda _now: AnsibleConnectionFailure(GONE) if action.asked[-1] == "cleanup" else DONE)
    assert run() == {"_ansible_parsed": True, "changed": True} and action.asked == ["status", "cleanup"]


def test_a_node_that_answers_without_a_python_fails_and_is_not_unreachable(watch):
    nonsense = {"_ansible_parsed": False, "failed": True, "module_stderr": "/usr/bin/python3: Input/output error", "msg": "MODULE FAILURE"}
    action, run = watch(lambda now: nonsense if now > 60 else RUNS)
    with pytest.raises(AnsibleError, match="Input/output error") as error:
        run()
    assert not isinstance(error.value, AnsibleConnectionFailure) and action.clock < 60 + 180


def test_a_failure_comes_back_and_a_job_that_lasts_too_long_is_given_up(watch):
    _action, run = watch(lambda _now: dict(RUNS, failed=True, msg="could not find job"))
    assert run()["msg"] == "could not find job"
    _action, run = watch(lambda _now: RUNS, async_s=60)
    assert run()["msg"] == "not done within 60 s"
    _action, run = watch(lambda now: AnsibleConnectionFailure(GONE) if now > 20 else RUNS, async_s=60)
    with pytest.raises(AnsibleConnectionFailure, match="silent for"):
        run()


def test_a_node_that_has_restarted_is_told_within_two_minutes_and_not_at_the_tasks_bound(watch):
    """The job's file outlives the restart and says "not finished" for ever."""
    action, run = watch(lambda now: AnsibleConnectionFailure(GONE) if 300 < now < 350 else RUNS)
    action.processes = lambda: "looked\n" if action.clock > 300 else "/proc/4711/cmdline\nlooked\n"
    found = run()
    assert found["failed"] and "its process on the node is gone" in found["msg"] and found["msg"].endswith(LINE)
    assert 350 <= action.clock <= 430 and action.asked[-1] == "cleanup"


def test_a_job_that_ended_between_two_looks_is_no_dead_one_and_a_node_without_proc_is_believed(watch):
    action, run = watch(lambda now: DONE if now > 60 else RUNS)
    action.processes = lambda: "looked\n"
    assert run() == {"_ansible_parsed": True, "changed": True}
    action, run = watch(lambda now: DONE if now > 900 else RUNS)
    action.processes = lambda: ""
    assert run() == {"_ansible_parsed": True, "changed": True} and action.clock > 900
