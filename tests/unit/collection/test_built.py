"""The built collection: nothing is missing, nothing has a short name, and it is the same each time."""

from __future__ import annotations

import ast
import configparser
import json
import re
from pathlib import Path

import pytest
import yaml
from plumbline_collection.build import build, image_needs
from plumbline_collection.edits import Unsafe
from plumbline_collection.project import Project
from project import ROOT

PROJECT = Project(ROOT)


def texts(folder, *suffixes):
    return {path: path.read_text() for path in sorted(folder.rglob("*")) if path.suffix in suffixes and path.is_file()}


def test_the_same_project_makes_the_same_files(built, tmp_path):
    def content(folder):
        return {path.relative_to(folder): (path.read_bytes(), path.stat().st_mode) for path in folder.rglob("*") if path.is_file()}

    assert content(build(ROOT, tmp_path)) == content(built)


def test_no_import_by_the_projects_name_is_left(built):
    found = texts(built / "plugins", ".py")
    assert len(found) > 200
    for path, text in found.items():
        for node in ast.walk(ast.parse(text)):
            names = [node.module] if isinstance(node, ast.ImportFrom) else [item.name for item in getattr(node, "names", ())]
            assert not [name for name in names if str(name).startswith("ansible.module_utils.plumbline")], path


def test_no_short_name_of_a_filter_module_or_role_is_left(built):
    short = re.compile(r"\|\s*(?:%s)\b" % "|".join(PROJECT.filters))
    key = re.compile(r"^ *(?:- )?(?:%s):\s*(?:\n|$)" % "|".join(PROJECT.actions), re.M)
    role = re.compile(r"_role:\n\s+name: (?!plumbline\.cluster\.)")
    found = {**texts(built / "roles", ".yml", ".j2"), **texts(built / "playbooks", ".yml")}
    full = 0
    for path, text in found.items():
        assert not short.search(text), path
        assert "tasks" not in path.parts and path.parent.name != "playbooks" or not key.search(text), path
        assert not role.search(text), path
        full += text.count("plumbline.cluster.")
    assert full > 60


def test_no_sentence_sends_to_the_projects_playbooks_or_make(built):
    for path, text in texts(built / "plugins", ".py").items():
        assert max(map(len, text.splitlines()), default=0) <= 160, "%s: too long for ansible-test" % path
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.Constant) and isinstance(node.value, str) and " " in node.value and path.name != "place.py":
                assert not re.search(r"[ `](site\.yml|playbooks/\w+\.yml|make azure`)", node.value), (path, node.value)


def test_everything_of_the_project_is_there(built):
    for name in PROJECT.modules:
        assert (built / "plugins/modules" / (name + ".py")).is_file()
    for kind in ("action", "callback", "filter", "inventory"):
        for path in (ROOT / "plugins" / kind).glob("*.py"):
            assert (built / "plugins" / kind / path.name).is_file()
    for path in [*(ROOT / "docs/schema").iterdir(), *(ROOT / "playbooks").glob("*.yml"), *(ROOT / "roles").glob("*/*/*.*")]:
        assert (built / path.relative_to(ROOT)).is_file()
    assert (built / "playbooks/site.yml").is_file() and not (built / "library").exists()
    assert not list(built.rglob("__pycache__")) and not (built / "inventory/lab/hosts.yml").exists()


def test_the_metadata_say_what_the_project_says(built):
    galaxy = yaml.safe_load((built / "galaxy.yml").read_text())
    assert (galaxy["namespace"], galaxy["name"], galaxy["version"]) == ("plumbline", "cluster", PROJECT.version)
    runtime = yaml.safe_load((built / "meta/runtime.yml").read_text())
    assert runtime["action_groups"] == {"all": PROJECT.actions}
    needs = yaml.safe_load((built / "meta/execution-environment.yml").read_text())["dependencies"]
    assert all((built / name).is_file() for name in needs.values())
    for pin in (built / "requirements.txt").read_text().split():
        assert pin in PROJECT.settings["dependencies"]


