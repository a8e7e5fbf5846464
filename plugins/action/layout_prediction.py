"""Asks the head what each layout would ask of it, and foretells what a token takes there from what the run has measured so far.

The module of this name looks at the node; the measurements of all nodes are on the controller, where the callback keeps them.
"""

from __future__ import annotations

from ansible.module_utils.plumbline.controller import kept
from ansible.module_utils.plumbline.controller.report.data import NotARunFolder, SchemasMissing
from ansible.module_utils.plumbline.controller.report.prediction.fact import facts, unasked
from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """The action behind ``layout_prediction:``."""

    _supports_check_mode = True

    def run(self, tmp=None, task_vars=None):
        """Return the result of the module, with a fact for each layout."""
        result = super().run(tmp, task_vars)
        result.update(self._execute_module(module_name="layout_prediction", module_args=dict(self._task.args), task_vars=task_vars))
        host = task_vars["inventory_hostname"]
        if result.get("unreachable"):
            return result
        if "asked" not in result:
            # Nothing is kept from being served for a number that nobody can say.
            why = " ".join(str(result.get("msg") or "no answer").split())[:300]
            return {"changed": False, "msg": why, **kept.for_hosts((host, fact) for fact in unasked(self._task.args["layouts"], why))}
        given = {**self._task.args, **result.get("invocation", {}).get("module_args", {})}
        try:
            made = facts(result["asked"], kept.load(), given)
        except (kept.NothingKeeps, NotARunFolder, SchemasMissing) as error:
            return dict(result, failed=True, msg="layout_prediction: %s" % error)
        return dict(result, **kept.for_hosts((host, fact) for fact in made))
