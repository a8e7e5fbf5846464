#!/usr/bin/python
"""Ansible module: one headless vLLM node of a layout that spans nodes without Ray."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_worker
short_description: start the headless part of a native multi-node layout on a node that is not its head
description:
  - Starts C(vllm serve --headless --node-rank N) detached, marked with the serving run's id. It waits there for the head, which
    M(vllm_server) starts, so this module does not wait for anything but the process itself.
  - The end of a serving run is M(vllm_processes).
options:
  program: {description: Path of the C(vllm) command., type: path, required: true}
  layout:
    description: Keys name, tp, pp, nodes, executor (C(mp)) and optionally extra_args.
    type: dict
    required: true
  serve_id: {description: Id that marks every process of the serving run., type: str, required: true}
  rank: {description: "This node's place in the layout, from 1; 0 is the head.", type: int, required: true}
  model: {description: Folder of the model on the node., type: path, required: true}
  served_name: {description: Name under which the model is served., type: str, required: true}
  head_address: {description: Address of the head node., type: str, required: true}
  node_ip: {description: This node's address as the other nodes reach it., type: str, required: true}
  port: {description: Port of the server on the head., type: int, default: 8000}
  master_port: {description: Port of torch.distributed's store on the head., type: int, default: 29501}
  max_model_len: {description: Context length in tokens., type: int, default: 2048}
  dtype: {description: Data type of the weights., type: str, default: auto}
  extra_args: {description: More arguments for C(vllm serve)., type: list, elements: str, default: []}
  gpus: {description: "GPUs that it may use, as the variable C(plumbline_gpus) has them; empty for all.", type: raw, default: []}
  nvidia_smi: {description: "Path of nvidia-smi, which finds these; without it, wherever PATH has it.", type: path}
  env: {description: Environment of the process., type: dict, default: {}}
  container: {description: Running container to start it in; empty for this machine itself., type: str, default: ""}
  work_dir: {description: Folder for the log., type: path, required: true}
author: [Plumbline]
"""

EXAMPLES = r"""
- name: Start the second node of two
  vllm_worker:
    program: /opt/plumbline/vllm/bin/vllm
    layout: {name: pp2_native, tp: 1, pp: 2, nodes: 2, executor: mp}
    serve_id: pp2_native
    rank: 1
    model: /var/lib/plumbline/models/tiny-qwen2
    served_name: tiny-qwen2
    head_address: 10.98.0.11
    node_ip: 10.98.0.12
    work_dir: /var/lib/plumbline/serve/pp2_native
"""

RETURN = r"""
pid: {description: Process id as the node counts., type: int, returned: when started}
command: {description: The command., type: str, returned: always}
log: {description: Path of the log on the node., type: str, returned: always}
"""

import os

from ansible.module_utils.plumbline.core.module import AnsibleModule
from ansible.module_utils.plumbline.machine import gpu_choice, net
from ansible.module_utils.plumbline.serving.cause import told
from ansible.module_utils.plumbline.serving.command import AddressUnknown, serve_argv
from ansible.module_utils.plumbline.serving.launch import FIRST_MOMENTS_S, LaunchError, Program


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "program": {"type": "path", "required": True},
            "layout": {"type": "dict", "required": True},
            "serve_id": {"type": "str", "required": True},
            "rank": {"type": "int", "required": True},
            "model": {"type": "path", "required": True},
            "served_name": {"type": "str", "required": True},
            "head_address": {"type": "str", "required": True},
            "node_ip": {"type": "str", "required": True},
            "port": {"type": "int", "default": 8000},
            "master_port": {"type": "int", "default": 29501},
            "max_model_len": {"type": "int", "default": 2048},
            "dtype": {"type": "str", "default": "auto"},
            "extra_args": {"type": "list", "elements": "str", "default": []},
            "gpus": {"type": "raw", "default": []},
            "nvidia_smi": {"type": "path"},
            "env": {"type": "dict", "default": {}},
            "container": {"type": "str", "default": ""},
            "work_dir": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    args = module.params
    if args["rank"] < 1:
        module.fail_json(msg="rank is %d, expected 1 or more: vllm_server starts the head" % args["rank"])
    chosen = gpu_choice.of_module(module)
    argv = serve_argv(
        args["program"], args["layout"], args["model"], args["served_name"], args["head_address"], args["port"],
        args["max_model_len"], args["dtype"], args["extra_args"], args["rank"], args["master_port"],
    )  # fmt: skip
    log = os.path.join(args["work_dir"], "worker-%d.log" % args["rank"])
    try:
        worker = Program(argv, args["env"], net.numeric(args["node_ip"]), log, args["container"], chosen)
    except AddressUnknown as error:
        module.fail_json(msg=str(error))
    result = {"command": worker.command, "log": log, "changed": True}
    if module.check_mode:
        module.exit_json(**result)
    try:
        worker.start(args["serve_id"])
    except LaunchError as error:
        module.fail_json(msg="vLLM cannot be started: %s" % error, **result)
    for _elapsed_s in worker.moments(FIRST_MOMENTS_S, every_s=0.2):
        pass  # what ends now was never going to serve
    if not worker.is_running():
        cause, remedy = told(worker.causes())
        what_to_do = "; %s" % remedy if remedy else ""
        module.fail_json(msg="vLLM ended at once: %s%s (log: %s)" % (cause or "it ended without saying why", what_to_do, log), **result)
    module.exit_json(pid=worker.pid, **result)


if __name__ == "__main__":
    main()
