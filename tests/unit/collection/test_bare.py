"""A Python with nothing but ansible-core, the artefact installed by its own ansible-galaxy: the validate part, and reports."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import venv
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from report_runs import PLOTS, health, put, reason, whole_run, write

NODE = {"ansible_connection": "local", "ansible_host": "127.0.0.1", "ansible_python_interpreter": sys.executable}
PLOT = re.compile(r"not drawn, since matplotlib cannot be imported \(No module named 'matplotlib'\)")


def needed(name, found=None):
    """Return the installed distributions that one asks for, itself included, as pip would find them."""
    found = {} if found is None else found
    if name not in found:
        found[name] = metadata.distribution(name)
        for line in found[name].requires or ():
            requirement = Requirement(line)
            if not requirement.marker or requirement.marker.evaluate({"extra": ""}):
                needed(requirement.name, found)
    return found


class Bare:
    """An environment of its own in ``folder``, whose commands see no variable of Ansible's or Plumbline's and no other home."""

    def __init__(self, folder):
        self.python, self.home = folder / "venv" / "bin" / "python", folder / "home"

    def run(self, cwd, *arguments):
        env = {key: value for key, value in os.environ.items() if not key.startswith(("PLUMBLINE_", "ANSIBLE_", "PYTHON", "VIRTUAL"))}
        env.update(HOME=str(self.home), PATH="%s:/usr/bin:/bin:/usr/sbin:/sbin" % self.python.parent)
        return subprocess.run([self.python, *arguments], cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=300)

    def play(self, cwd, *arguments):
        """Run ansible-playbook and return what it said, in one line."""
        done = self.run(cwd, "-m", "ansible", "playbook", *arguments)
        return done.returncode, re.sub(r"\s+", " ", done.stdout + done.stderr)


@pytest.fixture(scope="module")
def bare(artefact, tmp_path_factory):
    """Return a :class:`Bare` with the distributions of ansible-core, linked from this environment, since the index may be far."""
    made = Bare(tmp_path_factory.mktemp("bare"))
    made.home.mkdir()
    venv.create(made.python.parent.parent)
    (site,) = made.python.parent.parent.glob("lib/python*/site-packages")
    for distribution in needed("ansible-core").values():
        for top in {path.parts[0] for path in distribution.files if path.parts[0] not in ("..", "__pycache__")}:
            if not (site / top).exists():
                (site / top).symlink_to(Path(distribution.locate_file(top)).resolve())
    assert made.run("/", "-c", "import jsonschema").returncode and made.run("/", "-c", "import matplotlib").returncode
    done = made.run("/", "-m", "ansible", "galaxy", "collection", "install", str(artefact))
    assert done.returncode == 0, done.stdout + done.stderr
    return made


def test_the_validate_part_runs_and_its_report_says_what_is_missing(bare, tmp_path):
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"nodes": {"hosts": {"this_machine": NODE}}}))
    _status, said = bare.play(tmp_path, "plumbline.cluster.site", "-i", "hosts.yml", "--tags", "validate")
    (folder,) = (path for path in (tmp_path / "results").iterdir() if path.is_dir())
    install = "pip install -r %s" % (bare.home / ".ansible/collections/ansible_collections/plumbline/cluster/requirements.txt")
    for page in ("report.html", "report.md"):
        text = (folder / page).read_text().replace("\\", "")
        assert install in text and "this_machine" in text, said
        assert "matplotlib is missing" in text and "jsonschema is missing" in text
    assert "[WARNING]: plots: none are drawn" in said and "[WARNING]: schemas: facts are checked" in said and install in said
    # What the machine is decides the verdicts. Each fact was held against its schema, and fits it.
    kept = json.loads((folder / "facts.json").read_text())
    assert sorted(entry["kind"] for entry in kept["facts"]) == ["clocks", "health", "health"]
    assert [entry["problems"] for entry in kept["facts"]] == [[], [], []]
    assert (folder / "junit.xml").is_file() and not (folder / "plots").exists()


def test_of_a_whole_run_everything_is_told_but_the_plots_and_a_broken_fact_is_incomplete(bare, tmp_path):
    files = whole_run()
    put(files, "node1", dict(health("healthy", [reason("disk.free", "healthy", "9 GiB", "5 GiB")]), duration_s="long"))
    write(files, tmp_path / "run")
    status, said = bare.play(tmp_path, "plumbline.cluster.report", "-e", "report_run_dir=%s" % (tmp_path / "run"))
    assert status and "does not fit docs/schema/fact.schema.json" in said, said
    kept = json.loads((tmp_path / "run" / "facts.json").read_text())
    assert kept["verdicts"]["nodes"]["node1"]["status"] == "incomplete"
    assert [len(entry["problems"]) for entry in kept["facts"] if entry["problems"]] == [1]
    for page in ("report.html", "report.md"):
        text = (tmp_path / "run" / page).read_text()
        assert len(PLOT.findall(text.replace("&#39;", "'").replace("\\", ""))) == len(PLOTS) and "tok/s" in text
    assert not (tmp_path / "run" / "plots").exists()


def test_a_run_that_insists_on_plots_does_not_start(bare, tmp_path):
    (tmp_path / "hosts.yml").write_text(
        yaml.safe_dump({"nodes": {"hosts": {"this_machine": NODE}, "vars": {"preflight_packages": ["matplotlib"]}}})
    )
    status, said = bare.play(tmp_path, "plumbline.cluster.site", "-i", "hosts.yml", "--tags", "validate")
    assert status and "1 problem before anything was touched" in said and "lacks matplotlib: run" in said, said
