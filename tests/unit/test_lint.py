"""What runs before a commit is what `make lint` runs."""

from __future__ import annotations

import re

import yaml
from project import ROOT

ASSIGNMENT = re.compile(r"[A-Z_]+=\S*")


def words(command):
    """Return a command's words; ``env`` before assignments says the same as a shell's assignments alone."""
    found = command.split()
    return found[1:] if found[0] == "env" and ASSIGNMENT.fullmatch(found[1]) else found


def recipe(target):
    """Return the commands of a target of the Makefile, in order."""
    rule = re.search(r"^%s:[^\n]*\n((?:\t[^\n]*\n)+)" % target, (ROOT / "Makefile").read_text(), re.M)
    return [line.strip() for line in rule.group(1).splitlines()]


def test_hooks_before_a_commit_are_the_commands_of_make_lint():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    hooks = [hook for repo in config["repos"] for hook in repo["hooks"]]
    assert [words(hook["entry"]) for hook in hooks] == [words(command) for command in recipe("lint")]
    assert len(hooks) >= 4


def test_hooks_download_nothing_and_look_at_the_whole_project():
    config = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())
    for repo in config["repos"]:
        assert repo["repo"] == "local"
        for hook in repo["hooks"]:
            assert hook["language"] == "system", hook["id"]
            assert hook["pass_filenames"] is False and hook["always_run"] is True, hook["id"]
