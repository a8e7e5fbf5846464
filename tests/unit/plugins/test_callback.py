"""The callback keeps facts and incidents as they come, whatever happens later."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import pytest
from project import load
from report_runs import health, reason

callback = load("plugins/callback/plumbline.py")


def fact(status="healthy", name="node"):
    found = [reason("disk.free", status, "1 GiB", "5 GiB")]
    return dict(health(status, found), name=name)


def result(data, host="node1", role=None, delegate=None):
    task = SimpleNamespace(get_name=lambda: "a task", _role=role, _uuid="1", delegate_to=delegate)
    return SimpleNamespace(result=data, host=SimpleNamespace(get_name=lambda: host), task=task)


@pytest.fixture
def keeper(tmp_path):
    plugin = callback.CallbackModule()
    plugin.dir = str(tmp_path)
    plugin.run = {"check": False, "phases": [], "hosts": []}
    plugin.said = []
    plugin._display = SimpleNamespace(display=lambda text, color=None: plugin.said.append(text), warning=plugin.said.append)
    plugin._learn_schemas()
    return plugin


def test_fact_is_on_disk_as_soon_as_the_task_returns(keeper, tmp_path):
    kept = fact()
    keeper.v2_runner_on_ok(result({"ansible_facts": {"plumbline": {"health": kept}}}))
    assert json.loads((tmp_path / "facts/node1/health.node.json").read_text()) == kept
    assert (tmp_path / "run.json").exists()


def test_what_a_later_task_of_the_run_brings_is_no_alarm_and_is_kept_as_incomplete(keeper, tmp_path):
    kept = fact("incomplete")
    keeper.v2_runner_on_ok(result({"pending": True, "ansible_facts": {"plumbline": {"health": kept}}}))
    assert json.loads((tmp_path / "facts/node1/health.node.json").read_text())["status"] == "incomplete"
    assert keeper.said[-1].split()[:2] == ["pending", "node1"] and "incomplete" not in keeper.said[-1] and "1 GiB" in keeper.said[-1]
    # A verdict is shown as it is, whatever is still to come.
    keeper.v2_runner_on_ok(result({"pending": True, "ansible_facts": {"plumbline": {"health": fact("failed")}}}))
    assert keeper.said[-1].split()[0] == "failed"


def test_facts_of_a_loop_are_all_kept(keeper, tmp_path):
    items = [{"ansible_facts": {"plumbline": {"health": fact(name=name)}}} for name in ("a", "b")]
    keeper.v2_runner_on_ok(result({"results": items}))
    assert sorted(path.name for path in (tmp_path / "facts/node1").iterdir()) == ["health.a.json", "health.b.json"]


def test_failed_task_with_a_fact_keeps_the_fact(keeper, tmp_path):
    keeper.v2_runner_on_failed(result({"msg": "x", "ansible_facts": {"plumbline": {"health": fact("failed")}}}))
    assert (tmp_path / "facts/node1/health.node.json").exists()
    assert not (tmp_path / "incidents.json").exists()


def test_incidents_are_kept_and_secrets_are_not(keeper, tmp_path):
    keeper.v2_runner_on_failed(result({"msg": "password: hunter2", "_ansible_no_log": True}))
    keeper.v2_runner_on_unreachable(result({"msg": "no route to host", "unreachable": True}, host="node2"))
    incidents = json.loads((tmp_path / "incidents.json").read_text())
    assert [(item["host"], item["state"]) for item in incidents] == [("node1", "failed"), ("node2", "unreachable")]
    assert "hunter2" not in (tmp_path / "incidents.json").read_text()
    assert incidents[1]["message"] == "no route to host"


def test_a_loop_over_nodes_blames_the_node_and_not_the_one_that_loops(keeper, tmp_path):
    item = {"msg": "no route to host", "unreachable": True}
    keeper.v2_runner_item_on_failed(result(item, delegate="node2"))
    keeper.v2_runner_item_on_failed(result({"msg": "password: hunter2", "_ansible_no_log": True}))
    whole = {"msg": "All items completed", "results": [item], "unreachable": True}
    keeper.v2_runner_on_unreachable(result(whole, delegate="{{ item }}"))
    keeper.v2_runner_on_failed(result(dict(whole, failed=True), delegate="{{ item }}"))
    keeper.v2_runner_on_failed(result({"msg": "'x' is undefined"}, delegate="{{ item }}"))
    incidents = json.loads((tmp_path / "incidents.json").read_text())
    assert [(one["host"], one["state"], one["message"]) for one in incidents] == [
        ("node2", "unreachable", "no route to host"), ("node1", "failed", "hidden: the task is marked no_log"),
        ("node1", "failed", "'x' is undefined"),
    ]  # fmt: skip


def test_a_fact_that_breaks_its_schema_is_kept_and_counts_as_incomplete(keeper, tmp_path):
    broken = dict(fact(), measured={"cpu_count": "two"})
    keeper.v2_runner_on_ok(result({"ansible_facts": {"plumbline": {"health": broken}}}))
    assert json.loads((tmp_path / "facts/node1/health.node.json").read_text()) == broken
    (line,) = keeper.said
    assert line.split()[:3] == ["incomplete", "node1", "health"] and "fact.schema" in line and "measured" in line
    keeper.v2_runner_on_ok(result({"ansible_facts": {"plumbline": {"health": fact("degraded")}}}))
    assert keeper.said[1].split()[0] == "degraded" and "disk.free: 1 GiB (expected 5 GiB)" in keeper.said[1]


def test_a_failed_fact_outlives_an_old_jsonschema(keeper, tmp_path, monkeypatch):
    """Debian 12 and Ubuntu 24.04 have one without the package ``referencing``."""
    monkeypatch.setitem(sys.modules, "referencing", None)
    broken = dict(fact("failed"), measured={"cpu_count": "two"})
    keeper.v2_runner_on_ok(result({"ansible_facts": {"plumbline": {"health": broken}}}))
    assert json.loads((tmp_path / "facts/node1/health.node.json").read_text()) == broken
    assert keeper.said[0].split()[:3] == ["failed", "node1", "health"] and "1 GiB" in keeper.said[0]


@pytest.mark.parametrize("schemas", [True, False])
@pytest.mark.parametrize(
    "odd", [{"duration_s": "long"}, {"status": ["failed"]}, {"status": None}, {"reasons": [1]}, {"reasons": None}, {"name": {"a": 1}},
            {"reasons": [{"status": "failed"}]}],
)  # fmt: skip
def test_whatever_a_fact_holds_it_is_kept_and_what_came_with_it_too(keeper, tmp_path, odd, schemas):
    if not schemas:
        keeper._schemas = None
    keeper._tally.hosts = 100
    odd = dict(fact("failed"), **odd)
    keeper.v2_runner_on_ok(result({"plumbline_facts": {"node1": [odd], "node2": [fact("failed")]}}))
    assert [json.loads(path.read_text()) for path in (tmp_path / "facts/node1").iterdir()] == [odd]
    assert (tmp_path / "facts/node2/health.node.json").exists() and len(keeper.said) == 2


def test_a_fact_whose_check_breaks_is_kept_and_incomplete(keeper, tmp_path, monkeypatch):
    monkeypatch.setattr(callback, "entry_reasons", lambda _entry: [][1])
    keeper.v2_runner_on_ok(result({"ansible_facts": {"plumbline": {"health": fact()}}}))
    assert (tmp_path / "facts/node1/health.node.json").exists()
    assert keeper.said[0].split()[0] == "incomplete" and "cannot be checked: IndexError" in keeper.said[0]


def test_facts_of_several_hosts_go_to_their_hosts(keeper, tmp_path):
    keeper.v2_runner_on_ok(result({"plumbline_facts": {"node2": [fact(name="fleet")], "node3": [fact(name="fleet"), "no fact"]}}))
    assert sorted(str(path.relative_to(tmp_path)) for path in tmp_path.rglob("health.*")) == [
        "facts/node2/health.fleet.json", "facts/node3/health.fleet.json",
    ]  # fmt: skip


def test_check_mode_leaves_nothing_in_the_results_and_nothing_behind(tmp_path, monkeypatch):
    for name in ("PLUMBLINE_RUN_ID", "PLUMBLINE_RUN_DIR", "PLUMBLINE_KEPT_DIR"):
        monkeypatch.setenv(name, "")  # what the run sets goes away with the test
    monkeypatch.setattr(callback.context, "CLIARGS", {"check": True})
    monkeypatch.setattr(callback.atexit, "register", lambda *_args: None)
    plugin = callback.CallbackModule()
    plugin._display = SimpleNamespace(display=lambda *_args, **_more: None, warning=lambda _text: None)
    monkeypatch.setattr(plugin, "get_option", lambda _name: str(tmp_path / "results"))
    plugin.v2_playbook_on_start(SimpleNamespace(_file_name="site.yml"))
    kept = callback.os.environ["PLUMBLINE_KEPT_DIR"]
    plugin.v2_runner_on_ok(result({"ansible_facts": {"plumbline": {"health": fact()}}}))
    plugin.v2_runner_on_unreachable(result({"msg": "gone"}))
    assert sorted(callback.os.listdir(kept)) == ["facts", "incidents.json", "run.json"]
    assert callback.os.environ["PLUMBLINE_RUN_DIR"].startswith(str(tmp_path)) and list(tmp_path.iterdir()) == []
    callback.remove_in(callback.os.getpid() + 1, kept)
    assert callback.os.path.isdir(kept), "a process that was forked off removes nothing"
    callback.remove_in(callback.os.getpid(), kept)
    assert not callback.os.path.exists(kept)


def test_fact_name_cannot_leave_the_run_folder(keeper, tmp_path):
    keeper.v2_runner_on_ok(result({"ansible_facts": {"plumbline": {"health": dict(fact(), name="../../evil")}}}))
    assert [path.name for path in (tmp_path / "facts/node1").iterdir()] == ["health..._.._evil.json"]


@pytest.mark.parametrize(("name", "text"), [("default", True), ("ansible.builtin.minimal", True), ("awx_display", True), ("json", False),
                                            ("ansible.posix.jsonl", False), ("their.own.thing", False)])  # fmt: skip
def test_only_stdout_that_people_read_gets_our_lines(name, text):
    assert callback.stdout_is_text(name) is text


def test_without_the_projects_settings_it_says_how_to_start():
    ours = str(callback.os.path.join(callback._ROOT, "ansible.cfg"))
    argv = ["/usr/bin/ansible-playbook", "/x y/site.yml"]
    assert callback.started_without_config(argv, ours) is None
    assert callback.started_without_config(argv, "/etc/own.cfg", [callback._ROOT + "/plugins/callback"]) is None
    for config in (None, "/etc/ansible/ansible.cfg"):
        said = callback.started_without_config(argv, config, ["/usr/share/callback"])
        assert "ANSIBLE_CONFIG=%s ansible-playbook '/x y/site.yml'" % ours in said and (config or "no ansible.cfg") in said


@pytest.mark.parametrize("playbook", ["reset.yml", "lab_down.yml", "site.yml"])
def test_what_measures_nothing_also_runs_where_nothing_can_be_kept(tmp_path, monkeypatch, playbook):
    for name in ("PLUMBLINE_RUN_ID", "PLUMBLINE_RUN_DIR", "PLUMBLINE_KEPT_DIR", "PLUMBLINE_NOT_KEPT"):
        monkeypatch.setenv(name, "")
    (tmp_path / "results").write_text("a file")
    plugin, said = callback.CallbackModule(), []
    plugin._display = SimpleNamespace(
        warning=said.append, error=lambda text, **_more: said.append(text), display=lambda *_args, **_more: None
    )
    monkeypatch.setattr(plugin, "get_option", lambda _name: str(tmp_path / "results"))
    if playbook == "site.yml":
        with pytest.raises(SystemExit):
            plugin._make_folder(playbook, False)
    else:
        plugin._make_folder(playbook, False)
        plugin.v2_runner_on_unreachable(result({"msg": "gone"}))
        assert plugin.dir is None and not plugin.keeper.lost
    assert "no results can be kept" in said[0] and "move it away" in said[0]


def test_a_node_that_ssh_does_not_reach_has_a_cause_and_a_remedy(keeper, tmp_path):
    wall = "Failed to connect to the host via ssh: " + "@" * 59 + "\nssh: connect to host 10.0.0.4 port 22: Connection refused"
    keeper.v2_runner_on_unreachable(result({"msg": wall, "unreachable": True}))
    (incident,) = json.loads((tmp_path / "incidents.json").read_text())
    assert incident["message"] == "nothing listens there for ssh" and "start sshd" in incident["remedy"]
    assert "unreachable node1" in keeper.said[0] and "@" not in keeper.said[0]
