"""Filters in Jinja by their full names. A role's collection is searched for modules and roles, and not for filters."""

from __future__ import annotations

import re

import jinja2
import jinja2.nodes
import yaml

from .edits import Unsafe
from .project import COLLECTION

# What takes the name of a filter as a text.
BY_NAME = r"""(?:map|select|reject)\(\s*['"]"""


def pattern(project):
    """Return what finds a filter of ours by its short name: after a bar, or as the text that ``map`` takes."""
    return re.compile(r"(\|\s*|%s)(%s)(?![\w.])" % (BY_NAME, "|".join(sorted(project.filters, key=len, reverse=True))))


def rewritten(text, project, path="?"):
    """Return ``text``, YAML or a template, with full names of filters; where anything else would differ, :class:`Unsafe` is raised."""
    changed = pattern(project).sub(lambda found: "%s%s.%s" % (found.group(1), COLLECTION, found.group(2)), text)
    before, after = _parts(text, path), _parts(changed, path)
    for part in before:
        for node in _named(part):
            if _name(node) in project.filters:
                _rename(node, "%s.%s" % (COLLECTION, _name(node)))
    if before != after:
        raise Unsafe("%s: something else than the names of filters would change" % path)
    left = {_name(node) for part in after for node in _named(part)} & set(project.filters)
    if left:
        raise Unsafe("%s: the filter %s has a short name left" % (path, ", ".join(sorted(left))))
    return changed


def _parts(text, path):
    """Return every text of a file, as a syntax tree where it is a template."""
    texts = [text] if path.endswith(".j2") else [node.value for node in _scalars(yaml.compose(text))]
    environment = jinja2.Environment(extensions=["jinja2.ext.do", "jinja2.ext.loopcontrols"])
    found = []
    for item in texts:
        # A condition is an expression without braces; what is no expression has no filter.
        bare = not path.endswith(".j2") and "{{" not in item and "{%" not in item
        try:
            found.append(environment.parse("{{ %s }}" % item if bare and "|" in item else item))
        except jinja2.TemplateSyntaxError as error:
            if not bare:
                raise Unsafe("%s: a template cannot be read: %s" % (path, error)) from error
            found.append(item)
    return found


def _named(part):
    """Return the nodes of a tree that name a filter: filters, and the texts that map, select and reject take."""
    if not isinstance(part, jinja2.nodes.Node):
        return []
    found = list(part.find_all(jinja2.nodes.Filter))
    taken = [node.args[0] for node in found if node.name in ("map", "select", "reject") and node.args]
    return found + [node for node in taken if isinstance(node, jinja2.nodes.Const)]


def _name(node):
    return node.name if isinstance(node, jinja2.nodes.Filter) else node.value


def _rename(node, name):
    setattr(node, "name" if isinstance(node, jinja2.nodes.Filter) else "value", name)


def _scalars(node):
    if isinstance(node, yaml.ScalarNode):
        yield node
    elif isinstance(node, yaml.SequenceNode):
        for item in node.value:
            yield from _scalars(item)
    elif isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            yield from _scalars(key)
            yield from _scalars(value)
