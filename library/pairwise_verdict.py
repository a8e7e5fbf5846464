#!/usr/bin/python
"""Ansible module: is this node the one behind slow pairs?"""

from __future__ import annotations

DOCUMENTATION = r"""
module: pairwise_verdict
short_description: judge one node by its pairs, against the pairs of the other nodes
description:
  - Runs on the controller, once for each node, with the link facts of all pairs. Returns a fact of kind C(link) named
    C(pairwise) (C(ib.pairwise) by port) for that node. A node is accused when even its best pair is slow; a slow link
    between two nodes accuses neither of them.
  - "How: plugins/module_utils/plumbline/suspect.py."
options:
  node:
    description: The node to judge.
    type: str
    required: true
  nodes:
    description: All nodes that took part.
    type: list
    elements: str
    required: true
  facts:
    description: The link facts of the pairs, in any order.
    type: list
    elements: dict
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
author: [Plumbline]
"""

EXAMPLES = r"""
- name: Judge each node by its pairs
  pairwise_verdict:
    node: "{{ inventory_hostname }}"
    nodes: "{{ groups['serving'] }}"
    facts: "{{ links }}"
  delegate_to: localhost
"""

RETURN = r"""
fact:
  description:
    - The fact; also in C(ansible_facts.plumbline.link).
    - "measured: pairs, measured_pairs, median_gbps, best_gbps, others_median_gbps, ratio, bound_gbps; by port these in ports."
    - "context: node, nodes, suspect (bool), slow_links."
  type: dict
  returned: always
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.plumbline.controller import pair_verdict as pairwise_verdict
from ansible.module_utils.plumbline.fabric import pairs as pairwise
from ansible.module_utils.plumbline.fabric.perftest import output as perftest


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "node": {"type": "str", "required": True},
            "nodes": {"type": "list", "elements": "str", "required": True},
            "facts": {"type": "list", "elements": "dict", "required": True},
            "by": {"type": "str", "default": "pair", "choices": ["pair", "port"]},
            "min_ratio": {"type": "float", "default": 0.7},
            "mad_factor": {"type": "float", "default": 3.0},
            "suspect_status": {"type": "str", "default": "failed", "choices": ["failed", "degraded"]},
        },
        supports_check_mode=True,
    )
    args = module.params
    if args["node"] not in args["nodes"]:
        module.fail_json(msg="node=%s is none of nodes=%s" % (args["node"], ", ".join(args["nodes"])))
    if not 0 < args["min_ratio"] < 1 or args["mad_factor"] < 0:
        module.fail_json(
            msg="min_ratio=%s must lie between 0 and 1, mad_factor=%s must not be negative" % (args["min_ratio"], args["mad_factor"])
        )
    try:
        if args["by"] == "port":
            groups = perftest.port_links(args["facts"])
        else:
            groups = {None: pairwise.pair_links(args["facts"])}
    except (KeyError, TypeError) as error:
        module.fail_json(msg="facts must be link facts of pairs, with context.nodes and measured: %r" % error)
    fact = pairwise_verdict.measurement(args["node"], args["nodes"], groups, args["min_ratio"], args["mad_factor"], args["suspect_status"])
    module.exit_json(changed=False, **fact.result())


if __name__ == "__main__":
    main()
