#!/usr/bin/python
"""Ansible module: the lab's bridge."""

from __future__ import annotations

DOCUMENTATION = r"""
module: lab_network
short_description: The bridge that joins a lab's nodes and gives the controller an address among them
description:
  - Makes the bridge with the controller's address. Where the machine filters bridged packets with iptables (as a
    machine with Docker does), lets those of this bridge pass.
options:
  bridge:
    description: Name of the bridge.
    type: str
    required: true
  address:
    description: The controller's address on it, with prefix length.
    type: str
    required: true
author: [Plumbline]
"""

EXAMPLES = r"""
- name: Join the nodes
  lab_network:
    bridge: labbr0
    address: 10.98.255.254/16
"""

RETURN = r"""
done:
  description: What was, or in check mode would be, done.
  returned: success
  type: list
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.plumbline.lab import host as lab_host
from ansible.module_utils.plumbline.lab import plan as lab


def steps(bridge, address):
    """Return ``[(what, argv)]`` that are still to do."""
    todo = []
    seen = lab_host.json_of("ip", "-j", "-4", "address", "show", "dev", bridge) if bridge in lab_host.links() else None
    if seen is None:
        mac = lab.mac(address.split("/")[0])  # else it changes with the ports
        todo.append(("add bridge", ["ip", "link", "add", bridge, "address", mac, "type", "bridge"]))
    have = ["%s/%s" % (a.get("local"), a.get("prefixlen")) for link in seen or [] for a in link.get("addr_info", [])]
    for extra in have:
        if extra != address:
            todo.append(("drop address " + extra, ["ip", "address", "delete", extra, "dev", bridge]))
    if address not in have:
        todo.append(("add address", ["ip", "address", "add", address, "dev", bridge]))
    if not any("UP" in link.get("flags", []) for link in seen or []):
        todo.append(("bring up", ["ip", "link", "set", bridge, "up"]))
    filtered = lab_host.read("/proc/sys/net/bridge/bridge-nf-call-iptables").strip() == "1"
    if filtered and lab_host.lets_pass(bridge) is False:
        todo.append(("let bridged packets pass", ["iptables", "-w", "-I", *lab_host.forward_rule(bridge)]))
    return todo


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={"bridge": {"type": "str", "required": True}, "address": {"type": "str", "required": True}},
        supports_check_mode=True,
    )
    bridge = module.params["bridge"]
    if os.path.exists("/sys/class/net/" + bridge) and not os.path.isdir("/sys/class/net/%s/bridge" % bridge):
        module.fail_json(msg="the interface %s exists and is no bridge: expected none; set lab_name" % bridge)
    try:
        todo = steps(bridge, module.params["address"])
        if not module.check_mode:
            for _what, argv in todo:
                lab_host.call(*argv)
    except lab_host.HostError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(todo), done=[what for what, _argv in todo])


if __name__ == "__main__":
    main()
