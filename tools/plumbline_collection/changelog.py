"""The collection's changelog: CHANGELOG.md becomes fragments, and antsibull-changelog makes changelog.yaml and CHANGELOG.rst of them.

CHANGELOG.md is what people write, one line a change. Nothing is written twice.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from datetime import datetime, timezone
from pathlib import Path

import yaml

from .edits import Unsafe

SOURCE = "CHANGELOG.md"
UNRELEASED = "Unreleased"
# Headings within a release, as keepachangelog.com has them, and antsibull-changelog's sections.
SECTIONS = {
    "": "minor_changes",
    "Added": "minor_changes",
    "Changed": "major_changes",
    "Deprecated": "deprecated_features",
    "Removed": "removed_features",
    "Fixed": "bugfixes",
    "Security": "security_fixes",
}
CONFIG = {
    "title": "Plumbline",
    "changes_file": "changelog.yaml",
    "changes_format": "combined",
    "changelog_sort": "unsorted",
    "output": [{"file": "CHANGELOG.rst", "format": "rst"}],
}


def fragments(text, version):
    """Return ``[(release, heading, section, [line])]`` of CHANGELOG.md, the lines in reStructuredText, the newest release first.

    What is unreleased is in the version that is built. Raises :class:`Unsafe` at what is no heading and no item of a list.
    """
    found, release = [], None
    for number, line in enumerate(text.splitlines(), 1):
        heading = re.fullmatch(r"(#{2,3}) (.+)", line)
        if heading and heading.group(1) == "##":
            release = heading.group(2)
            found.append((version if release == UNRELEASED else release, release.lower(), SECTIONS[""], []))
        elif heading and release and heading.group(2) in SECTIONS:
            name = heading.group(2)
            found.append((found[-1][0], "%s-%s" % (release.lower(), name.lower()), SECTIONS[name], []))
        elif line.startswith("- ") and found:
            found[-1][3].append(line[2:])
        elif line.startswith("  ") and found and found[-1][3]:
            found[-1][3][-1] += " " + line.strip()
        elif line and not (number == 1 and line.startswith("# ")):
            raise Unsafe(
                "CHANGELOG.md:%d: expected an item of a list, a release or one of %s" % (number, ", ".join(filter(None, SECTIONS)))
            )
    return [(release, name, section, [_rst(item) for item in items]) for release, name, section, items in found if items]


def _rst(text):
    """Return a line of Markdown in reStructuredText: code, links, and characters that would be markup there."""
    text = re.sub(r"\[([^\]]+)\]\(([^)]+)\)", r"\1 (\2)", text)
    parts = [re.sub(r"([\\*|]|_(?=\W|$))", r"\\\1", part) if index % 2 == 0 else part for index, part in enumerate(text.split("`"))]
    return "``".join(parts)


def write(folder, text, version, date):
    """Write changelogs/ and CHANGELOG.rst into a built collection, of releases of that ``date``; antsibull-changelog checks all of it."""
    changelogs = folder / "changelogs"
    (changelogs / "fragments").mkdir(parents=True)
    (changelogs / "config.yaml").write_text("---\n" + yaml.safe_dump(CONFIG, sort_keys=False), encoding="utf-8")
    found = fragments(text, version)
    for release in reversed(list(dict.fromkeys(item[0] for item in found))):
        for _release, name, section, items in (item for item in found if item[0] == release):
            content = "---\n" + yaml.safe_dump({section: items}, allow_unicode=True, width=1000)
            (changelogs / "fragments" / (name + ".yml")).write_text(content, encoding="utf-8")
        _run(folder, "lint")
        _run(folder, "release", "--version", release, "--date", date)
    _run(folder, "lint-changelog-yaml", "changelogs/changelog.yaml")
    # What the plugins are is looked up again by the next release, and fragments are in changelog.yaml by now.
    (changelogs / ".plugin-cache.yaml").unlink(missing_ok=True)
    shutil.rmtree(changelogs / "fragments", ignore_errors=True)


def date_of(root):
    """Return the date of CHANGELOG.md: that of its last commit, and of the file where there is no repository."""
    argv = ["git", "log", "-1", "--format=%cs", "--", SOURCE]
    done = subprocess.run(argv, cwd=root, capture_output=True, text=True, check=False) if shutil.which("git") else None
    told = done.stdout.strip() if done else ""
    return told or datetime.fromtimestamp((root / SOURCE).stat().st_mtime, timezone.utc).strftime("%Y-%m-%d")


def _run(folder, *arguments):
    # Beside this Python, whose environment make sets up.
    program = shutil.which("antsibull-changelog", path="%s:%s" % (Path(sys.executable).parent, os.environ["PATH"]))
    if not program:
        raise Unsafe("no antsibull-changelog: `make setup` installs it")
    done = subprocess.run([program, *arguments], cwd=folder, capture_output=True, text=True, check=False)
    if done.returncode:
        raise Unsafe("antsibull-changelog %s, on what CHANGELOG.md became:\n%s" % (" ".join(arguments), done.stdout + done.stderr))
