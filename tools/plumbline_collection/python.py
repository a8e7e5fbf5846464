"""Python of the project as a collection has it: the full names of shared packages and of modules, found in the syntax tree."""

from __future__ import annotations

import ast

import yaml

from . import tasks
from .edits import Unsafe, apply, offsets
from .project import COLLECTION

PACKAGE = "ansible.module_utils.plumbline"
INSTALLED = "ansible_collections.%s.plugins.module_utils.plumbline" % COLLECTION
WIDTH = 140


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
    changed = apply(source, edits)
    left = [
        node.module for node in ast.walk(ast.parse(changed)) if isinstance(node, ast.ImportFrom) and not node.level and _ours(node.module)
    ]
    if left:
        raise Unsafe("%s: %s is still imported by the project's name" % (path, left[0]))
    return changed


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


def documentation(source):
    """Return the documentation of an action plugin that has no module beside it, as a file that ``ansible-doc`` reads, or None."""
    told = {}
    for node in ast.parse(source).body:
        name = getattr(node.targets[0], "id", None) if isinstance(node, ast.Assign) else None
        if name in ("DOCUMENTATION", "EXAMPLES", "RETURN"):
            told[name] = node.value.value if name == "EXAMPLES" else yaml.safe_load(node.value.value)
    return "---\n" + yaml.safe_dump(told, sort_keys=False, allow_unicode=True, width=WIDTH) if "DOCUMENTATION" in told else None
