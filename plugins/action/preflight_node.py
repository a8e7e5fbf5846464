"""Asks a node for an answer and for the version of its Python with one command, within a bound.

The module of that name says the same, and costs a node ten times as much: Ansible ships and compiles its own code before a module's
first line runs. So it runs only where the short question has no good answer, and then it tells what is wrong in Ansible's words.
A Python that starts and never answers (a home folder on a dead file server, a stopped process) would be waited for without end, at every
task: it is ended on the node, and the node counts as unreachable, which the roles that follow leave out.
"""

from __future__ import annotations

from ansible.errors import AnsibleConnectionFailure
from ansible.module_utils.plumbline.controller import answer
from ansible.module_utils.plumbline.controller import interpreter as interpreters
from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """The action behind ``preflight_node:``."""

    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        """Return what the module returns."""
        result = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        bound = answer.bound(arguments.get("timeout_s", answer.TIMEOUT_S))
        interpreter, facts = interpreters.of(self, task_vars)
        said = self._low_level_execute_command(answer.command(interpreter, bound), sudoable=False, executable="/bin/sh")
        if said.get("rc") in answer.TIMED_OUT:
            raise AnsibleConnectionFailure(answer.hung(interpreter, bound))
        told = answer.read(said.get("stdout"), arguments.get("python_min", answer.PYTHON_MIN))
        if told is None or arguments.get("gpus"):  # which GPUs there are only the module can say
            result.update(self._execute_module(module_name="preflight_node", module_args=arguments, task_vars=task_vars))
            return result
        result.update(told, **({"ansible_facts": facts} if facts else {}))
        return result
