"""How far a copy is, told while it runs."""

from types import SimpleNamespace

import pytest
from project import load

NOTE = '{"at": %d, "kept_bytes": 25000000000, "missing_bytes": 75000000000, "rate_bytes_s": 1.5e9, "from": "node2"}'
NOTES = [NOTE % second for second in range(200)]


@pytest.fixture
def plugin():
    return load("plugins/action/model_sync_wait.py")


def waiting(plugin, monkeypatch, notes, states, timeout_s=100):
    """Run the action over what the node answers, one look after another; return its result and what was shown."""
    clock, shown, notes, states = [0.0], [], iter(notes), iter(states)
    monkeypatch.setattr(plugin.time, "monotonic", lambda: clock[0])
    monkeypatch.setattr(plugin.time, "sleep", lambda seconds: clock.__setitem__(0, clock[0] + seconds))
    monkeypatch.setattr(plugin, "Display", lambda: SimpleNamespace(display=shown.append))
    task = SimpleNamespace(
        action="model_sync_wait", args={"job": "j1", "path": "/m", "timeout_s": timeout_s}, async_val=0, check_mode=False, delegate_to=None,
        environment=None, diff=False, timeout=0,
    )  # fmt: skip
    connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir="/nonexistent"), become=None)
    action = plugin.ActionModule(task, connection, None, None, None, None)

    def look(_command, sudoable):
        text = next(notes, None)
        return {"rc": 0, "stdout": text} if text is not None else {"rc": 1, "stdout": ""}

    monkeypatch.setattr(action, "_low_level_execute_command", look)
    monkeypatch.setattr(action, "get_shell_option", lambda _name, default: default)
    monkeypatch.setattr(action, "_execute_module", lambda **_arguments: next(states))
    return action.run(task_vars={"inventory_hostname": "node3"}), shown


def test_rate_and_time_left_are_told_every_ten_seconds_and_the_result_is_the_modules(plugin, monkeypatch):
    running = {"finished": False}
    result, shown = waiting(plugin, monkeypatch, NOTES[:25], [running, running, {"finished": True, "fact": {"status": "healthy"}}])
    assert result["fact"] == {"status": "healthy"}
    assert [line.split(None, 1) for line in shown] == [["node3", "25 % of 100.0 GB, 1500.0 MB/s from node2, 50 s left"]] * 2


def test_a_note_that_a_killed_copy_left_is_not_waited_for(plugin, monkeypatch):
    result, _shown = waiting(plugin, monkeypatch, NOTES, [{"finished": True, "failed": True, "msg": "killed"}])
    assert result["failed"] and result["msg"] == "killed"


def test_a_copy_whose_end_nobody_noted_is_found_by_its_silence(plugin, monkeypatch):
    result, _shown = waiting(plugin, monkeypatch, NOTES[:5] + NOTES[5:6] * 1000, iter(lambda: {"finished": False}, None), timeout_s=7200)
    assert result["failed"] and "killed" in result["msg"]


def test_what_had_come_to_a_copy_that_was_killed_is_in_its_fact(plugin):
    fact = {"status": "incomplete", "reasons": [{"check": "model.copy"}], "measured": {"size_bytes": 9, "transferred_bytes": 0}}
    told = plugin.interrupted(fact, {"moved_bytes": 7, "kept_bytes": 5}, "it was killed")
    assert told["status"] == "incomplete" and told["measured"] == {"size_bytes": 9, "transferred_bytes": 7}
    assert told["reasons"][0]["seen"] == "it was killed; 7 bytes had come, 5 of them are kept" and told["reasons"][0]["remedy"]
    assert plugin.interrupted(fact, None, "it was killed")["measured"]["transferred_bytes"] == 0
    assert plugin.interrupted({}, {"moved_bytes": 7}, "x") is None and fact["measured"]["transferred_bytes"] == 0


def test_a_copy_that_never_ends_is_told(plugin, monkeypatch):
    result, _shown = waiting(plugin, monkeypatch, [], iter(lambda: {"finished": False}, None), timeout_s=30)
    assert result["failed"] and "30 s" in result["msg"]


def test_a_note_in_the_making_is_none(plugin):
    assert plugin.words(None) == plugin.words({}) == plugin.words({"kept_bytes": "x"}) == ""
    assert plugin.words({"kept_bytes": 0, "missing_bytes": 5, "rate_bytes_s": 0, "from": "a"}).endswith("nothing comes")
