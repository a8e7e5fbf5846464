"""Action plugin: check the inventory, the layouts and the controller before anything is touched."""

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight_check
short_description: Check inventory, layouts and controller, and name every problem at once
description:
  - Runs on the controller and touches no node. Fails with all problems that it found, so that all can be mended in one go.
  - Reads the group C(nodes), the addresses and ports of its hosts, and the variables of serving (C(vllm_serve_layouts),
    C(vllm_serve_runtime), C(vllm_serve_image), C(vllm_serve_image_pull)) as the first node has them.
  - Names variables of any node that nothing reads any more, with their successors.
options:
  expected_nodes:
    description: How many nodes there must be; V(0) accepts any number but none.
    type: int
    default: 0
  packages:
    description: Python packages that the controller must have.
    type: list
    elements: str
    default: []
attributes:
  check_mode:
    support: full
author: [Plumbline]
"""

EXAMPLES = r"""
- name: Check before anything is touched
  preflight_check:
    expected_nodes: 2
    packages: [matplotlib, jsonschema]
  run_once: true
"""

RETURN = r"""
problems:
  description: Every problem, as sentences; empty when nothing is wrong.
  returned: always
  type: list
  elements: str
nodes:
  description: Number of nodes seen.
  returned: always
  type: int
"""

import sys

from ansible.errors import AnsibleActionFail

try:
    from ansible.module_utils.plumbline.controller import preflight
    from ansible.module_utils.plumbline.controller.action import ControllerAction
except ImportError as error:
    # The first of our plugins to be asked for anything: what is wrong with the others shows here.
    raise AnsibleActionFail(
        "Plumbline's code cannot be imported (%s). Its callback, which ansible.cfg names, says where it is: run from the project's root,"
        " or set ANSIBLE_CALLBACK_PLUGINS to the project's plugins/callback; and `make setup` installs what the controller needs." % error
    ) from error

# What layouts need is read off the first node: roles read it on every node, and give the same to each.
SERVING = ("vllm_serve_layouts", "vllm_serve_runtime", "vllm_serve_image", "vllm_serve_image_pull")


class ActionModule(ControllerAction):
    """The action behind ``preflight_check:``."""

    ARGUMENTS = {
        "expected_nodes": {"type": "int", "default": 0},
        "packages": {"type": "list", "elements": "str", "default": []},
    }

    def answer(self, arguments, task_vars):
        """Check, and fail with all problems."""
        names, hostvars = task_vars["groups"].get("nodes") or [], task_vars["hostvars"]
        nodes = preflight.nodes_of(names, hostvars)
        # Without a node the variables of the command line are still there.
        variables = hostvars[names[0]] if names else task_vars
        given = {name: variables[name] for name in SERVING if name in variables}
        found = preflight.problems(nodes, arguments["expected_nodes"], given, arguments["packages"], sys.executable)
        found += preflight.removed_variables({name for node in names for name in hostvars[node]} | set(task_vars))
        result = {"changed": False, "problems": found, "nodes": len(nodes)}
        if found:
            count = "1 problem" if len(found) == 1 else "%d problems" % len(found)
            result.update(failed=True, msg="%s before anything was touched:\n- %s" % (count, "\n- ".join(found)))
        return result
