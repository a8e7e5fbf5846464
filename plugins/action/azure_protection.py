"""Action plugin: scale sets' instances are protected for the time of a run, where the inventory asks for it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: azure_protection
short_description: protect the instances of Azure scale sets for the time of a run, and give them back
description:
  - Runs on the controller. V(protected) protects the nodes' instances as each one's variable C(azure_protection) says, and keeps what they
    had before in O(memory), before anything is changed.
  - V(given_back) undoes what this run did, V(reset) what any run did. An instance that was protected before stays so, and one that
    somebody else has changed meanwhile is left as it is.
  - Without a node that asks for it, and without anything to undo, Azure is not asked.
options:
  state:
    description: What to do.
    type: str
    choices: [protected, given_back, reset]
    required: true
  nodes:
    description: Names of the nodes.
    type: list
    elements: str
    required: true
  memory:
    description: Folder of the controller that keeps what the instances had.
    type: str
    required: true
  auth_source:
    description: How to log in, as azure.azcollection's option of that name; its own way where it is empty.
    type: str
    default: ""
attributes:
  check_mode:
    support: full
author: [Plumbline]
"""

EXAMPLES = r"""
- name: Give the instances the protection back that they had
  azure_protection:
    state: given_back
    nodes: "{{ groups['nodes'] }}"
    memory: ~/.local/state/plumbline/azure_protection
  run_once: true
"""

RETURN = r"""
lines: {description: "What was done, a sentence for each instance.", type: list, elements: str, returned: always}
"""

import os

from ansible.module_utils.plumbline.controller.action import ControllerAction
from ansible.module_utils.plumbline.controller.azure import arm as azure_arm
from ansible.module_utils.plumbline.controller.azure import protection

UNDO = "ansible-playbook playbooks/reset.yml undoes it once this is right"


class ActionModule(ControllerAction):
    """The action behind ``azure_protection:``."""

    ARGUMENTS = {
        "state": {"type": "str", "choices": ["protected", "given_back", "reset"], "required": True},
        "nodes": {"type": "list", "elements": "str", "required": True},
        "memory": {"type": "str", "required": True},
        "auth_source": {"type": "str", "default": ""},
    }

    def answer(self, arguments, task_vars):
        """Return what was done; what could not be done fails the task, after everything else was tried."""
        memory = protection.Memory(arguments["memory"])
        hosts = {node: task_vars.get("hostvars", {}).get(node) or {} for node in arguments["nodes"]}
        lines, problems, changed = [], [], False
        try:
            todo = _wanted(hosts, lines) if arguments["state"] == "protected" else _kept(memory, hosts)
            if not todo:
                return {"changed": False, "skipped": not lines, "lines": lines, "msg": "no instance to protect or to give back"}
            arm = azure_arm.Arm(arguments["auth_source"] or None)
        except azure_arm.Refused as error:
            raise ValueError(str(error)) from None
        check_mode = self._task.check_mode
        instances = protection.Instances(arm, memory, os.environ.get("PLUMBLINE_RUN_ID", ""), check_mode)
        for node, item in todo:
            try:
                if arguments["state"] == "protected":
                    did, line = instances.protect(node, *item)
                else:
                    did, line = instances.give_back(item, whoever=arguments["state"] == "reset")
            except azure_arm.Refused as error:
                problems.append("%s: %s; %s" % (node, error, protection.remedy(error)))
                continue
            except OSError as error:
                problems.append("%s: %s cannot be kept: %s. Set azure_protection_memory" % (node, memory.folder, error))
                continue
            lines.append(line)
            changed = changed or did
        result = {"changed": changed, "lines": lines}
        if problems and arguments["state"] == "protected":
            # The run ends here, so its end that gives them back does not come.
            lines += _take_back(instances, memory, hosts)
        if problems:
            result.update(failed=True, msg="; ".join(problems) + ("" if arguments["state"] == "protected" else ". " + UNDO))
        return result


def _take_back(instances, memory, hosts):
    """Give back what this run has protected so far; return a sentence for each, also for one that could not be given back."""
    lines = []
    for _node, record in _kept(memory, hosts):
        try:
            lines.append(instances.give_back(record)[1])
        except azure_arm.Refused as error:
            lines.append("%s may still be protected: %s. %s" % (record["node"], error, UNDO))
    return lines


def _wanted(hosts, lines):
    """Return ``[(node, (instance, level)), ...]`` of the nodes that are to be protected; raises ValueError for one that cannot be.

    A machine that does not run takes no part in the run, and Azure would not carry out an order about it: ``lines`` says that it is left.
    """
    found = []
    for node, variables in hosts.items():
        level = variables.get("azure_protection") or "none"
        if level not in protection.LEVELS:
            raise ValueError("azure_protection of %s is %r, expected one of %s" % (node, level, ", ".join(protection.LEVELS)))
        if level == "none":
            continue
        state = [variables.get("powerstate") or "running", variables.get("provisioning_state") or "succeeded"]
        if state != ["running", "succeeded"]:
            lines.append("%s is %s, its provisioning %s: it is not protected" % (node, *state))
            continue
        own, scale_set = variables.get("id"), (variables.get("vmss") or {}).get("id")
        if not own or not scale_set:
            raise ValueError("azure_protection is set for %s, which is of no scale set that is known: use inventory/azure" % node)
        found.append((node, (protection.instance_path(str(own), str(scale_set)), level)))
    return found


def _kept(memory, hosts):
    """Return ``[(node, record), ...]`` of the instances that a run has protected and that are among these nodes."""
    return [(record["node"], record) for record in memory.all() if record["node"] in hosts and _same(record, hosts[record["node"]])]


def _same(record, variables):
    """Return whether a record is of this node, and not of one of that name in another set; an inventory without ids does not tell."""
    own = str(variables.get("id") or "")
    return not own or record["instance"].lower().endswith("/virtualmachines/" + own.lower().rpartition("/")[2])
