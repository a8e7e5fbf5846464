"""How far a copy is, told while it runs."""

import itertools
import subprocess
import sys
import time
from types import SimpleNamespace

import pytest
from ansible.errors import AnsibleConnectionFailure
from project import load

NOTE = '{"at": %d, "kept_bytes": 25000000000, "missing_bytes": 75000000000, "rate_bytes_s": 1.5e9, "from": "node2"}'
NOTES = [NOTE % second for second in range(200)]


@pytest.fixture
def plugin():
    return load("plugins/action/model_sync_wait.py")


def answered(answer):
    """Return an answer of the node, or raise it where it is that the node did not answer."""
    if isinstance(answer, Exception):
        raise answer
    return answer


class Node:
    """What the node answers, one look after another; exceptions are raised. ``processes``: what is said of the job's process."""

    def __init__(self, notes, states, processes):
        self.notes, self.states, self.processes = iter(notes), iter(states), processes
        self.clock, self.shown, self.cleaned, self.resets = [0.0], [], 0, 0

    def look(self, command, sudoable):
        assert sudoable
        if "/proc/" in command:
            return {"rc": 0, "stdout": answered(self.processes)}
        text = answered(next(self.notes, None))
        return {"rc": 0, "stdout": text} if text is not None else {"rc": 1, "stdout": ""}

    def execute(self, module_args, **_more):
        if module_args["mode"] == "cleanup":
            self.cleaned += 1
            return {}
        return answered(next(self.states))

    def reset(self):
        self.resets += 1


def acting(plugin, monkeypatch, node, timeout_s=100, fact=None):
    """Return the action, over what the node answers."""
    monkeypatch.setattr(plugin.time, "monotonic", lambda: node.clock[0])
    monkeypatch.setattr(plugin.time, "sleep", lambda seconds: node.clock.__setitem__(0, node.clock[0] + seconds))
    monkeypatch.setattr(plugin, "Display", lambda: SimpleNamespace(display=node.shown.append))
    task = SimpleNamespace(
        action="model_sync_wait", args={"job": "j1.22", "path": "/m", "timeout_s": timeout_s, "fact": fact or {}}, async_val=0,
        check_mode=False, delegate_to=None, environment=None, diff=False, timeout=0,
    )  # fmt: skip
    connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir="/nonexistent"), become=None, reset=node.reset)
    action = plugin.ActionModule(task, connection, None, None, None, None)
    monkeypatch.setattr(action, "_low_level_execute_command", node.look)
    monkeypatch.setattr(action, "get_shell_option", lambda _name, default: default)
    monkeypatch.setattr(action, "_execute_module", node.execute)
    return action


def waiting(plugin, monkeypatch, notes, states, timeout_s=100, processes="looked\n", fact=None):
    """Run the action; return its result, what was shown, and the node."""
    node = Node(notes, states, processes)
    return acting(plugin, monkeypatch, node, timeout_s, fact).run(task_vars={"inventory_hostname": "node3"}), node.shown, node


def test_rate_and_time_left_are_told_every_ten_seconds_and_the_result_is_the_modules(plugin, monkeypatch):
    running = {"finished": False}
    result, shown, _node = waiting(plugin, monkeypatch, NOTES[:25], [running, running, {"finished": True, "fact": {"status": "healthy"}}])
    assert result["fact"] == {"status": "healthy"}
    assert [line.split(None, 1) for line in shown] == [["node3", "25 % of 100.0 GB, 1500.0 MB/s from node2, 50 s left"]] * 2


def test_a_note_that_a_killed_copy_left_is_not_waited_for(plugin, monkeypatch):
    result, _shown, _node = waiting(plugin, monkeypatch, NOTES, [{"finished": True, "failed": True, "msg": "killed"}])
    assert result["failed"] and result["msg"] == "killed"


def test_a_copy_whose_end_nobody_noted_is_found_by_its_silence(plugin, monkeypatch):
    result, _shown, _node = waiting(
        plugin, monkeypatch, NOTES[:5] + NOTES[5:6] * 1000, iter(lambda: {"finished": False}, None), timeout_s=7200
    )
    assert result["failed"] and "killed" in result["msg"]


RUNS = "/proc/4711/cmdline\nlooked\n"
RUNNING = {"started": 1, "finished": 0, "ansible_job_id": "j1.22"}
LOST = AnsibleConnectionFailure("Failed to connect to the host via ssh: Connection reset by peer")
FACT = {"status": "incomplete", "reasons": [], "measured": {"size_bytes": 9, "transferred_bytes": 0}}


@pytest.mark.parametrize("processes", [RUNS, ""], ids=["its process is there", "a node without grep"])
def test_a_resumed_copy_that_only_hashes_for_long_is_not_dead(plugin, monkeypatch, processes):
    """The killed run's note lies there unchanged for five minutes, as with 145 GB at 500 MB/s."""
    states = itertools.chain([RUNNING] * 100, [{"finished": 1, "fact": {"status": "healthy"}}])
    result, shown, node = waiting(plugin, monkeypatch, NOTES[:1] * 1000, states, timeout_s=7200, processes=processes)
    assert result["fact"] == {"status": "healthy"} and not result.get("failed") and node.clock[0] > 290
    assert shown == []  # it is no progress of this copy


def test_what_an_earlier_run_noted_is_not_told_as_this_ones(plugin, monkeypatch):
    killed = {"finished": 1, "failed": 1, "msg": "killed"}
    result, _shown, _node = waiting(plugin, monkeypatch, NOTES[:1] * 9, [RUNNING, killed], fact=FACT)
    assert result["fact"]["measured"]["transferred_bytes"] == 0 and "0 bytes had come, 0 of them" in result["fact"]["reasons"][0]["seen"]
    moved = [note.replace("{", '{"moved_bytes": 7, ') for note in NOTES[:9]]
    result, _shown, _node = waiting(plugin, monkeypatch, moved, [RUNNING, killed], fact=FACT)
    assert result["fact"]["measured"]["transferred_bytes"] == 7


