"""Action plugin: which node is the one behind slow pairs?"""

from __future__ import annotations

DOCUMENTATION = r"""
module: pairwise_verdict
short_description: judge each node by its pairs, against the pairs of the other nodes
description:
  - Runs on the controller, once for all nodes, on the link facts that this run has kept. Returns a fact of kind C(link) named
    C(pairwise) (C(ib.pairwise) by port) for each node. A node is accused when even its best pair is slow; a slow link
    between two nodes accuses neither of them.
  - "How: plugins/module_utils/plumbline/controller/suspect.py."
options:
  nodes:
    description: All nodes that took part.
    type: list
    elements: str
    required: true
  by:
    description: What is compared, the pairs' bandwidth or each port's (facts of C(ib_write_bw)).
    type: str
    default: pair
    choices: [pair, port]
  min_ratio:
    description: A pair below this share of the other pairs' median may be slow.
    type: float
    default: 0.7
  mad_factor:
    description: It also has to be so many standard deviations (estimated from the median absolute deviation) below it.
    type: float
    default: 3.0
  suspect_status:
    description: Verdict on a node whose pairs are all slow. C(failed) keeps it from serving, C(degraded) only puts it last.
    type: str
    default: failed
    choices: [failed, degraded]
attributes:
  check_mode:
    support: full
author: [Plumbline]
"""

EXAMPLES = r"""
- name: Judge each node by its pairs
  pairwise_verdict:
    nodes: "{{ groups['serving'] }}"
  run_once: true
"""

RETURN = r"""
plumbline_facts:
  description:
    - The fact of each node, by its name. The callback keeps them.
    - "measured: pairs, measured_pairs, median_gbps, best_gbps, others_median_gbps, ratio, bound_gbps; by port these in ports."
    - "context: node, nodes, suspect (bool), slow_links."
  type: dict
  returned: always
"""

from ansible.module_utils.plumbline.controller import fabric_state, kept, pair_verdict
from ansible.module_utils.plumbline.controller.action import ControllerAction


class ActionModule(ControllerAction):
    """The action behind ``pairwise_verdict:``."""

    ARGUMENTS = {
        "nodes": {"type": "list", "elements": "str", "required": True},
        "by": {"type": "str", "default": "pair", "choices": ["pair", "port"]},
        "min_ratio": {"type": "float", "default": 0.7},
        "mad_factor": {"type": "float", "default": 3.0},
        "suspect_status": {"type": "str", "default": "failed", "choices": ["failed", "degraded"]},
    }

    def answer(self, arguments, task_vars):
        """Return the verdict on each node."""
        nodes, by = arguments["nodes"], arguments["by"]
        found = fabric_state.pairs(kept.entries("link"), "ib" if by == "port" else "pair", nodes)
        return kept.for_hosts(
            pair_verdict.facts(
                nodes,
                [entry["fact"] for entry in found],
                by,
                arguments["min_ratio"],
                arguments["mad_factor"],
                arguments["suspect_status"],
            )
        )
