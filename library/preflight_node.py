#!/usr/bin/python
"""Ansible module: can our modules run on this node?"""

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight_node
short_description: Ask a node for an answer, and check that its Python is new enough for Plumbline's modules
description:
  - That it answers at all says that SSH, the login and Python work, as C(ansible.builtin.ping) would.
  - Fails with the version that was seen, the one expected, and what to do. Ansible itself is content with an older one.
options:
  python_min:
    description: Lowest Python version, such as V(3.9).
    type: str
    default: "3.9"
  gpus:
    description:
      - The node's C(plumbline_gpus), the GPUs that it may use, by index or UUID; empty for all.
      - One that cannot be meant, or is not there, fails with what the node has.
    type: raw
    default: []
  timeout_s:
    description:
      - Seconds that the node's Python may take to answer. One that does not is ended on the node, and the node counts as unreachable.
      - The action plugin of the same name keeps it. It asks with one command, and runs this module where the answer is no good one.
    type: int
    default: 20
attributes:
  check_mode:
    support: full
author: Plumbline
"""

EXAMPLES = r"""
- name: Check this node's Python
  preflight_node:
    python_min: "3.9"
"""

RETURN = r"""
python_version:
  description: Version of the Python that runs the modules on this node.
  returned: always
  type: str
ping:
  description: V(pong), as of C(ansible.builtin.ping).
  returned: always
  type: str
gpus:
  description: The chosen GPUs with C(index), C(uuid) and C(bus_id); empty where all may be used.
  returned: always
  type: list
  elements: dict
python:
  description: Its path.
  returned: always
  type: str
"""

import platform
import re
import sys

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.plumbline.machine import gpu_choice


def main():
    """Compare the versions, and look for the GPUs that were chosen."""
    module = AnsibleModule(
        argument_spec={
            "python_min": {"type": "str", "default": "3.9"},
            "gpus": {"type": "raw", "default": []},
            "timeout_s": {"type": "int", "default": 20},
        },
        supports_check_mode=True,
    )
    wanted = module.params["python_min"]
    if not re.match(r"^\d+(\.\d+){0,2}$", wanted):
        module.fail_json(msg="preflight_node: python_min is %r, expected a version such as 3.9" % wanted)
    seen = platform.python_version()
    result = {"changed": False, "ping": "pong", "python_version": seen, "python": sys.executable}
    if tuple(sys.version_info[:3]) < tuple(int(part) for part in wanted.split(".")):
        module.fail_json(
            msg="%s is Python %s, expected at least %s: install one and set ansible_python_interpreter" % (sys.executable, seen, wanted),
            **result,
        )
    # Only now: what follows may need that Python.
    module.exit_json(gpus=gpu_choice.of_module(module), **result)


if __name__ == "__main__":
    main()
