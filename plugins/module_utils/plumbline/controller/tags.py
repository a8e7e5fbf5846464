"""The tags that a run may be given: those of its playbooks, and what an unknown one was to be."""

from __future__ import annotations

import difflib
import os
import re

from .place import ROOT, is_ours

# What Ansible itself knows.
SPECIAL = {"all", "tagged", "untagged", "always", "never"}
# How near a name must be to be taken for a misspelt one (difflib's ratio).
NEAR = 0.6


def written(folders=("playbooks", "roles"), root=ROOT):
    """Return the tags in the project's own files, also those that Ansible comes to see only when it includes a file."""
    found = set()
    for folder in folders:
        for path, _folders, files in os.walk(os.path.join(root, folder)):
            for name in files:
                if name.endswith(".yml"):
                    with open(os.path.join(path, name), encoding="utf-8") as stream:
                        for items in re.findall(r"^\s*tags: \[([^\]]*)\]", stream.read(), re.M):
                            found.update(item.strip() for item in items.split(","))
    return found


def of_plays(plays):
    """Return the tags of all tasks of Ansible's plays, as ``--list-tags`` has them."""
    found, due = set(), []
    for play in plays:
        found.update(play.tags)
        due += play.compile()
    while due:
        item = due.pop()
        found.update(str(tag) for tag in item.tags)
        for part in ("block", "rescue", "always"):
            due += getattr(item, part, None) or []
    return found


def unknown(asked, skipped, known, complete):
    """Return a sentence for each tag of ``--tags`` and ``--skip-tags`` that no task has.

    Where the playbooks are not all the project's own (``complete`` is false), a file that they include later may have a tag that is not
    known yet: then only a name that is near to a known one is called.
    """
    found = []
    for option, tags in (("--tags", asked), ("--skip-tags", skipped)):
        for tag in tags:
            if tag in known or tag in SPECIAL:
                continue
            close = difflib.get_close_matches(tag, sorted(known), 1, NEAR)
            if not close and not complete:
                continue
            hint = "did you mean %s?" % close[0] if close else "expected some of %s" % ", ".join(sorted(known - SPECIAL))
            found.append("%s %s: no task has this tag, %s" % (option, tag, hint))
    return found


def all_ours(paths):
    """Tell whether all playbooks are the project's own."""
    return all(is_ours(path) for path in paths)
