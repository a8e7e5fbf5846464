#!/usr/bin/python
"""Ansible module: one node against its fleet, as one fact."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fleet_health
short_description: Compare one node's health fact with those of the other nodes
description:
  - Runs on the controller and touches no node. Versions (kernel, operating system, driver, CUDA, VBIOS, InfiniBand firmware)
    have to be equal among the nodes of one SKU; the node with a version that is not the majority's is C(degraded).
  - A number that is far from the median of the nodes, on its bad side, makes the node C(degraded) - by the modified z-score
    over the median absolute deviation, and only with enough nodes.
  - Returns one fact of kind C(health) and name C(fleet).
options:
  node:
    description: The node to judge; a key of O(nodes).
    type: str
    required: true
  nodes:
    description: What the filter C(node_health_fleet) returns, the comparable part of each node's health fact by name.
    type: dict
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
author: Plumbline
"""

EXAMPLES = r"""
- name: Compare the node with the fleet
  fleet_health:
    node: "{{ inventory_hostname }}"
    nodes: "{{ ansible_play_hosts_all | node_health_fleet(hostvars) }}"
  delegate_to: localhost
"""

RETURN = r"""
ansible_facts:
  description: The fact under C(plumbline.health); shape in C(docs/schema/health.schema.json).
  returned: always
  type: dict
fact:
  description: The same fact.
  returned: always
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.plumbline.controller import fleet
from ansible.module_utils.plumbline.core.fact import Measurement


def main():
    """Compare, return."""
    module = AnsibleModule(
        argument_spec={
            "node": {"type": "str", "required": True},
            "nodes": {"type": "dict", "required": True},
            "min_nodes": {"type": "int", "default": fleet.MIN_NODES},
            "score_max": {"type": "float", "default": fleet.LIMIT},
        },
        supports_check_mode=True,
    )
    given = module.params
    if given["node"] not in given["nodes"]:
        known = ", ".join(sorted(given["nodes"])) or "none"
        module.fail_json(msg="fleet_health: %s is not among nodes (%s)" % (given["node"], known))
    if given["min_nodes"] < 3:
        module.fail_json(msg="fleet_health: min_nodes is %d, expected at least 3: a median of two hides the odd one" % given["min_nodes"])
    measurement = Measurement("health", "fleet", command="fleet_health")
    try:
        measurement.reasons, measurement.measured = fleet.judge(given["node"], given["nodes"], given["min_nodes"], given["score_max"])
    except (KeyError, TypeError, AttributeError) as error:
        module.fail_json(msg="fleet_health: nodes is not what the filter node_health_fleet returns: %r" % error)
    measurement.context = {"sku": given["nodes"][given["node"]]["sku"], "nodes": sorted(given["nodes"])}
    module.exit_json(changed=False, **measurement.result())


if __name__ == "__main__":
    main()
