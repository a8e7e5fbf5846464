#!/usr/bin/python
"""Ansible module: the rounds in which every node measures with every other once."""

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
author: [Plumbline]
"""

EXAMPLES = r"""
- name: Plan who measures with whom
  pairwise_plan:
    nodes: "{{ groups['serving'] }}"
  delegate_to: localhost
  run_once: true
"""

RETURN = r"""
rounds:
  description: One dictionary a round; for each node that takes part its C(pair) (two names) and its C(rank) in it.
  type: list
  elements: dict
  returned: always
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.plumbline.fabric.pairs import places


def main():
    """Run the module."""
    module = AnsibleModule(argument_spec={"nodes": {"type": "list", "elements": "str", "required": True}}, supports_check_mode=True)
    try:
        plan = places(module.params["nodes"])
    except ValueError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, rounds=plan)


if __name__ == "__main__":
    main()
