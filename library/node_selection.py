#!/usr/bin/python
"""Ansible module: which nodes serve, which are spares, which are out and why."""

from __future__ import annotations

DOCUMENTATION = r"""
module: node_selection
short_description: choose the serving nodes from the verdicts so far
description:
  - Runs on the controller. Takes the nodes whose verdicts are neither failed nor incomplete, healthy before degraded, in inventory
    order; as many serve as the largest layout needs, the others are spares that replace a node that fails.
options:
  candidates:
    description: What the filter C(plumbline_candidates) returns, name, address and verdicts of each node.
    type: list
    elements: dict
    required: true
  layouts:
    description: The layouts to serve; only name and nodes are read.
    type: list
    elements: dict
    default: []
author: [Plumbline]
"""

EXAMPLES = r"""
- name: Choose the serving nodes
  node_selection:
    candidates: "{{ groups['nodes'] | plumbline_candidates(hostvars) }}"
    layouts: "{{ vllm_serve_layouts }}"
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
plumbline_selection:
  description: The choice; the callback keeps it as C(selection.json).
  type: dict
  returned: always
  contains:
    serving: {description: Names of the serving nodes\, the head first., type: list, elements: str}
    spares: {description: Names of the spares., type: list, elements: str}
    excluded: {description: Reason by name., type: dict}
    replaced: {description: For each node that was due and is out\, the spare that serves instead (by) and why., type: list, elements: dict}
    layouts: {description: For each layout its nodes and how many it lacks., type: list, elements: dict}
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.plumbline.controller.selection import select


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "candidates": {"type": "list", "elements": "dict", "required": True},
            "layouts": {"type": "list", "elements": "dict", "default": []},
        },
        supports_check_mode=True,
    )
    try:
        selection = select(module.params["candidates"], module.params["layouts"])
    except (KeyError, TypeError, ValueError) as error:
        module.fail_json(msg="a candidate needs name and verdicts, a layout name and nodes: %r" % error)
    module.exit_json(changed=False, plumbline_selection=selection)


if __name__ == "__main__":
    main()
