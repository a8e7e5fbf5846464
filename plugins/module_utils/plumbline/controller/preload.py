"""Loads once, before the workers are forked, what each of them would otherwise load for its one task.

Ansible forks a process for every task of every host, and each loads its plugins anew: all filters as soon as it meets one, the
connection, the action. A child of a process that has them loaded has them too. On 64 nodes that is most of what the controller's own
Python does for a task.
"""

from __future__ import annotations

import gc
import importlib

from ansible.plugins import loader

from .place import plugin

# What the first phases, those that every node takes, use. A name that is not there, or a plugin that this version of Ansible lacks, is
# loaded where it is needed, or fails there with a message of its own.
ACTIONS = ("ansible.legacy.normal", *map(plugin, ("node_health", "preflight_node", "preflight_check", "fleet_health", "node_selection")))
CONNECTIONS = ("ansible.builtin.ssh", "ansible.builtin.local")
MODULES = ("ansible.executor.interpreter_discovery", "ansible.executor.module_common", "ansible.executor.powershell.module_manifest")


def preload():
    """Load them; what cannot be loaded here is left to the task that needs it."""
    for plugins, names in (
        (loader.filter_loader, ("default",)),
        (loader.test_loader, ("defined",)),
        (loader.action_loader, ACTIONS),
        (loader.connection_loader, CONNECTIONS),
        (loader.become_loader, ("ansible.builtin.sudo",)),
        (loader.shell_loader, ("sh",)),
    ):
        for name in names:
            _try(plugins.get, name, class_only=True)
    for name in MODULES:
        _try(importlib.import_module, name)
    # What is there by now stays: a worker's garbage collection need not look at it, and so does not copy its pages.
    gc.collect()
    gc.freeze()
    gc.set_threshold(20000, 20, 20)


def _try(load, *arguments, **options):
    try:
        load(*arguments, **options)
    except Exception:  # noqa: BLE001, S110 -- whatever is wrong with a plugin, the task that uses it says it, and better
        pass
