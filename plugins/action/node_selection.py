"""Action plugin: which nodes serve, which are spares, which are out and why."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_selection
short_description: choose the serving nodes from the verdicts so far
description:
  - Runs on the controller. Judges the facts and incidents that this run has kept exactly as the report does, and takes the nodes
    whose verdicts are neither failed nor incomplete, healthy before degraded, in inventory order. As many serve as the largest
    layout needs; the others are spares that replace a node that fails.
  - A fact that breaks its schema is incomplete, so its node does not serve.
options:
  nodes:
    description: Names of the nodes to choose from, in inventory order.
    type: list
    elements: str
    required: true
  layouts:
    description: The layouts to serve; only name and nodes are read.
    type: list
    elements: dict
    default: []
attributes:
  check_mode:
    support: full
author: [Plumbline]
"""

EXAMPLES = r"""
- name: Choose the serving nodes
  node_selection:
    nodes: "{{ groups['nodes'] }}"
    layouts: "{{ vllm_serve_layouts }}"
  run_once: true
"""

RETURN = r"""
plumbline_selection:
  description: The choice; the callback keeps it as C(selection.json).
  type: dict
  returned: always
  contains:
    serving: {description: "Names of the serving nodes, the head first.", type: list, elements: str}
    spares: {description: Names of the spares., type: list, elements: str}
    excluded: {description: Reason by name., type: dict}
    replaced: {description: "For each node that was due and is out, the spare that serves instead and why.", type: list, elements: dict}
    layouts: {description: For each layout its nodes and how many it lacks., type: list, elements: dict}
"""

from ansible.module_utils.plumbline.controller import kept
from ansible.module_utils.plumbline.controller.action import ControllerAction
from ansible.module_utils.plumbline.controller.report.verdicts import node_verdicts
from ansible.module_utils.plumbline.controller.selection import candidates, select


class ActionModule(ControllerAction):
    """The action behind ``node_selection:``."""

    ARGUMENTS = {
        "nodes": {"type": "list", "elements": "str", "required": True},
        "layouts": {"type": "list", "elements": "dict", "default": []},
    }

    def answer(self, arguments, task_vars):
        """Return the selection."""
        data = kept.load()
        judged = node_verdicts(data) if data else {}
        try:
            selection = select(candidates(arguments["nodes"], judged), arguments["layouts"])
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError("a layout needs name and nodes, a whole number: %r" % error) from error
        return {"changed": False, "plumbline_selection": selection}
