"""Which Python does a node have? Found as Ansible finds it, for action plugins that run one command and no module."""

from __future__ import annotations

from ansible import constants as C
from ansible.executor.interpreter_discovery import discover_interpreter


def of(action, task_vars):
    """Return ``(the node's Python, facts to remember it by)`` for an action plugin, as Ansible finds it where none is given."""
    given = task_vars.get("ansible_python_interpreter")
    given = action._templar.template(given) if given else C.config.get_config_value("INTERPRETER_PYTHON", variables={})
    if not str(given).startswith("auto"):
        return str(given), {}
    key = "discovered_interpreter_python"
    known = (task_vars.get("ansible_facts") or {}).get(key)
    if known:
        return known, {}
    found = discover_interpreter(action, "python", given, task_vars)
    return found, {key: found}
