#!/usr/bin/python
"""Ansible module: no process of a serving run is left on the node."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_processes
short_description: end every vLLM and Ray process of a serving run on this node
description:
  - Finds the processes by the mark in their environment, so that children that were re-parented or renamed are found and nobody
    else's vLLM or Ray is touched. With the last process the run's placement groups and Ray cluster are gone too.
options:
  serve_id: {description: End this run only; without it all of Plumbline's., type: str}
  grace_s: {description: Seconds between SIGTERM and SIGKILL., type: int, default: 10}
author: [Plumbline]
"""

EXAMPLES = r"""
- name: Leave no serving process behind
  vllm_processes:
"""

RETURN = r"""
ended:
  description: What was ended (in check mode, what would be).
  type: list
  elements: dict
  returned: always
  contains:
    pid: {description: Process id., type: int}
    command: {description: Start of its command line., type: str}
"""

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.plumbline import processes


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={"serve_id": {"type": "str"}, "grace_s": {"type": "int", "default": 10}},
        supports_check_mode=True,
    )
    serve_id = module.params["serve_id"]
    try:
        if module.check_mode:
            ended = [(pid, processes.command_of(pid)) for pid in processes.marked(serve_id)]
        else:
            ended = processes.stop(serve_id, module.params["grace_s"])
    except RuntimeError as error:
        module.fail_json(msg="%s. A process in an uninterruptible wait needs its device or disk back first." % error)
    module.exit_json(changed=bool(ended), ended=[{"pid": pid, "command": command} for pid, command in ended])


if __name__ == "__main__":
    main()