def test_plugins_of_a_kind_without_a_rule_end_the_build(tmp_path):
    for path in ROOT.iterdir():
        if path.name not in (".git", "plugins"):
            (tmp_path / path.name).symlink_to(path)
    for kind in [*(ROOT / "plugins").iterdir(), "lookup"]:
        (tmp_path / "plugins" / getattr(kind, "name", kind)).mkdir(parents=True)
    with pytest.raises(Unsafe, match="plugins/lookup: no rule"):
        build(tmp_path, tmp_path / "out")


def test_the_image_has_the_pins_of_the_project(built):
    image = yaml.safe_load((ROOT / "execution-environment.yml").read_text())
    needs = image_needs(PROJECT)
    pins = needs["requirements-image.txt"].splitlines()
    assert set(PROJECT.azure_pins()) < set(pins) and {"docker", "jsonschema", "matplotlib"} <= {pin.partition("==")[0] for pin in pins}
    dependencies = image["dependencies"]
    own = PROJECT.settings["dependencies"]
    assert dependencies["ansible_core"]["package_pip"] in own and dependencies["ansible_runner"]["package_pip"] in own
    collections = {item["name"]: item.get("version") for item in dependencies["galaxy"]["collections"]}
    wanted = {item["name"]: item["version"] for item in yaml.safe_load((ROOT / "requirements.yml").read_text())["collections"]}
    assert {name: collections.get(name) for name in wanted} == wanted
    constraints = dict(line.split("==") for line in needs["constraints.txt"].splitlines())
    for pin in (pin.split("==") for pin in pins if "==" in pin):
        assert constraints[pin[0]] == pin[1], "pip would find the pins in conflict"


def test_the_images_settings_are_the_projects():
    ours, image = configparser.ConfigParser(), configparser.ConfigParser()
    ours.read(ROOT / "ansible.cfg")
    image.read(ROOT / "tools/image/ansible.cfg")
    folders = {
        name for name in ours["defaults"] if name.endswith(("_plugins", "_path")) or name in ("inventory", "library", "module_utils")
    }
    assert {key: value for key, value in ours["defaults"].items() if key not in folders | {"stdout_callback"}} == {
        key: value for key, value in image["defaults"].items() if key not in ("callbacks_enabled", "stdout_callback")
    }
    assert image["defaults"]["stdout_callback"] == "plumbline.cluster." + ours["defaults"]["stdout_callback"]
    assert [dict(ours[name]) for name in ("callback_default", "ssh_connection")] == [
        dict(image[name]) for name in ("callback_default", "ssh_connection")
    ]


@pytest.mark.parametrize("kind", ["module", "filter", "callback", "inventory"])
def test_ansible_doc_lists_all_of_a_kind(kind, installed, tmp_path):
    done = installed.run(tmp_path, "ansible-doc", "-t", kind, "-l", "-j", "plumbline.cluster")
    listed = json.loads(done.stdout)
    wanted = {
        "module": PROJECT.actions,
        "filter": PROJECT.filters,
        "inventory": PROJECT.inventories,
        "callback": ["plumbline", "plumbline_fold"],
    }
    assert set(listed) == {"plumbline.cluster." + name for name in wanted[kind]}
    assert all(text and text != "UNDOCUMENTED" for text in listed.values()), listed


def test_what_other_collections_have_is_asked_for_only_where_it_is_needed():
    """Ansible resolves the names of a file's modules when it reads the file, whether or not their tasks run."""
    foreign = re.compile(r"^ *(?:- )?(?!ansible\.builtin\.)(\w+\.\w+\.\w+):", re.M)
    paths = [path for folder in ("roles", "playbooks") for path in sorted((ROOT / folder).rglob("*.yml")) if "meta" not in path.parts]
    needing = [path for path in paths if foreign.search(path.read_text()) and "awx" not in str(path)]
    assert ROOT / "roles/vllm_serve/tasks/container.yml" in needing
    for path in needing:
        included = []
        for text in map(Path.read_text, paths):
            for task in re.split(r"\n\n|^ *- name: ", text, flags=re.M):
                if re.search(r"(?:_tasks: |file: |tasks_from: )%s(?:\.yml)?$" % path.stem, task, re.M):
                    included.append(task)
        assert included and all("ansible.builtin.include_" in task and "== 'docker'" in task for task in included), (path, included)
