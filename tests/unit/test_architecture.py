"""docs/architecture.md holds: its floors are the contracts, its plugins are there, and its new measurement can be added as it says."""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
import subprocess
import sys

import pytest
from project import ROOT

PAGE = (ROOT / "docs/architecture.md").read_text()
# A file's name in bold on a line of its own, then the blocks that belong to it.
NAMED = re.compile(r"^\*\*`([^`\n]+)`\*\*\n((?:\n```\w+\n.*?^```\n)+)", re.M | re.S)
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```\n", re.M | re.S)
EXAMPLE = [(path, language, text) for path, blocks in NAMED.findall(PAGE) for language, text in BLOCK.findall(blocks)]
NEW = {path: text for path, language, text in EXAMPLE if language != "diff"}
CHANGED = [(path, text) for path, language, text in EXAMPLE if language == "diff"]


def houses():
    """Return the floors of each contract of layers in .importlinter, the highest first, by the contract's name."""
    config = configparser.ConfigParser()
    config.read(ROOT / ".importlinter")
    return {section["name"]: section["layers"].split("\n")[1:] for section in config.values() if section.get("type") == "layers"}


@pytest.mark.parametrize("floors", houses().values(), ids=list(houses()))
def test_floors_are_those_of_the_contracts(floors):
    assert "```text\n%s\n```" % "\n".join(floors) in PAGE


def test_every_action_plugin_is_named():
    plugins = {path.stem for path in (ROOT / "plugins/action").glob("*.py")}
    assert sorted(plugin for plugin in plugins if "`%s`" % plugin not in PAGE) == []


def changed(text, diff, path):
    """Return ``text`` with one diff carried out: lines that stay and go must be there exactly once."""
    lines = diff.splitlines()
    assert all(line[:1] in " -+" for line in lines), path
    before = "".join(line[1:] + "\n" for line in lines if line[:1] != "+")
    after = "".join(line[1:] + "\n" for line in lines if line[:1] != "-")
    assert text.count(before) == 1, "%s has these lines %d times:\n%s" % (path, text.count(before), before)
    return text.replace(before, after)


def run(folder, *command):
    """Run a command in the copy, as a user would, and return what it printed; its failure is the test's."""
    env = {key: value for key, value in os.environ.items() if not key.startswith(("PLUMBLINE_", "ANSIBLE_", "PYTEST_"))}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, "%s ended with %d:\n%s\n%s" % (
        " ".join(command),
        done.returncode,
        done.stdout[-4000:],
        done.stderr[-2000:],
    )
    return done.stdout


@pytest.fixture(scope="module")
def copy(tmp_path_factory):
    """Return a copy of the project in which the example was carried out, and nothing else."""
    folder = tmp_path_factory.mktemp("example") / "plumbline"
    listing = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for name in filter(None, listing.stdout.split("\0")):
        if (ROOT / name).is_file() or (ROOT / name).is_symlink():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name, follow_symlinks=False)
    for path, text in NEW.items():
        assert not (folder / path).exists(), "%s is there already" % path
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text)
    for path, diff in CHANGED:
        (folder / path).write_text(changed((folder / path).read_text(), diff, path))
    return folder


def test_example_is_read_off_the_page():
    assert len(NEW) >= 9 and len(CHANGED) >= 6
    assert PAGE.count("```diff\n") == len(CHANGED), "a change that belongs to no file"


def test_example_passes_lint(copy):
    run(copy, "ruff", "check", ".")
    run(copy, "ruff", "format", "--check", ".")
    run(copy, "env", "PYTHONPATH=plugins/module_utils", "lint-imports", "--no-logo", "--no-cache")


def test_suite_passes_with_the_example(copy):
    suite = ["tests/unit/test_project.py", "tests/unit/test_docs.py", "tests/unit/core", "tests/unit/machine", "tests/unit/controller"]
    # Drawing takes most of the time and knows no kinds; the next test renders a report in which the example is.
    no_drawing = ["--ignore-glob=*/plots", "-k", "not test_render or schema"]
    assert " passed" in run(copy, sys.executable, "-m", "pytest", *suite, *no_drawing, "-q", "-x")


def test_example_measures_and_its_fact_reaches_the_report(copy):
    """The module is run by its role on this machine: the callback keeps its fact, and the judge counts it."""
    this_machine = ["-i", "inventory/local", "-e", "ansible_become=false", "-e", "memory_bandwidth_size_mib=32"]
    run(copy, "ansible-playbook", *this_machine, "playbooks/health.yml", "--tags", "memory_bandwidth")
    (folder,) = (copy / "results").iterdir()
    fact = json.loads((folder / "facts/this_machine/memory.node.json").read_text())
    assert fact["status"] == "healthy"
    assert fact["measured"]["size_bytes"] == 32 * 2**20
    assert fact["measured"]["copy_best_gbps"] >= fact["measured"]["copy_gbps"] > 0.01

    run(copy, "ansible-playbook", *this_machine, "playbooks/report.yml", "-e", "report_run_dir=%s" % folder, "--skip-tags", "verdict")
    everything = json.loads((folder / "facts.json").read_text())
    (entry,) = everything["facts"]
    assert entry["problems"] == [], "the fact breaks the schema of the example"
    assert everything["verdicts"]["nodes"]["this_machine"]["phases"]["memory"] == "healthy"
    header = next(line for line in (folder / "report.md").read_text().splitlines() if line.startswith("| node "))
    assert "| memory |" in header
