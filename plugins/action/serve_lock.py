"""Tells the ``serve_lock`` module who asks, and whether a run that holds the lock from this controller has ended.

Only the controller can see its own processes. A run that was interrupted is so replaced at once, from the controller that it ran on.
"""

from __future__ import annotations

from ansible.module_utils.plumbline.controller import holder
from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """The action behind ``serve_lock:``."""

    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        """Return the module's result."""
        result = super().run(tmp, task_vars)
        ours = holder.this_run()
        arguments = dict(self._task.args, holder=ours)
        answer = self._ask(arguments, task_vars)
        if answer.get("held") and holder.has_ended(answer["former"], ours):
            answer = self._ask(dict(arguments, gone=answer["former"]["token"]), task_vars)
        result.update(answer)
        return result

    def _ask(self, arguments, task_vars):
        return self._execute_module(module_name="serve_lock", module_args=arguments, task_vars=task_vars)
