"""Action plugin: the GPUs of every node against those of all others, one fact for each node."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_fleet
short_description: Compare the GPUs of all nodes with each other
description:
  - Runs on the controller, once for all nodes, on the facts of kind C(gpu_baseline) that this run has kept.
  - GPUs of one model under the same torch and CUDA have to compute the same product, and none of them may be far slower than the others. It
    is how a bad GPU is found where each node has only one or two.
  - Returns one fact of kind C(gpu_baseline) and name C(fleet) for each node that has figures of a GPU.
options:
  nodes:
    description: Names of the nodes to compare.
    type: list
    elements: str
    required: true
  min_nodes:
    description: With GPUs of fewer nodes none is called slow.
    type: int
    default: 5
attributes:
  check_mode:
    support: full
author: [Plumbline]
"""

EXAMPLES = r"""
- name: Compare the GPUs of all nodes
  gpu_fleet:
    nodes: "{{ ansible_play_hosts_all }}"
  run_once: true
"""

RETURN = r"""
plumbline_facts:
  description: The fact of each node, by its name; shape in C(docs/schema/gpu_baseline.schema.json). The callback keeps them.
  returned: always
  type: dict
"""

from ansible.module_utils.plumbline.controller import gpu_fleet, kept
from ansible.module_utils.plumbline.controller.action import ControllerAction


class ActionModule(ControllerAction):
    """The action behind ``gpu_fleet:``."""

    ARGUMENTS = {
        "nodes": {"type": "list", "elements": "str", "required": True},
        "min_nodes": {"type": "int", "default": gpu_fleet.MIN_NODES},
    }

    def answer(self, arguments, task_vars):
        """Return the fleet's fact of every node with GPUs."""
        facts = kept.facts_of("gpu_baseline", "gpus", arguments["nodes"])
        return kept.for_hosts(gpu_fleet.facts(facts, arguments["min_nodes"]))
