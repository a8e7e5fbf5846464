"""The installed collection, used from an empty folder: by ansible-runner without any environment, and from somebody's own plays."""

from __future__ import annotations

import json
import os
import re
import shutil
import sys

import ansible_runner
import yaml
from ansible.plugins.loader import connection_loader
from plumbline_collection.project import Project
from project import ROOT, load
from report_runs import health, reason

PROJECT = Project(ROOT)
NODE = {"ansible_connection": "local", "ansible_host": "127.0.0.1", "ansible_python_interpreter": sys.executable}
INVENTORY = {"nodes": {"hosts": {"this_machine": NODE}}}


def test_ansible_runner_needs_no_environment(installed, tmp_path, monkeypatch):
    """The validate part on this machine and its report; a project of AWX has no more than this one line."""
    for name in [name for name in os.environ if name.startswith(("ANSIBLE_", "PLUMBLINE_"))]:
        monkeypatch.delenv(name)
    (tmp_path / "project").mkdir()
    # As ansible-galaxy with a project's collections/requirements.yml puts it, which is where Ansible looks beside a playbook.
    shutil.copytree(installed.root, tmp_path / "project" / "collections")
    (tmp_path / "project" / "validate.yml").write_text("- import_playbook: plumbline.cluster.site\n")
    run = ansible_runner.run(
        private_data_dir=str(tmp_path), playbook="validate.yml", inventory=INVENTORY, cmdline="--tags validate", quiet=True
    )
    with open(run.stdout.name, encoding="utf-8") as stream:
        said = stream.read()
    (folder,) = (path for path in (tmp_path / "project" / "results").iterdir() if path.is_dir())
    facts = sorted(path.name for path in (folder / "facts" / "this_machine").iterdir())
    assert facts == ["clocks.node.json", "health.fleet.json", "health.node.json"], said
    assert "overall:" in said and "<html" in (folder / "report.html").read_text()
    kept = json.loads((folder / "run.json").read_text())
    assert kept["plumbline_version"] == PROJECT.version and kept["playbook"] == "validate.yml"
    assert not [line for line in said.splitlines() if "schema" in line and "WARNING" in line], said
    # What the machine is decides the verdict; that it was judged by the schemas and rules of the collection does not depend on it.
    node = json.loads((folder / "facts.json").read_text())
    assert [entry["problems"] for entry in node["facts"]] == [[], [], []]
    done = {event["event_data"].get("resolved_action") for event in run.events}
    assert {"plumbline.cluster.preflight_check", "plumbline.cluster.node_health", "plumbline.cluster.plumbline_report"} <= done


def test_a_play_of_ones_own_has_the_callback_by_its_full_name_and_only_once(installed, tmp_path):
    fact = health("healthy", [reason("disk.free", "healthy", "9 GiB", "5 GiB")])
    shown = {
        "msg": "{{ lookup('env', 'ANSIBLE_NO_TARGET_SYSLOG') }}, {{ ['this_machine'] | plumbline.cluster.plumbline_addresses(hostvars) }}"
    }
    tasks = [
        {"name": "Keep a fact", "ansible.builtin.set_fact": {"plumbline": {"health": fact}}},
        {
            "name": "Fail in a role",
            "ansible.builtin.include_role": {"name": "plumbline.cluster.report"},
            "vars": {"report_run_dir": "/nowhere"},
        },
    ]
    plays = [
        {"name": "Mine", "hosts": "nodes", "gather_facts": False, "tasks": [{"name": "Show", "ansible.builtin.debug": shown}, *tasks]},
        {"ansible.builtin.import_playbook": "plumbline.cluster.select"},
    ]
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(INVENTORY))
    (tmp_path / "play.yml").write_text(yaml.safe_dump(plays, sort_keys=False))
    (tmp_path / "ansible.cfg").write_text("[defaults]\ncallbacks_enabled = plumbline.cluster.plumbline\n")
    done = installed.run(tmp_path, "ansible-playbook", "-i", "hosts.yml", "play.yml")
    assert done.stdout.count("plumbline: 1 facts kept in") == 1, done.stdout + done.stderr
    assert re.search(r"true, \['127\.0\.0\.1'\]", done.stdout), done.stdout
    (folder,) = (tmp_path / "results").iterdir()
    incidents = json.loads((folder / "incidents.json").read_text())
    assert {item["role"] for item in incidents} == {"report"}, "the judge knows roles by the project's names"


def test_what_is_wrong_is_told_with_the_collections_own_commands(installed, tmp_path):
    (tmp_path / "hosts.yml").write_text(
        yaml.safe_dump({"nodes": {"hosts": {"this_machine": NODE}, "vars": {"preflight_expected_nodes": 2}}})
    )
    arguments = [
        "plumbline.cluster.site",
        "-i",
        "hosts.yml",
        "--tags",
        "helth",
        "-e",
        json.dumps({"preflight_packages": ["no_such_package"]}),
    ]
    done = installed.run(tmp_path, "ansible-playbook", *arguments)
    said = re.sub(r"\s+", " ", done.stdout + done.stderr)
    assert done.returncode != 0 and "did you mean health?" in said, said
    assert "lacks no_such_package: run 'python -m pip install -r %s" % installed.folder in said, said


class Config:
    """Stands for Ansible's configuration, in which somebody has set what ``given`` names."""

    def __init__(self, given):
        self.given = given

    def get_config_value_and_origin(self, option, plugin_type=None, plugin_name=None):
        return ("x", "/etc/ansible.cfg") if option in self.given else ("x", "default")


def test_settings_of_the_project_hold_where_nobody_has_set_others():
    connection_loader.get("ssh", class_only=True)  # as each run of a playbook does before the callback is asked
    callback, found = load("plugins/callback/plumbline.py"), {}
    callback.settle(Config({"ssh_args"}), found)
    assert found == {"ANSIBLE_NO_TARGET_SYSLOG": "true", "ANSIBLE_PIPELINING": "true"}
    found = {}
    callback.settle(environ=found)  # the real configuration knows all of these options
    assert set(found) <= {variable for *_names, variable, _value in callback.SETTINGS}
