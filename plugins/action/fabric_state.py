"""Action plugin: what the kept facts of this run say about its fabric so far."""

from __future__ import annotations

DOCUMENTATION = r"""
module: fabric_state
short_description: tell whether the fabric's measurements so far ask for a closer look
description:
  - Runs on the controller, on the facts and incidents that this run has kept.
options:
  nodes:
    description: Nodes whose pairs count.
    type: list
    elements: str
    required: true
  group:
    description: Nodes of the measurement across.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    support: full
author: [Plumbline]
"""

EXAMPLES = r"""
- name: Look how the fabric did so far
  fabric_state:
    nodes: "{{ groups['usable'] }}"
    group: "{{ groups['serving'] }}"
  run_once: true
"""

RETURN = r"""
group_failed:
  description: Whether a measurement across the group failed or did not come to an end.
  type: bool
  returned: always
ports_missed:
  description: Whether an InfiniBand port of some pair missed its threshold.
  type: bool
  returned: always
"""

from ansible.module_utils.plumbline.controller import fabric_state, kept
from ansible.module_utils.plumbline.controller.action import ControllerAction


class ActionModule(ControllerAction):
    """The action behind ``fabric_state:``."""

    ARGUMENTS = {
        "nodes": {"type": "list", "elements": "str", "required": True},
        "group": {"type": "list", "elements": "str", "default": []},
    }

    def answer(self, arguments, task_vars):
        """Return both answers."""
        data = kept.load() or {"facts": [], "incidents": []}
        incidents = [item for item in data["incidents"] if item.get("role") == fabric_state.ROLE]
        return {
            "changed": False,
            "group_failed": fabric_state.group_failed(data["facts"], incidents, arguments["group"]),
            "ports_missed": fabric_state.ports_missed(data["facts"], arguments["nodes"]),
        }
