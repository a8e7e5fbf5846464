"""Action plugin: check the inventory, the layouts and the controller before anything is touched."""

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight_check
short_description: Check inventory, variables, layouts and controller, and name every problem at once
description:
  - Runs on the controller and touches no node. Fails with all problems that it found, so that all can be mended in one go. What holds for
    several nodes is one line.
  - C(inventory) is the group C(nodes), and the addresses and ports of its hosts. What an inventory says itself about a wrong number of
    nodes, in C(preflight_inventory_notes), is told with it.
  - C(variables) are those of all roles, for all hosts. Values are held against the roles' argument specifications by Ansible's own
    validator, after templates were resolved with each host's variables. Layouts and images are looked at more closely
    (C(vllm_serve_layouts), C(vllm_serve_runtime), C(vllm_serve_image), C(vllm_serve_image_pull)). A name that looks as if a role should
    read it and that none reads is told with the nearest one, and a variable that nothing reads any more with its successor.
  - C(tags) are those of the command line.
  - C(controller) is the Python that this runs in. What the report can do without is a warning.
options:
  checks:
    description: What to check.
    type: list
    elements: str
    choices: [inventory, variables, tags, controller]
    default: [inventory, variables, tags, controller]
  expected_nodes:
    description: How many nodes there must be; V(0) takes C(preflight_expected_nodes) of the nodes, and any number but none without that.
    type: int
    default: 0
  packages:
    description: Python packages without which the run does not start, beside C(preflight_packages) of the nodes.
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
    packages: [matplotlib]
  run_once: true

- name: Check the variables alone
  preflight_check:
    checks: [variables]
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

from ansible import context
from ansible.errors import AnsibleActionFail
from ansible.parsing.dataloader import DataLoader
from ansible.playbook import Playbook

try:
    from ansible.module_utils.plumbline.controller import lacking, place, preflight, tags
    from ansible.module_utils.plumbline.controller.action import ControllerAction
    from ansible.module_utils.plumbline.controller.variables import Variables
except ImportError as error:
    # The first of our plugins to be asked for anything: what is wrong with the others shows here.
    try:
        from ansible.module_utils.plumbline.controller.place import COLLECTION, SETUP
    except ImportError:
        COLLECTION, SETUP = "", "make setup"
    raise AnsibleActionFail(
        "Plumbline's code cannot be imported (%s). `%s` installs what the controller's Python (%s) needs." % (error, SETUP, sys.executable)
        if COLLECTION
        else "Plumbline's code cannot be imported (%s). Its callback, which ansible.cfg names, says where it is: run from the project's"
        " root, or set ANSIBLE_CALLBACK_PLUGINS to the project's plugins/callback; and `make setup` installs what the controller needs."
        % error
    ) from error

CHECKS = ["inventory", "variables", "tags", "controller"]


class ActionModule(ControllerAction):
    """The action behind ``preflight_check:``."""

    ARGUMENTS = {
        "checks": {"type": "list", "elements": "str", "choices": CHECKS, "default": CHECKS},
        "expected_nodes": {"type": "int", "default": 0},
        "packages": {"type": "list", "elements": "str", "default": []},
    }

    def answer(self, arguments, task_vars):
        """Check, and fail with all problems."""
        names = task_vars["groups"].get("nodes") or []
        hosts = self._variables(names, task_vars)
        values = Variables(self._templar, self._loader or DataLoader(), names, hosts)
        found, result = [], {"changed": False, "nodes": len(names)}
        if "inventory" in arguments["checks"]:
            expected = arguments["expected_nodes"] or values.number("preflight_expected_nodes")
            nodes = preflight.nodes_of(names, task_vars["hostvars"])
            notes = values.texts("preflight_inventory_notes")
            found += preflight.inventory_problems(nodes, expected, task_vars["groups"], notes)
        if "variables" in arguments["checks"]:
            found += values.problems()
        if "tags" in arguments["checks"]:
            found += self._unknown_tags(task_vars)
        if "controller" in arguments["checks"]:
            packages = dict.fromkeys(arguments["packages"] + values.texts("preflight_packages"))
            found += preflight.package_problems(packages, sys.executable)
        if "variables" in arguments["checks"]:
            found += preflight.removed_variables({name for variables in hosts.values() for name in variables})
            asked, skipped = ([str(tag) for tag in context.CLIARGS.get(key) or ()] for key in ("tags", "skip_tags"))
            found += preflight.container_problems(values.text("vllm_serve_runtime"), asked, skipped)
            result["warnings"] = ["%s: %s." % line for line in lacking.lines()]
        result["problems"] = found
        if found:
            count = "1 problem" if len(found) == 1 else "%d problems" % len(found)
            result.update(failed=True, msg="%s before anything was touched:\n- %s" % (count, "\n- ".join(found)))
        return result

    def _variables(self, names, task_vars):
        """Return the variables of every node, and of the host that this runs for, without any template resolved."""
        hostvars = task_vars["hostvars"]
        manager = getattr(hostvars, "_variable_manager", None)
        found = {}
        for name in names:
            if manager:
                # As for a task of this play: hostvars know no variables of plays.
                host = hostvars._inventory.get_host(name)
                found[name] = manager.get_vars(play=self._task.get_play(), host=host, include_hostvars=False)
            else:
                found[name] = dict(hostvars[name])
        # Without a node the variables of the command line are still there.
        found.setdefault(task_vars.get("inventory_hostname", "localhost"), task_vars)
        return found

    def _unknown_tags(self, task_vars):
        """Return a sentence for each tag of the command line that no task has; the playbooks are read for it only if there is one."""
        asked, skipped = ([str(tag) for tag in context.CLIARGS.get(key) or ()] for key in ("tags", "skip_tags"))
        paths = context.CLIARGS.get("args") or ()
        manager = getattr(task_vars["hostvars"], "_variable_manager", None)
        known = tags.written()
        if not manager or not (set(asked) | set(skipped)) - known - tags.SPECIAL:
            return []
        plays = [
            play
            for path in map(place.path_of, paths)
            for play in Playbook.load(path, variable_manager=manager, loader=self._loader).get_plays()
        ]
        return tags.unknown(asked, skipped, known | tags.of_plays(plays), tags.all_ours(paths))
