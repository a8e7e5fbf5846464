"""Runs the ``gpu_clocks`` module, but not on a node that has just said that it has no GPU.

There the module could only say so again, and its start takes longer than all that the health of such a node takes to read.
"""

from __future__ import annotations

from ansible.module_utils.plumbline.controller import no_gpu
from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """The action behind ``gpu_clocks:``."""

    _supports_async = True
    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        """Return what the module returns."""
        result = super().run(tmp, task_vars)
        health = (task_vars.get("node_health_result") or {}).get("fact") or {}
        # An nvidia-smi in a place of its own is not what the health looked for, or not all of it.
        elsewhere = self._task.args.get("nvidia_smi") or task_vars.get("node_health_nvidia_smi") or self._task.args.get("gpus")
        if not elsewhere and self._task.args.get("mhz") is not None and no_gpu.says_no_gpu(health):
            result.update(no_gpu.fact(self._task.args, health).result(), changed=False)
            return result
        wrap = bool(self._task.async_val) and not self._connection.has_native_async
        result.update(self._execute_module(module_args=dict(self._task.args), task_vars=task_vars, wrap_async=wrap))
        return result
