"""Runs the ``dcgm_diag`` module, but not on a node that has just said that it has no GPU.

There the module could only say so again, and its start takes longer than all that the health of such a node takes to read.
"""

from __future__ import annotations

from ansible.module_utils.plumbline.controller import no_gpu
from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """The action behind ``dcgm_diag:``."""

    _supports_async = True
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        """Return what the module returns; ``skipped``, without a fact, for a node without a GPU."""
        result = super().run(tmp, task_vars)
        health = (task_vars.get("node_health_result") or {}).get("fact") or {}
        arguments = dict(self._task.args)
        # Who asks for it, or has an nvidia-smi in a place of its own, is answered by the node.
        asked = arguments.get("required") or arguments.get("nvidia_smi") or arguments.get("gpus")
        if not asked and no_gpu.says_no_gpu(health):
            result.update(skipped=True, skip_reason="no GPU", changed=False)
            return result
        wrap = bool(self._task.async_val) and not self._connection.has_native_async
        result.update(self._execute_module(module_args=arguments, task_vars=task_vars, wrap_async=wrap))
        return result
