#!/usr/bin/python
"""Ansible module: check the inventory, the layouts and the controller before anything is touched."""

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight_check
short_description: Check inventory, layouts and controller, and name every problem at once
description:
  - Runs on the controller. Fails with all problems that it found, so that all can be mended in one go.
  - Touches no node.
options:
  nodes:
    description: The nodes of the inventory.
    type: list
    elements: dict
    required: true
    suboptions:
      name: {description: Inventory name., type: str, required: true}
      address: {description: The C(ansible_host)., type: str}
      port: {description: The C(ansible_port)., type: int}
  expected_nodes:
    description: How many nodes there must be; V(0) accepts any number but none.
    type: int
    default: 0
  layouts:
    description: Value of C(vllm_serve_layouts).
    type: raw
    default: []
  runtime: {description: Value of C(vllm_serve_runtime)., type: str, default: host}
  image: {description: Value of C(vllm_serve_image)., type: str, default: ""}
  image_pull: {description: Value of C(vllm_serve_image_pull)., type: str, default: missing}
  packages:
    description: Python packages that the controller must have.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    support: full
author: Plumbline
"""

EXAMPLES = r"""
- name: Check before anything is touched
  preflight_check:
    nodes: [{name: node1, address: 10.0.0.4}]
    expected_nodes: 1
    layouts: [{name: tp8, tp: 8, pp: 1, nodes: 1, executor: mp}]
    packages: [matplotlib, jsonschema]
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
problems:
  description: Every problem, as sentences; empty when the module succeeds.
  returned: always
  type: list
  elements: str
nodes:
  description: Number of nodes seen.
  returned: always
  type: int
"""

import sys

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.plumbline.controller import preflight


def main():
    """Check, and fail with all problems."""
    node = {"name": {"type": "str", "required": True}, "address": {"type": "str"}, "port": {"type": "int"}}
    module = AnsibleModule(
        argument_spec={
            "nodes": {"type": "list", "elements": "dict", "required": True, "options": node},
            "expected_nodes": {"type": "int", "default": 0},
            "layouts": {"type": "raw", "default": []},
            "runtime": {"type": "str", "default": "host"},
            "image": {"type": "str", "default": ""},
            "image_pull": {"type": "str", "default": "missing"},
            "packages": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    given = module.params
    problems = preflight.inventory_problems(given["nodes"], given["expected_nodes"])
    problems += preflight.layout_problems(given["layouts"] or [], len(given["nodes"]))
    problems += preflight.image_problems(given["runtime"], given["image"], given["image_pull"])
    problems += preflight.package_problems(given["packages"], sys.executable)
    result = {"changed": False, "problems": problems, "nodes": len(given["nodes"])}
    if problems:
        count = "1 problem" if len(problems) == 1 else "%d problems" % len(problems)
        module.fail_json(msg="%s before anything was touched:\n- %s" % (count, "\n- ".join(problems)), **result)
    module.exit_json(**result)


if __name__ == "__main__":
    main()
