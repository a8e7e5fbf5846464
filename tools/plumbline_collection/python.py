"""Python of the project as a collection has it: the full names of shared packages and of modules, found in the syntax tree."""

from __future__ import annotations

import ast
import re

from . import tasks
from .edits import Unsafe, apply, offsets
from .project import COLLECTION

PACKAGE = "ansible.module_utils.plumbline"
INSTALLED = "ansible_collections.%s.plugins.module_utils.plumbline" % COLLECTION
WIDTH = 140
# In Ansible's own words.
ATTRIBUTES = {
    "check_mode": "Can run in check_mode and return changed status prediction without modifying target.",
    "diff_mode": "Will return details on what has changed (or possibly needs changing in check_mode), when in diff mode.",
    "async": "Supports being used with the C(async) keyword.",
}


def rewritten(source, project, path="?"):
    """Return the source of a module or plugin with full names; its relative imports stay. Raises :class:`Unsafe`."""
    starts, tree = offsets(source), ast.parse(source)
    edits = []
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not node.level and _ours(node.module):
            edits.append(_import(node, source, starts))
        elif isinstance(node, ast.Import) and any(_ours(item.name) for item in node.names):
            raise Unsafe("%s:%d: expected `from %s… import …`, which stays readable in a collection" % (path, node.lineno, PACKAGE))
        elif isinstance(node, ast.keyword) and node.arg == "module_name" and _text(node.value) in project.modules:
            edits.append((*_span(node.value, source, starts), '"%s.%s"' % (COLLECTION, node.value.value)))
    edits += _examples(tree, source, starts, project)
    changed = told(documented(apply(source, edits), project), project)
    left = [
        node.module for node in ast.walk(ast.parse(changed)) if isinstance(node, ast.ImportFrom) and not node.level and _ours(node.module)
    ]
    if left:
        raise Unsafe("%s: %s is still imported by the project's name" % (path, left[0]))
    return changed


def documented(source, project):
    """Return a source whose documentation is as collections have it: full names of modules, authors, attributes with a description."""
    source = re.sub(r"\bM\((%s)\)" % "|".join(project.actions), "M(%s.\\1)" % COLLECTION, source)
    source = re.sub(r"^author: \[?Plumbline\]?$", 'author: ["Plumbline (!UNKNOWN)"]', source, flags=re.M)
    return re.sub(
        r"^( +)(check_mode|diff_mode|async):\n( +support: \w+\n)(?! +description)",
        lambda found: "%s%s:\n%s  description: %s\n%s" % (*found.group(1, 2), found.group(1), ATTRIBUTES[found.group(2)], found.group(3)),
        source,
        flags=re.M,
    )


def told(source, project):
    """Return a source whose sentences name the collection's playbooks. A path in quotes of its own is none of a sentence, and stays."""
    source = re.sub(r"(?<=[ `])playbooks/(%s)\.yml" % "|".join(project.playbooks), COLLECTION + r".\1", source)
    source = re.sub(r"(?<=[ `])site\.yml\b", COLLECTION + ".site", source)
    return source.replace("run `make azure`", "run `pip install -r requirements-azure.txt`")


def _ours(name):
    return name == PACKAGE or str(name).startswith(PACKAGE + ".")


def _text(node):
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else None


def _span(node, source, starts):
    """Return where a node begins and ends, in characters; Python counts columns in bytes."""
    lines = source.splitlines(keepends=True)

    def at(line, column):
        return starts[line - 1] + len(lines[line - 1].encode()[:column].decode())

    return at(node.lineno, node.col_offset), at(node.end_lineno, node.end_col_offset)


def _import(node, source, starts):
    """Return the edit of one import; a line that gets too long has a name a line."""
    start, end = _span(node, source, starts)
    module = INSTALLED + node.module[len(PACKAGE) :]
    names = ["%s as %s" % (item.name, item.asname) if item.asname else item.name for item in node.names]
    line = "from %s import %s" % (module, ", ".join(names))
    if node.col_offset + len(line) > WIDTH:
        indent = " " * node.col_offset
        line = "from %s import (\n%s%s)" % (module, "".join("%s    %s,\n" % (indent, name) for name in names), indent)
    return start, end, line


def _examples(tree, source, starts, project):
    """Return the edits of EXAMPLES, whose tasks get full names."""
    for node in tree.body:
        if isinstance(node, ast.Assign) and [getattr(item, "id", None) for item in node.targets] == ["EXAMPLES"]:
            start, end = _span(node.value, source, starts)
            written = source[start:end]
            if node.value.value in written:
                return [(start, end, written.replace(node.value.value, tasks.rewritten(node.value.value, project, "EXAMPLES")))]
    return []


def documentation(source, path="?"):
    """Return the documentation of an action plugin that has no module beside it, as a module that says only that.

    ``ansible-doc`` and the tools around it know modules alone; Ansible's own debug and fail are documented so.
    """
    lines, starts = source.splitlines(keepends=True), ast.parse(source).body
    told = []
    for node in starts:
        name = getattr(node.targets[0], "id", None) if isinstance(node, ast.Assign) else None
        if name in ("DOCUMENTATION", "EXAMPLES", "RETURN"):
            told.append("".join(lines[node.lineno - 1 : node.end_lineno]))
    if len(told) != 3:
        raise Unsafe("%s: expected DOCUMENTATION, EXAMPLES and RETURN, since no module of that name has them" % path)
    head = "#!/usr/bin/python\n# The documentation of the action plugin of this name, which does all of it on the controller.\n\n"
    return head + "from __future__ import annotations\n\n" + "\n".join(told)
