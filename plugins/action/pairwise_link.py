"""Runs ``collective_torch`` for one pair and returns what it says as a fact of kind ``link``.

It has to happen here: the callback keeps every fact that a task returns, so the pair's collective would take the
place of the group's of the same name. Arguments: those of ``collective_torch``, and ``nodes`` (the pair's two
names, in rank order) and ``round`` (from 1).
"""

from __future__ import annotations

DOCUMENTATION = r"""
module: pairwise_link
short_description: Measure the collective of one pair of nodes
description:
  - Runs M(collective_torch) on a node and returns what it says as a fact of kind C(link).
  - Takes all options of that module beside its own.
options:
  nodes:
    description: The pair's two names, in the order of their ranks.
    type: list
    elements: str
    required: true
  round:
    description: The round that the pair is measured in, from 1.
    type: int
    required: true
attributes:
  check_mode:
    support: full
author: [Plumbline]
"""

EXAMPLES = r"""
- name: Measure this node's pair
  pairwise_link:
    collective: all_reduce
    nodes: [gpu1, gpu2]
    round: 1
"""

RETURN = r"""
fact:
  description: The fact under C(plumbline.link); shape in C(docs/schema/link.schema.json). Nothing on the rank that leaves it to the other.
  returned: on the rank that measures
  type: dict
"""

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
