"""One run at a time serves on a node, and who is refused is told whose turn it is."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys

import pytest
from ansible.module_utils.plumbline.controller import holder as controller
from ansible.module_utils.plumbline.serving import lock
from module_run import run_module
from project import ROOT

serve_lock = importlib.import_module("serve_lock")
NOW = 1_800_000_000.0


def holder(name="first", **more):
    return dict({"token": name, "run": "run-" + name, "user": "alice", "controller": "desk", "pid": 4711, "layout": "tp8"}, **more)


@pytest.fixture
def path(tmp_path):
    return str(tmp_path / "serving.lock")


def take(path, name, busy=False, gone="", at=NOW):
    return lock.take(path, holder(name), busy, gone, at)


def test_a_second_run_is_refused_and_told_who_holds_it(path):
    assert take(path, "first") == (None, "")
    former, why = take(path, "second", at=NOW + 60)
    assert why == ""
    assert lock.described(former) == "run run-first of alice@desk (process 4711 there), since 2027-01-15 08:00:00 UTC, layout tp8"
    assert lock.holder_of(path)["token"] == "first"


def test_the_holder_renews_it_and_gives_it_back(path):
    take(path, "first")
    assert take(path, "first", at=NOW + 3000) == (None, "")
    assert (lock.holder_of(path)["since"], lock.holder_of(path)["renewed"]) == (NOW, NOW + 3000)
    lock.release(path, "second", kept=False)
    assert lock.holder_of(path)["token"] == "first", "nobody gives back what another holds"
    lock.release(path, "first", kept=False)
    assert lock.holder_of(path) is None and take(path, "second") == (None, "")


@pytest.mark.parametrize(("busy", "age_s", "taken"), [
    (False, lock.STALE_S - 1, False),  # between two layouts
    (True, 10 * lock.STALE_S, False),  # a benchmark that takes hours
    (False, lock.STALE_S + 1, True),
    (False, -3600, False),  # the node's clock was set back
])  # fmt: skip
def test_a_lock_is_stale_when_nothing_runs_and_its_run_does_not_come_back(path, busy, age_s, taken):
    take(path, "first")
    former, why = take(path, "second", busy=busy, at=NOW + age_s)
    assert former["token"] == "first" and bool(why) == taken
    assert lock.holder_of(path)["token"] == ("second" if taken else "first")


def test_a_run_that_has_ended_is_replaced_at_once_but_no_other(path):
    take(path, "first")
    assert take(path, "second", busy=True, gone="another")[1] == ""
    former, why = take(path, "second", busy=True, gone="first")
    assert former["token"] == "first" and "has ended" in why


def test_what_was_kept_serving_is_replaced_with_its_name(path):
    take(path, "first")
    lock.release(path, "first", kept=True)
    former, why = take(path, "second", busy=True)
    assert former["run"] == "run-first" and "left its server running" in why
    assert lock.holder_of(path)["kept"] is False


@pytest.mark.parametrize("text", ["", "{", "null", "[]", "7", '{"token": "x"}', '{"token": "x", "since": "a", "renewed": 1}'])
def test_a_file_without_a_holder_holds_nothing(path, text):
    with open(path, "w", encoding="utf-8") as stream:
        stream.write(text)
    assert take(path, "first") == (None, "")


def test_a_link_in_tmp_is_not_followed(path, tmp_path):
    (tmp_path / "other").write_text("mine")
    os.symlink(tmp_path / "other", path)
    with pytest.raises(OSError, match="symbolic"):
        take(path, "first")
    assert (tmp_path / "other").read_text() == "mine"


def test_root_has_one_lock_a_node_and_other_users_one_each():
    assert lock.path_of(0) == "/run/plumbline-serving.lock"
    assert lock.path_of(1000) != lock.path_of(1001)


def test_of_many_that_ask_at_once_one_gets_it(path):
    code = ("import sys\nfrom plumbline.serving import lock\n"
            "print(lock.take(sys.argv[1], {'token': sys.argv[2]}, True)[0] is None)")  # fmt: skip
    env = dict(os.environ, PYTHONPATH=str(ROOT / "plugins/module_utils"))
    asked = [subprocess.Popen([sys.executable, "-c", code, path, str(n)], stdout=subprocess.PIPE, text=True, env=env) for n in range(8)]
    assert sorted(process.communicate()[0] for process in asked) == ["False\n"] * 7 + ["True\n"]


def test_module_takes_refuses_and_breaks(path, capsys):
    first, second = holder("first"), holder("second", user="bob")
    assert run_module(serve_lock, capsys, holder=first, path=path, layout="tp8", _ansible_check_mode=True)["held"] is False
    assert not os.path.exists(path), "a check takes nothing"
    assert run_module(serve_lock, capsys, holder=first, path=path, layout="tp8")["held"] is False
    for check in (True, False):
        refused = run_module(serve_lock, capsys, holder=second, path=path, layout="tp8", _ansible_check_mode=check)
        assert refused["held"] is True and "run run-first of alice@desk" in refused["msg"]
        assert "playbooks/reset.yml" in refused["msg"] and refused["changed"] is False
    for check in (True, False):
        broken = run_module(serve_lock, capsys, state="broken", path=path, _ansible_check_mode=check)
        assert broken["changed"] is True and "alice@desk" in broken["msg"]
    assert run_module(serve_lock, capsys, state="broken", path=path)["changed"] is False, "a second reset has nothing to do"


def test_module_serves_on_and_says_so_where_no_lock_can_be_written(tmp_path, capsys):
    result = run_module(serve_lock, capsys, holder=holder(), path=str(tmp_path / "no" / "lock"))
    assert result["held"] is False and "Another run could end" in result["msg"] and not result.get("failed")


def test_module_without_its_action_says_what_is_missing(path, capsys):
    assert "action plugin" in run_module(serve_lock, capsys, path=path)["msg"]


def test_controller_knows_that_a_run_of_its_own_has_ended_and_of_no_other():
    ours = controller.this_run(os.getpid())
    assert ours["pid"] == os.getpid() and ours["token"]
    assert not controller.has_ended(ours, ours), "it runs"
    other = subprocess.Popen(["sleep", "60"])
    theirs = controller.this_run(other.pid)
    assert theirs["token"] != ours["token"] and not controller.has_ended(theirs, ours)
    other.kill()
    other.wait()
    assert controller.has_ended(theirs, ours)
    assert controller.has_ended(dict(ours, started=ours["started"] - 1), ours), "another process by the same pid"
    for elsewhere in ({"controller": "desk"}, {"place": "another boot"}, {"place": ""}):
        assert not controller.has_ended(dict(theirs, **elsewhere), ours), "its processes cannot be seen from here"
    assert not controller.has_ended(dict(theirs, place=""), dict(ours, place=""))
