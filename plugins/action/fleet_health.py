"""Action plugin: every node against its fleet, one fact each."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_health
short_description: Compare each node's health fact with those of the other nodes
description:
  - Runs on the controller, once for all nodes, on the health facts that this run has kept. Versions (kernel, operating system,
    driver, CUDA, VBIOS, InfiniBand firmware) have to be equal among the nodes of one SKU; the node with a version that is not the
    majority's is C(degraded).
  - A number that is far from the median of the nodes, on its bad side, makes the node C(degraded) - by the modified z-score
    over the median absolute deviation, and only with enough nodes.
  - Returns one fact of kind C(health) and name C(fleet) for each node that has a health fact.
options:
  nodes:
    description: Names of the nodes to compare.
    type: list
    elements: str
    required: true
  min_nodes:
    description: With fewer nodes that have a number nothing is called an outlier.
    type: int
    default: 5
  score_max:
    description: Modified z-score beyond which a number is an outlier.
    type: float
    default: 3.5
attributes:
  check_mode:
    support: full
author: [Plumbline]
"""

EXAMPLES = r"""
- name: Compare the nodes with each other
  fleet_health:
    nodes: "{{ ansible_play_hosts_all }}"
  run_once: true
"""

RETURN = r"""
plumbline_facts:
  description: The fact of each node, by its name; shape in C(docs/schema/health.schema.json). The callback keeps them.
  returned: always
  type: dict
"""

from ansible.module_utils.plumbline.controller import fleet, kept
from ansible.module_utils.plumbline.controller.action import ControllerAction


class ActionModule(ControllerAction):
    """The action behind ``fleet_health:``."""

    ARGUMENTS = {
        "nodes": {"type": "list", "elements": "str", "required": True},
        "min_nodes": {"type": "int", "default": fleet.MIN_NODES},
        "score_max": {"type": "float", "default": fleet.LIMIT},
    }

    def answer(self, arguments, task_vars):
        """Return the fleet's fact of every node."""
        facts = kept.facts_of("health", "node", arguments["nodes"])
        return kept.for_hosts(fleet.facts(facts, arguments["min_nodes"], arguments["score_max"]))
