"""Runs ``collective_torch`` for one pair and returns what it says as a fact of kind ``link``.

It has to happen here: the callback keeps every fact that a task returns, so the pair's collective would take the
place of the group's of the same name. Arguments: those of ``collective_torch``, and ``nodes`` (the pair's two
names, in rank order) and ``round`` (from 1).
"""

from __future__ import annotations

from ansible.module_utils.plumbline.fabric.pairs import link_fact
from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """The action behind ``pairwise_link:``."""

    def run(self, tmp=None, task_vars=None):
        """Return the pair's fact; nothing on the rank that leaves it to the other; as it is where there is none."""
        result = super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        nodes, number = arguments.pop("nodes"), arguments.pop("round")
        result.update(self._execute_module(module_name="collective_torch", module_args=arguments, task_vars=task_vars))
        if isinstance(result.get("fact"), dict):
            fact = link_fact(result["fact"], nodes, int(number))
            result.update(fact=fact, ansible_facts={"plumbline": {"link": fact}})
        return result