def test_a_copy_that_died_before_its_first_note_is_found(plugin, monkeypatch):
    result, _shown, node = waiting(plugin, monkeypatch, [], itertools.repeat(RUNNING), timeout_s=7200)
    assert result["failed"] and "its process is gone" in result["msg"] and node.clock[0] < 70 and node.cleaned == 1


def test_a_copy_that_ended_between_two_looks_is_no_dead_one(plugin, monkeypatch):
    node = Node(NOTES[:2] + NOTES[1:2] * 1000, (), "looked\n")
    node.states = iter(lambda: RUNNING if node.clock[0] < 60 else {"finished": 1, "fact": {"status": "healthy"}}, None)
    assert acting(plugin, monkeypatch, node, 7200).run(task_vars={})["fact"] == {"status": "healthy"}


def test_the_jobs_file_is_removed_once_at_the_end(plugin, monkeypatch):
    _result, _shown, node = waiting(plugin, monkeypatch, NOTES, [RUNNING, {"finished": 1, "fact": {"status": "healthy"}}])
    assert node.cleaned == 1


@pytest.mark.parametrize("which", ["the note", "the job"])
def test_a_connection_that_breaks_for_two_minutes_costs_nothing(plugin, monkeypatch, which):
    done = {"finished": 1, "fact": {"status": "healthy"}}
    # Looks are two seconds apart.
    notes, states = (
        (NOTES[:9] + [LOST] * 60 + NOTES[9:], [RUNNING, done]) if which == "the note" else ([], [RUNNING] * 9 + [LOST] * 60 + [done])
    )
    result, _shown, node = waiting(plugin, monkeypatch, notes, states, timeout_s=7200)
    assert result["fact"] == {"status": "healthy"} and node.resets == 60 and node.clock[0] > 120


def test_a_node_that_answers_no_more_is_unreachable(plugin, monkeypatch):
    node = Node(itertools.chain(NOTES[:9], itertools.repeat(LOST)), itertools.repeat(RUNNING), LOST)
    with pytest.raises(AnsibleConnectionFailure, match="reset by peer"):
        acting(plugin, monkeypatch, node, 7200).run(task_vars={})
    assert 150 <= node.clock[0] < 180


def test_a_failure_of_the_asking_is_not_the_copys(plugin, monkeypatch):
    odd = {"failed": True, "msg": "No start of json char found", "_ansible_parsed": False}
    states = [odd] * 3 + [{"finished": 1, "fact": {"status": "healthy"}}]
    result, _shown, _node = waiting(plugin, monkeypatch, [], states)
    assert result["fact"] == {"status": "healthy"}
    result, _shown, _node = waiting(plugin, monkeypatch, [], [{"failed": True, "msg": "no such job", "_ansible_parsed": True}])
    assert result["failed"] and result["msg"] == "no such job"
    result, _shown, _node = waiting(plugin, monkeypatch, [], itertools.repeat(odd), timeout_s=7200)
    assert result["failed"] and "No start of json char" in result["msg"]


def test_a_process_is_found_by_the_jobs_name_and_the_looking_finds_not_itself(plugin):
    def look(command, sudoable):
        return {"stdout": subprocess.run(["sh", "-c", command], capture_output=True, text=True, check=False).stdout}

    action = SimpleNamespace(job="j123456789012345.77", _low_level_execute_command=look)
    assert not plugin.ActionModule.runs(action)
    # As async_wrapper is started: its second argument is the job's name.
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", "j123456789012345", "7200"])
    try:
        deadline = time.monotonic() + 10
        while not plugin.ActionModule.runs(action) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert plugin.ActionModule.runs(action)
        assert not plugin.ActionModule.runs(SimpleNamespace(job="j12345678901234.77", _low_level_execute_command=look))
    finally:
        process.kill()
        process.wait()
    assert not plugin.ActionModule.runs(action)


def test_what_had_come_to_a_copy_that_was_killed_is_in_its_fact(plugin):
    fact = {"status": "incomplete", "reasons": [{"check": "model.copy"}], "measured": {"size_bytes": 9, "transferred_bytes": 0}}
    told = plugin.interrupted(fact, {"moved_bytes": 7, "kept_bytes": 5}, "it was killed")
    assert told["status"] == "incomplete" and told["measured"] == {"size_bytes": 9, "transferred_bytes": 7}
    assert told["reasons"][0]["seen"] == "it was killed; 7 bytes had come, 5 of them are kept" and told["reasons"][0]["remedy"]
    assert plugin.interrupted(fact, None, "it was killed")["measured"]["transferred_bytes"] == 0
    assert plugin.interrupted({}, {"moved_bytes": 7}, "x") is None and fact["measured"]["transferred_bytes"] == 0


def test_a_copy_that_never_ends_is_told(plugin, monkeypatch):
    result, _shown, _node = waiting(plugin, monkeypatch, [], iter(lambda: {"finished": False}, None), timeout_s=30)
    assert result["failed"] and "30 s" in result["msg"]


def test_a_note_in_the_making_is_none(plugin):
    assert plugin.words(None) == plugin.words({}) == plugin.words({"kept_bytes": "x"}) == ""
    assert plugin.words({"kept_bytes": 0, "missing_bytes": 5, "rate_bytes_s": 0, "from": "a"}).endswith("nothing comes")
