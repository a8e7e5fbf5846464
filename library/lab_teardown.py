#!/usr/bin/python
"""Ansible module: removes a whole lab."""

from __future__ import annotations

DOCUMENTATION = r"""
module: lab_teardown
short_description: Remove a lab - its processes, cgroups, links, bridge, loop devices and files
description:
  - Works from what is there, not from what was planned, so that it also removes a lab that was started with other
    settings or half started. The download cache stays.
options:
  name:
    description: The lab's name.
    type: str
    required: true
  dir:
    description: Folder of the lab.
    type: path
    required: true
author: [Plumbline]
"""

EXAMPLES = r"""
- name: Remove the lab
  lab_teardown:
    name: lab
    dir: /var/lib/plumbline-lab/lab
"""

RETURN = r"""
done:
  description: What was, or in check mode would be, removed.
  returned: success
  type: list
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.plumbline.lab import cgroups as lab_cgroups
from ansible.module_utils.plumbline.lab import host as lab_host
from ansible.module_utils.plumbline.lab import plan as lab
from ansible.module_utils.plumbline.lab import registry as lab_registry


def drop_rule(bridge, check_mode):
    """Delete the rule that let the bridge's packets pass; return whether there was one."""
    if not lab_host.lets_pass(bridge):
        return False
    if not check_mode:
        lab_host.call("iptables", "-w", "-D", *lab_host.forward_rule(bridge))
    return True


def teardown(name, folder, check_mode):
    """Remove the lab; return what was removed."""
    done = []
    for node in lab_host.nodes_of(folder):
        done.append("node " + os.path.basename(node))
        if not check_mode:
            nobody = "0.0.0.0"  # nothing is connected to it
            lab_host.stop_node(node, lab_host.settings_of(node).get("address", nobody))
    pattern = lab.check_name(name) + "h[0-9]+"
    if lab_cgroups.left(pattern):
        done.append("cgroups of its engines")
        if not check_mode:
            lab_cgroups.remove(pattern)
    if lab_registry.running(folder):
        done.append("registry")
        if not check_mode:
            lab_registry.stop(folder)
    for link in lab_host.links(name):
        done.append("link " + link)
        if not check_mode:
            lab_host.delete_link(link)
    bridge = lab.bridge_name(name)
    if os.path.isdir("/sys/class/net/%s/bridge" % bridge):
        done.append("bridge " + bridge)
        if drop_rule(bridge, check_mode):
            done.append("rule for " + bridge)
        if not check_mode:
            lab_host.delete_link(bridge)
    if os.path.lexists(folder):
        done.append("folder " + folder)
        if not check_mode:
            lab_host.release_loops(folder)
            lab_host.remove_tree(folder)
            parent = os.path.dirname(folder.rstrip("/"))
            if os.path.basename(parent) == "plumbline-lab" and not os.listdir(parent):
                os.rmdir(parent)
    return done


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={"name": {"type": "str", "required": True}, "dir": {"type": "path", "required": True}},
        supports_check_mode=True,
    )
    name, folder = module.params["name"], module.params["dir"]
    if os.geteuid() != 0:
        module.fail_json(msg="the lab belongs to root, you are uid %d: run again as root" % os.geteuid())
    try:
        lab.check_name(name)
        done = teardown(name, folder, module.check_mode)
    except (lab.LabError, lab_host.HostError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(done), done=done)


if __name__ == "__main__":
    main()
