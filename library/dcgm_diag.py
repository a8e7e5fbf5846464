#!/usr/bin/python
"""Ansible module: DCGM's own diagnostic of a node's GPUs, as one fact."""

from __future__ import annotations

DOCUMENTATION = r"""
module: dcgm_diag
short_description: Run DCGM's diagnostic and account for every test that it owes
description:
  - Runs C(dcgmi diag) at a level and returns one fact of kind C(health), name C(dcgm_diag). A bad verdict is a result, not a failure of
    the module.
  - A test that the level owes and that has no result, or is skipped for a reason that is not harmless, is no pass. Nor is a pass that
    comes with an error. NVIDIA/DCGM's issues 215, 272 and 284 are known, and named where they show.
  - Does not run beside anything that uses the GPUs, but for level 1, which does not load them.
options:
  level:
    description:
      - V(1) looks at the software and takes seconds, V(2) adds memory and PCIe (about two minutes), V(3) stress and bandwidth (about a
        quarter of an hour), V(4) tests of memory that take far longer.
    type: int
    choices: [1, 2, 3, 4]
    default: 1
  required:
    description: Whether a node without C(dcgmi) is C(incomplete) rather than C(skipped).
    type: bool
    default: false
  tool:
    description: Path of C(dcgmi); found in E(PATH) where it is not given. One that is given has to be there.
    type: path
  gpus:
    description: GPUs that are tested, as the variable C(plumbline_gpus) has them; empty for all. It takes a running host engine.
    type: raw
    default: []
  nvidia_smi:
    description: Path of C(nvidia-smi); found in E(PATH) where it is not given.
    type: path
  timeout_s:
    description:
      - Seconds until the diagnostic is told to stop; V(0) is 300, 900, 3600 or 14400, by the level.
    type: int
    default: 0
attributes:
  check_mode:
    support: full
    description: Nothing is run but questions; a reason with the check C(check_mode) says what would be.
  async:
    support: full
author: [Plumbline]
"""

EXAMPLES = r"""
- name: Test the GPUs for a quarter of an hour
  dcgm_diag:
    level: 3
    required: true
"""

RETURN = r"""
ansible_facts:
  description: The fact under C(plumbline.health); shape in C(docs/schema/health.schema.json).
  returned: always
  type: dict
fact:
  description: The same fact.
  returned: always
  type: dict
"""

import time

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.plumbline.core import marks
from ansible.module_utils.plumbline.health import dcgm_diag
from ansible.module_utils.plumbline.serving import lock


def who_serves(path=None, now=None):
    """Return who holds the lock for serving, in words; None where nobody does, or has not come back for long.

    Processes that serve are seen by the GPUs' memory: this is for the moments between two layouts.
    """
    try:
        holder = lock.holder_of(path or lock.path_of())
    except OSError:
        return None
    if not holder or holder.get("kept") or (time.time() if now is None else now) - float(holder["renewed"]) > lock.STALE_S:
        return None
    return lock.described(holder)


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "level": {"type": "int", "choices": [1, 2, 3, 4], "default": 1},
            "required": {"type": "bool", "default": False},
            "tool": {"type": "path"},
            "gpus": {"type": "raw", "default": []},
            "nvidia_smi": {"type": "path"},
            "timeout_s": {"type": "int", "default": 0},
        },
        supports_check_mode=True,
    )
    if module.params["timeout_s"] < 0:
        module.fail_json(msg="dcgm_diag: timeout_s is %d, expected seconds, or 0 for those of the level" % module.params["timeout_s"])
    found = dcgm_diag.measure(serving=who_serves(), check_mode=module.check_mode, **module.params)
    module.exit_json(changed=False, **found.result())


if __name__ == "__main__":
    marks.belong(marks.measuring())  # reset finds it, and what it started, when its connection is lost
    main()
