#!/usr/bin/python
"""Ansible module: by how much the counters of a node's InfiniBand ports grew over a phase of measurements."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ib_counters
short_description: Judge the error counters of InfiniBand ports over a window of their own
description:
  - Call it before the measurements without O(before), and after them with the C(reading) of the first call. The second call returns
    one fact of kind C(link), name C(ib_counters), with what each counter of each port grew by, and what passed the ports.
  - Only reads sysfs. A port is one whose link layer is InfiniBand; without any the fact is C(skipped).
  - Counters that went back, ports that came or were registered anew, and a reboot are C(incomplete), since a part of the window is not
    seen; what was counted since is judged all the same. A port that went away is C(failed).
options:
  before:
    description: RV(reading) of the call before the measurements. Without it the module only reads.
    type: raw
  judge:
    description: Whether a fact is wanted. Without RV(reading) of a first call it then says so and is C(incomplete).
    type: bool
    default: false
  expected_ports:
    description: InfiniBand devices that the SKU has, by name; an empty list says that it has none, and none are looked at.
    type: list
    elements: str
  expected_transport:
    description: What NCCL should take across nodes, V(IB) where it is InfiniBand.
    type: str
    default: ""
  interface:
    description: Ethernet interface whose bytes are told beside them; where it is not given, the one that has O(address).
    type: str
    default: ""
  address:
    description: Address of this node, by which its interface is found.
    type: str
    default: ""
  limits:
    description:
      - Other limits by counter, such as C({"rnr_nak_retry_err":100}), in the unit of the one that it replaces. Null takes one away.
    type: dict
    default: {}
  root:
    description: Below which folder C(/sys) and C(/proc) are read, to replay a recorded node.
    type: path
    default: /
attributes:
  check_mode:
    support: full
    description: It only reads. Since nothing is measured between the two calls, the fact is C(skipped).
author: [Plumbline]
"""

EXAMPLES = r"""
- name: Read the counters before the measurements
  ib_counters:
    address: 10.0.0.4
  register: before

- name: Judge what they grew by
  ib_counters:
    judge: true
    before: "{{ before.reading }}"
    expected_ports: [mlx5_ib0, mlx5_ib1]
    expected_transport: IB
"""

RETURN = r"""
reading:
  description: The counters now; O(before) of a later call.
  returned: without O(judge)
  type: dict
fact:
  description: The fact under C(plumbline.link), named C(ib_counters); shape in C(docs/schema/link.schema.json).
  returned: with O(judge)
  type: dict
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.plumbline.core import marks
from ansible.module_utils.plumbline.core.fact import Measurement
from ansible.module_utils.plumbline.fabric import ib_counters, ib_judge, ib_limits
from ansible.module_utils.plumbline.machine import net


def find_interface(args):
    """Return the Ethernet interface to read beside the ports, None where none has the address."""
    if args["interface"] or not args["address"]:
        return args["interface"] or None
    try:
        return net.interface_of(net.own_address(args["address"]))
    except OSError:
        return None


def assess(args, limits, check_mode):
    """Return the :class:`Measurement` of the window since ``before``."""
    found = Measurement("link", "ib_counters")
    before, expected = args["before"], args["expected_ports"]
    found.context = {"expected_ports": expected, "limits": {limit.counter: limit.words() for limit in reversed(limits)}}
    if check_mode:
        found.add("check_mode", "skipped", "nothing is measured in check mode, so that nothing can be counted")
    elif expected == []:
        found.add("ib_counters.ports", "skipped", "not looked at", "no InfiniBand on this SKU")
    elif not ib_counters.is_reading(before):
        now = ib_counters.read(None, args["root"])
        if not now["ports"] and not expected:
            found.add("ib_counters.ports", "skipped", "no InfiniBand port")
        else:
            found.add("ib_counters.ports", "incomplete", "no reading from before the measurements", "one", ib_judge.AGAIN)
    else:
        interface = (before.get("interface") or {}).get("name") or find_interface(args)
        after = ib_counters.read(interface, args["root"])
        found.context["interface"] = interface or ""
        if not before["ports"] and not after["ports"] and not expected:
            found.add("ib_counters.ports", "skipped", "no InfiniBand port")
        else:
            ib_judge.judge(found, ib_counters.difference(before, after), expected, args["expected_transport"], limits)
    return found


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "before": {"type": "raw"},
            "judge": {"type": "bool", "default": False},
            "expected_ports": {"type": "list", "elements": "str"},
            "expected_transport": {"type": "str", "default": ""},
            "interface": {"type": "str", "default": ""},
            "address": {"type": "str", "default": ""},
            "limits": {"type": "dict", "default": {}},
            "root": {"type": "path", "default": "/"},
        },
        supports_check_mode=True,
    )
    args = module.params
    try:
        limits = ib_limits.limits(args["limits"])
    except ValueError as error:
        module.fail_json(msg="ib_counters: limits: %s" % error)
    if not args["judge"]:
        module.exit_json(changed=False, reading=ib_counters.read(find_interface(args), args["root"]))
    module.exit_json(changed=False, **assess(args, limits, module.check_mode).result())


if __name__ == "__main__":
    marks.belong(marks.measuring())  # reset finds it when its connection is lost
    main()
