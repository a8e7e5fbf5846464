#!/usr/bin/python
"""Ansible module: one node of a Ray cluster, present or absent."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ray_node
short_description: start or stop the Ray node that vLLM's workers run in
description:
  - Starts C(ray start --block) detached, marked with the serving run's id, and waits until the raylet listens.
  - Idempotent, a node that already runs under the same id and address is left alone.
  - The end of a serving run is M(vllm_processes), which ends Ray together with everything else of the run.
options:
  program: {description: Path of the C(ray) command., type: path, required: true}
  role: {description: Head or worker., type: str, choices: [head, worker], required: true}
  serve_id: {description: Id that marks every process of the serving run., type: str, required: true}
  head_address: {description: Address of the head node., type: str, required: true}
  node_ip:
    description: This node's address as the other nodes reach it. For one of the loopback the machine's own is taken, as Ray does.
    type: str
    required: true
  port: {description: Port of the head's control store., type: int, default: 6379}
  slots: {description: How many ranks may run on this node., type: int, required: true}
  memory_bytes: {description: Memory that Ray may schedule; without it each raylet claims all of the machine., type: int, required: true}
  object_store_bytes: {description: Size of Ray's shared-memory object store., type: int, required: true}
  gpus: {description: "GPUs that it may use, as the variable C(plumbline_gpus) has them; empty for all.", type: raw, default: []}
  nvidia_smi: {description: "Path of nvidia-smi, which finds these; without it, wherever PATH has it.", type: path}
  env: {description: Environment for Ray and the workers it starts., type: dict, default: {}}
  container: {description: Running container to start Ray in; empty for this machine itself., type: str, default: ""}
  work_dir: {description: Folder for the log., type: path, required: true}
  timeout_s: {description: Seconds to wait for the raylet., type: int, default: 60}
author: [Plumbline]
"""

EXAMPLES = r"""
- name: Start the head of the Ray cluster
  ray_node:
    program: /opt/plumbline/vllm/bin/ray
    role: head
    serve_id: pp2_across
    head_address: 10.98.0.11
    node_ip: 10.98.0.11
    slots: 1
    memory_bytes: 2147483648
    object_store_bytes: 134217728
    work_dir: /var/lib/plumbline/serve/pp2_across
"""

RETURN = r"""
pid: {description: Process id of C(ray start --block)., type: int, returned: when running}
address: {description: The address under which this node is in the cluster., type: str, returned: always}
command: {description: The command., type: str, returned: always}
log: {description: Path of the log on the node., type: str, returned: always}
started: {description: Whether the node is up., type: bool, returned: always}
"""

import os
import socket

from ansible.module_utils.plumbline.core import processes
from ansible.module_utils.plumbline.core.module import AnsibleModule
from ansible.module_utils.plumbline.machine import gpu_choice, net
from ansible.module_utils.plumbline.serving.cause import told
from ansible.module_utils.plumbline.serving.command import AddressUnknown, ray_argv
from ansible.module_utils.plumbline.serving.launch import LaunchError, Program


def raylet_of(serve_id):
    """Return the pid of the marked raylet, or None."""
    for pid in processes.marked(serve_id):
        if processes.command_of(pid).split(" ")[0].endswith("raylet"):
            return pid
    return None


def reachable(address, port):
    """Tell whether something accepts connections at ``address:port``."""
    try:
        with socket.create_connection((address, port), timeout=2):
            return True
    except OSError:
        return False


def head_address(args):
    """Return the head's address as a number; on the head itself that is its own."""
    return net.own_address(args["head_address"]) if args["role"] == "head" else net.numeric(args["head_address"])


def why(ray):
    """Return the causes that Ray's log knows, with what to do; its last words where it knows none."""
    seen, remedy = told(ray.causes())
    return "%s%s" % (seen, "; " + remedy if remedy else "") if seen else ray.last_words()


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "program": {"type": "path", "required": True},
            "role": {"type": "str", "choices": ["head", "worker"], "required": True},
            "serve_id": {"type": "str", "required": True},
            "head_address": {"type": "str", "required": True},
            "node_ip": {"type": "str", "required": True},
            "port": {"type": "int", "default": 6379},
            "slots": {"type": "int", "required": True},
            "memory_bytes": {"type": "int", "required": True},
            "object_store_bytes": {"type": "int", "required": True},
            "gpus": {"type": "raw", "default": []},
            "nvidia_smi": {"type": "path"},
            "env": {"type": "dict", "default": {}},
            "container": {"type": "str", "default": ""},
            "work_dir": {"type": "path", "required": True},
            "timeout_s": {"type": "int", "default": 60},
        },
        supports_check_mode=True,
    )
    args = module.params
    given = args["node_ip"]
    args["node_ip"], args["head_address"] = net.own_address(args["node_ip"]), head_address(args)
    chosen = gpu_choice.of_module(module)
    argv = ray_argv(
        args["program"], args["role"], args["head_address"], args["node_ip"], args["port"], args["slots"],
        args["memory_bytes"], args["object_store_bytes"],
    )  # fmt: skip
    log = os.path.join(args["work_dir"], "ray-%s.log" % args["role"])
    try:
        ray = Program(argv, args["env"], args["node_ip"], log, args["container"], chosen)
    except AddressUnknown as error:
        module.fail_json(msg=str(error))
    result = {"address": args["node_ip"], "command": ray.command, "log": log, "started": False, "changed": False}

    if raylet_of(args["serve_id"]):
        module.exit_json(**dict(result, started=True, pid=processes.marked(args["serve_id"])[0]))
    if module.check_mode:
        module.exit_json(**dict(result, changed=True))
    try:
        ray.start(args["serve_id"])
    except LaunchError as error:
        module.fail_json(msg="Ray cannot be started: %s" % error, **result)
    for _elapsed_s in ray.moments(args["timeout_s"], every_s=0.3):
        if raylet_of(args["serve_id"]) and reachable(args["head_address"], args["port"]):
            module.exit_json(**dict(result, started=True, changed=True, pid=ray.pid))
    if not ray.is_running():
        module.fail_json(msg="Ray ended while starting: %s" % why(ray), **result)
    where = "%s on %s" % (args["role"], given)
    module.fail_json(msg="Ray %s was not up after %d s: %s" % (where, args["timeout_s"], why(ray)), **result)


if __name__ == "__main__":
    main()
