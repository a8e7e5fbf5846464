"""The command plumbline-node runs tests/node on an inventory, from any folder."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest
import tomllib
from project import ROOT, load

plumbline_node = load("scripts/plumbline_node.py")


def test_inventory_and_limit_become_testinfras_and_the_rest_is_pytests(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    found = plumbline_node.pytest_arguments(["-i", "mine", "-l", "gpu2", "-k", "sshd"])
    assert found[0] == str(ROOT / "tests/node")
    assert found[-4:] == ["--hosts=ansible://gpu2", "--ansible-inventory=%s" % (tmp_path / "mine"), "-k", "sshd"]
    assert not [item for item in plumbline_node.pytest_arguments([]) if item.startswith("--hosts")]


def test_inventory_that_is_not_there_is_named(capsys):
    with pytest.raises(SystemExit) as ended:
        plumbline_node.pytest_arguments(["-i", "/no/such/inventory"])
    assert ended.value.code == 2 and "there is no inventory /no/such/inventory" in capsys.readouterr().err


def test_it_collects_the_assertions_for_each_node_from_another_folder(tmp_path):
    (tmp_path / "hosts.yml").write_text("nodes: {hosts: {gpu1: {}, gpu2: {}}}")
    command = [sys.executable, str(ROOT / "scripts/plumbline_node.py"), "-i", "hosts.yml", "--collect-only", "-q", "-p", "no:cacheprovider"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "test_sshd_is_running[ansible://gpu1]" in done.stdout and "test_sshd_is_running[ansible://gpu2]" in done.stdout


def test_it_is_installed_under_its_name():
    """As pyproject.toml says: the module is where setuptools looks for it, and has the function."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    module, _colon, function = project["project"]["scripts"]["plumbline-node"].partition(":")
    settings = project["tool"]["setuptools"]
    assert module in settings["py-modules"] and (ROOT / settings["package-dir"][""] / (module + ".py")).is_file()
    assert callable(getattr(plumbline_node, function))
