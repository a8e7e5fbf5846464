"""YAML of the project as a collection has it: full names of modules, roles and filters. Comments and layout stay."""

from __future__ import annotations

import yaml

from . import templates
from .edits import Unsafe, apply
from .project import COLLECTION

# Keys under which a play or a block has tasks.
LISTS = ("tasks", "pre_tasks", "post_tasks", "handlers", "block", "rescue", "always")
ROLE_TASKS = ("import_role", "include_role", "ansible.builtin.import_role", "ansible.builtin.include_role")
PLAYBOOKS = ("import_playbook", "ansible.builtin.import_playbook")


def full(name):
    """Return a name of ours with the collection's in front."""
    return "%s.%s" % (COLLECTION, name)


def rewritten(text, project, path="?"):
    """Return a file of plays, tasks or variables with full names. Raises :class:`Unsafe` where it would mean something else."""
    changed = apply(text, _edits(yaml.compose(text), project, path))
    return templates.rewritten(changed, project, path)


def _edits(root, project, path):
    found = []
    if isinstance(root, yaml.SequenceNode):
        for item in root.value:
            if isinstance(item, yaml.MappingNode):
                found += _item(item, project, path)
    elif isinstance(root, yaml.MappingNode):
        for key, value in root.value:
            if key.value == "plugin" and value.value in project.inventories:
                found.append(_at(value, full(value.value)))
    return found


def _item(item, project, path):
    """Return the edits of one play, task or block."""
    found = []
    for key, value in item.value:
        if key.value in LISTS:
            found += _edits(value, project, path)
        elif key.value in PLAYBOOKS:
            # site.yml and the phases are in one folder there.
            found.append(_at(value, value.value.removeprefix("playbooks/")))
        elif key.value in ROLE_TASKS:
            found += [_role(node, project, path) for name, node in value.value if name.value == "name"]
        elif key.value == "roles":
            for role in value.value:
                named = (
                    [node for name, node in role.value if name.value in ("role", "name")] if isinstance(role, yaml.MappingNode) else [role]
                )
                found += [_role(node, project, path) for node in named]
        elif key.value in project.actions:
            found.append(_at(key, full(key.value)))
        elif key.value in ("action", "local_action"):
            raise Unsafe("%s:%d: no rule for %s, use the module's name as the key" % (path, key.start_mark.line + 1, key.value))
    return found


def _role(node, project, path):
    if node.value not in project.roles:
        raise Unsafe("%s:%d: %r is no role of the project" % (path, node.start_mark.line + 1, node.value))
    return _at(node, full(node.value))


def _at(node, new):
    return node.start_mark.index, node.end_mark.index, new
