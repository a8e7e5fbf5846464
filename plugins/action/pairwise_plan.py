"""Action plugin: the rounds in which every node measures with every other once."""

from __future__ import annotations

DOCUMENTATION = r"""
module: pairwise_plan
short_description: plan rounds of concurrent pairs that share no node
description:
  - Runs on the controller. By the circle method n nodes need n - 1 rounds, with an odd n as many rounds as nodes, in each of
    which another node rests.
options:
  nodes:
    description: Names of the nodes. The first of a pair is the one that stands first here.
    type: list
    elements: str
    required: true
attributes:
  check_mode:
    support: full
author: [Plumbline]
"""

EXAMPLES = r"""
- name: Plan who measures with whom
  pairwise_plan:
    nodes: "{{ groups['serving'] }}"
  run_once: true
"""

RETURN = r"""
rounds:
  description: One dictionary a round; for each node that takes part its C(pair) (two names) and its C(rank) in it.
  type: list
  elements: dict
  returned: always
"""

from ansible.module_utils.plumbline.controller.action import ControllerAction
from ansible.module_utils.plumbline.fabric.pairs import places


class ActionModule(ControllerAction):
    """The action behind ``pairwise_plan:``."""

    ARGUMENTS = {"nodes": {"type": "list", "elements": "str", "required": True}}

    def answer(self, arguments, task_vars):
        """Return the rounds."""
        return {"changed": False, "rounds": places(arguments["nodes"])}
