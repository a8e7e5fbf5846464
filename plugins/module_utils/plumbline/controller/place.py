"""Where this code stands: a copy of the project, or the installed collection. What differs between the two is here.

Standard library only: also a controller that lacks what the report needs must be told what to do.
"""

from __future__ import annotations

import os

# The collection that this code was installed with, such as plumbline.cluster; empty in the project itself.
COLLECTION = ".".join(__name__.split(".")[1:3]) if __name__.startswith("ansible_collections.") else ""
ROOT = os.path.realpath(__file__).partition(os.sep + os.path.join("plugins", "module_utils"))[0]
SCHEMA_DIR = os.path.join(ROOT, "docs", "schema")
ROLES_DIR = os.path.join(ROOT, "roles")
REQUIREMENTS = os.path.join(ROOT, "requirements.txt")

# What makes the controller's Python complete.
SETUP = "python -m pip install -r %s" % REQUIREMENTS if COLLECTION else "make setup"
SETUP_AZURE = "python -m pip install -r %s" % os.path.join(ROOT, "requirements-azure.txt") if COLLECTION else "make azure"
# How a run comes to have the callback.
CALLBACK = (
    "Run a playbook of the collection (%(name)s.site), or name the callback in ansible.cfg: callbacks_enabled = %(name)s.plumbline"
    if COLLECTION
    else "Run from the project's root, where ansible.cfg names the callback, or set ANSIBLE_CALLBACK_PLUGINS to the project's"
    " plugins/callback"
) % {"name": COLLECTION}


def plugin(name):
    """Return the name by which Ansible finds a module or plugin of ours from anywhere."""
    return "%s.%s" % (COLLECTION, name) if COLLECTION else name


def short(name):
    """Return the name of a plugin or role without the collection's."""
    return str(name).removeprefix(COLLECTION + ".") if COLLECTION else str(name)


def playbook(name):
    """Return what ``ansible-playbook`` takes for a playbook of ours, seen from where the command runs."""
    if COLLECTION:
        return "%s.%s" % (COLLECTION, name)
    return os.path.relpath(os.path.join(ROOT, "site.yml" if name == "site" else os.path.join("playbooks", name + ".yml")))


def playbook_of(path):
    """Return what ``ansible-playbook`` takes for the playbook with that path, ours or not."""
    folder, file = os.path.split(os.path.realpath(path))
    if COLLECTION and folder == os.path.join(ROOT, "playbooks"):
        return "%s.%s" % (COLLECTION, os.path.splitext(file)[0])
    return os.path.relpath(path)


def path_of(playbook_name):
    """Return the path of a playbook that the command line names; the collection's own may stand there by their full names."""
    if COLLECTION and playbook_name.startswith(COLLECTION + "."):
        return os.path.join(ROOT, "playbooks", short(playbook_name) + ".yml")
    return playbook_name


def is_ours(path):
    """Tell whether a playbook of the command line is one of ours."""
    return os.path.realpath(path_of(path)).startswith(ROOT + os.sep)
