#!/usr/bin/python
"""Ansible module: the health of one node, as one fact."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_health
short_description: Judge the health of a node against what its SKU should show
description:
  - Reads processors, memory, disks, the network interface, clocks, the kernel log and the GPUs in one call and returns
    one fact of kind C(health). A bad verdict is a result, not a failure of the module.
  - Changes nothing but one small probe file below each path, which it removes; none in check mode.
options:
  sku:
    description:
      - Name in O(skus), or V(auto). With V(auto) the Azure instance metadata is asked for the size, but only on a
        machine whose DMI chassis asset tag is Azure's; elsewhere V(generic) is used.
      - An SKU that is not in O(skus) is judged by V(generic) and the fact is C(incomplete).
    type: str
    default: auto
  skus:
    description: Expected values by SKU; the keys are in C(module_utils/plumbline/health_expect.py).
    type: dict
    required: true
  expect:
    description: Expected values that replace those of the SKU, key by key.
    type: dict
    default: {}
  paths:
    description: Where space, inodes and a real write are checked; a path that is not there yet is judged at its parent.
    type: list
    elements: path
    default: [/]
  address:
    description: What the inventory calls the node; the interface that holds it is checked.
    type: str
  clock_samples:
    description:
      - Exchanges of the clock between controller and node, in seconds. The action plugin of the role fills it in.
    type: list
    elements: dict
    default: []
    suboptions:
      sent: {description: The controller's clock before the question., type: float, required: true}
      node: {description: The node's clock., type: float, required: true}
      received: {description: The controller's clock after the answer., type: float, required: true}
  nvidia_smi:
    description: Path of C(nvidia-smi); found in E(PATH) where it is not given.
    type: path
  timeout_s:
    description: Seconds that one command on the node (C(nvidia-smi), C(journalctl)) may take.
    type: int
    default: 60
attributes:
  check_mode:
    support: full
    description: Everything is read; the write probe is left out and its reason says so.
author: Plumbline
"""

EXAMPLES = r"""
- name: Judge this node
  node_health:
    sku: Standard_ND96isr_H100_v5
    skus: "{{ node_health_skus }}"
    paths: [/, /var/lib/plumbline]
    address: "{{ ansible_host }}"
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
from ansible.module_utils.plumbline import health, health_evidence, health_expect
from ansible.module_utils.plumbline.fact import Measurement


def main():
    """Collect, judge, return."""
    sample = {
        "sent": {"type": "float", "required": True},
        "node": {"type": "float", "required": True},
        "received": {"type": "float", "required": True},
    }
    module = AnsibleModule(
        argument_spec={
            "sku": {"type": "str", "default": "auto"},
            "skus": {"type": "dict", "required": True},
            "expect": {"type": "dict", "default": {}},
            "paths": {"type": "list", "elements": "path", "default": ["/"]},
            "address": {"type": "str"},
            "clock_samples": {"type": "list", "elements": "dict", "default": [], "options": sample},
            "nvidia_smi": {"type": "path"},
            "timeout_s": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    given = module.params
    wrong = [text for name in sorted(given["skus"]) for text in health_expect.problems(name, given["skus"][name])]
    wrong += health_expect.problems("(node_health_expect)", given["expect"])
    if health_expect.FALLBACK not in given["skus"]:
        wrong.append("skus has no %r, by which an unknown SKU is judged" % health_expect.FALLBACK)
    if not given["paths"]:
        wrong.append("paths is empty: name at least one directory whose disk is checked")
    if wrong:
        module.fail_json(msg="node_health: " + "; ".join(wrong))

    measurement = Measurement("health", "node", command="node_health")
    asked = given["sku"] == health_expect.AUTO
    azure = health_evidence.azure_vm_size() if asked else None
    chosen = health_expect.choose(given["sku"], given["skus"], azure)
    expect = dict(chosen["expect"], **given["expect"])
    measurement.add(
        "sku",
        "healthy" if chosen["known"] else "incomplete",
        chosen["seen"],
        "known" if chosen["known"] else "one of %s" % ", ".join(sorted(given["skus"])),
        None if chosen["known"] else "set node_health_sku, or add the SKU to roles/node_health/vars/main/skus.yml",
    )
    evidence = health.collect(
        given["paths"],
        given["address"],
        given["clock_samples"],
        not module.check_mode,
        given["nvidia_smi"],
        given["timeout_s"],
    )
    measurement.reasons += health.assess(evidence, expect)
    measurement.measured = health.measured(evidence)
    measurement.context = health.context(evidence, chosen)
    module.exit_json(changed=False, **measurement.result())


if __name__ == "__main__":
    main()
