"""The collection's changelog is made of CHANGELOG.md, by antsibull-changelog from fragments; nobody writes a change twice."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest
import yaml
from plumbline_collection import changelog
from plumbline_collection.edits import Unsafe
from plumbline_collection.project import Project
from project import ROOT

VERSION = Project(ROOT).version
TEXT = """# Changelog

## Unreleased

- `make` it,
  in two lines.

### Fixed

- A *bad* name_ of [a page](docs/a.md).

## 0.1.0

- The first.
"""


def test_a_release_and_each_heading_in_it_is_a_fragment():
    assert changelog.fragments(TEXT, "0.2.0") == [
        ("0.2.0", "unreleased", "minor_changes", ["``make`` it, in two lines."]),
        ("0.2.0", "unreleased-fixed", "bugfixes", [r"A \*bad\* name\_ of a page (docs/a.md)."]),
        ("0.1.0", "0.1.0", "minor_changes", ["The first."]),
    ]


@pytest.mark.parametrize("line", ["### Remarks", "a sentence", "* another list"])
def test_what_would_be_lost_ends_the_build(line):
    with pytest.raises(Unsafe, match="CHANGELOG.md:6: expected an item of a list, a release or one of Added"):
        changelog.fragments("# Changelog\n\n## Unreleased\n\n- One.\n%s\n" % line, "0.2.0")


def test_no_line_of_the_projects_changelog_is_lost():
    text = (ROOT / changelog.SOURCE).read_text()
    found = changelog.fragments(text, VERSION)
    assert sum(len(items) for *_names, items in found) == sum(line.startswith("- ") for line in text.splitlines())


@pytest.mark.skipif(
    not (shutil.which("antsibull-changelog") or (Path(sys.executable).parent / "antsibull-changelog").exists()),
    reason="no antsibull-changelog: make setup installs it",
)
def test_antsibull_changelog_makes_it_and_finds_nothing(built, tmp_path):
    folder = tmp_path / "ansible_collections" / "plumbline" / "cluster"
    shutil.copytree(built, folder)
    changelog.write(folder, TEXT.replace("0.1.0", "0.0.9"), VERSION, "2026-11-27")
    releases = yaml.safe_load((folder / "changelogs" / "changelog.yaml").read_text())["releases"]
    assert releases[VERSION]["changes"]["bugfixes"] == [r"A \*bad\* name\_ of a page (docs/a.md)."]
    assert releases[VERSION]["fragments"] == ["unreleased-fixed.yml", "unreleased.yml"] and set(releases) == {VERSION, "0.0.9"}
    page = (folder / "CHANGELOG.rst").read_text()
    assert page.index("v" + VERSION) < page.index("``make`` it, in two lines.") < page.index("v0.0.9") < page.index("The first.")
    assert not (folder / "changelogs" / "fragments").exists()
    with pytest.raises(Unsafe, match="antsibull-changelog lint"):
        shutil.rmtree(folder / "changelogs")
        changelog.write(folder, "# Changelog\n\n## Unreleased\n\n- `code`s without an end.\n", VERSION, "2026-11-27")
