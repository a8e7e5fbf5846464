"""Runs an action plugin as Ansible would on the controller, and returns its result."""

from __future__ import annotations

from types import SimpleNamespace

from ansible.errors import AnsibleError
from project import load


def run_action(name, arguments, task_vars=None, check_mode=False):
    """Return what ``plugins/action/<name>.py`` answers; a failure as ``{"failed": True, "msg": ...}``."""
    plugin = load("plugins/action/%s.py" % name)
    task = SimpleNamespace(
        action=name, args=arguments, async_val=0, check_mode=check_mode, delegate_to=None, environment=None, diff=False, timeout=0
    )
    connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir="/nonexistent"), become=None)
    action = plugin.ActionModule(task, connection, None, None, None, None)
    try:
        return action.run(task_vars=task_vars or {})
    except AnsibleError as error:
        return {"failed": True, "msg": str(error)}
