#!/usr/bin/python
"""Ansible module: a vLLM server for one layout, started and proved by a completion."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_server
short_description: start vLLM in one parallel layout and measure the start
description:
  - Starts C(vllm serve) on the head node of a layout and waits until it answers a real completion. C(/health) may say 200 after
    the workers died, so it is not asked.
  - Returns a C(startup) fact. A start that fails is a result, status C(failed) with the line of the log that says why.
  - Under Ray the cluster must have every expected node before the start, and afterwards the nodes that run the workers are named.
    In a native layout over several nodes M(vllm_worker) has started the others, and their connections to the head name them.
options:
  program: {description: "Path of the C(vllm) command, or its name in a container.", type: str, required: true}
  container: {description: Running container to start it in; empty for this machine itself., type: str, default: ""}
  layout:
    description: Keys name, tp, pp, nodes, executor (C(ray) or C(mp)) and optionally extra_args.
    type: dict
    required: true
  serve_id: {description: Id that marks every process of the serving run., type: str, required: true}
  model: {description: Folder of the model on the node., type: path, required: true}
  served_name: {description: Name under which the model is served., type: str, required: true}
  node_addresses:
    description: Addresses of the chosen nodes, the head first. Of one of the loopback Ray takes the machine's own address in its place.
    type: list
    elements: str
    required: true
  ranks:
    description: Which node and GPU each rank would take, as M(serve_node) saw them, for the fact.
    type: list
    elements: dict
    default: []
  reasons:
    description: What M(serve_node) said of the layout's nodes. A bad one prevents the start.
    type: list
    elements: dict
    default: []
  problems:
    description: What went wrong while the nodes were made ready, as sentences. One prevents the start.
    type: list
    elements: str
    default: []
  ray_port: {description: Port of Ray's control store on the head., type: int, default: 6379}
  port: {description: Port of the server., type: int, default: 8000}
  master_port: {description: "Port of torch.distributed's store, for native layouts over several nodes.", type: int, default: 29501}
  max_model_len: {description: Context length in tokens., type: int, default: 2048}
  dtype: {description: Data type of the weights., type: str, default: auto}
  extra_args: {description: More arguments for C(vllm serve)., type: list, elements: str, default: []}
  gpus: {description: "GPUs that it may use, as the variable C(plumbline_gpus) has them; empty for all.", type: raw, default: []}
  nvidia_smi: {description: "Path of nvidia-smi, which finds these; without it, wherever PATH has it.", type: path}
  env:
    description: Environment of the server. Its API key, here as E(VLLM_API_KEY) or in the arguments, is shown in the first completion.
    type: dict
    default: {}
  context: {description: "Noted in the fact, for example the image.", type: dict, default: {}}
  work_dir: {description: Folder for the log., type: path, required: true}
  timeout_s: {description: Seconds until the first completion must have been answered., type: int, default: 900}
author: [Plumbline]
"""

EXAMPLES = r"""
- name: Serve with two pipeline stages over two nodes
  vllm_server:
    program: /opt/plumbline/vllm/bin/vllm
    layout: {name: pp2_across, tp: 1, pp: 2, nodes: 2, executor: ray}
    serve_id: pp2_across
    model: /var/lib/plumbline/models/tiny-qwen2
    served_name: tiny-qwen2
    node_addresses: [10.98.0.11, 10.98.0.12]
    work_dir: /var/lib/plumbline/serve/pp2_across
"""

RETURN = r"""
fact: {description: The C(startup) fact; see docs/facts.md., type: dict, returned: always}
ready: {description: Whether the server answers completions., type: bool, returned: always}
"""

from ansible.module_utils.plumbline.core import marks
from ansible.module_utils.plumbline.core.module import AnsibleModule
from ansible.module_utils.plumbline.machine import gpu_choice, nvidia
from ansible.module_utils.plumbline.serving.command import LAYOUT_KEYS, printable
from ansible.module_utils.plumbline.serving.startup import Start


def chosen_gpus(args):
    """Return the GPUs that the server may use; a choice that cannot be kept (a GPU that is gone by now) is one of the ``problems``."""
    try:
        return gpu_choice.look_only_at(args["gpus"], args["nvidia_smi"])
    except (gpu_choice.WrongChoice, nvidia.NvidiaError) as error:
        if not any(str(error) in problem for problem in args["problems"]):
            args["problems"].append(str(error))
        return []


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "program": {"type": "str", "required": True},
            "container": {"type": "str", "default": ""},
            "layout": {"type": "dict", "required": True},
            "serve_id": {"type": "str", "required": True},
            "model": {"type": "path", "required": True},
            "served_name": {"type": "str", "required": True},
            "node_addresses": {"type": "list", "elements": "str", "required": True},
            "reasons": {"type": "list", "elements": "dict", "default": []},
            "ranks": {"type": "list", "elements": "dict", "default": []},
            "problems": {"type": "list", "elements": "str", "default": []},
            "ray_port": {"type": "int", "default": 6379},
            "port": {"type": "int", "default": 8000},
            "master_port": {"type": "int", "default": 29501},
            "max_model_len": {"type": "int", "default": 2048},
            "dtype": {"type": "str", "default": "auto"},
            "extra_args": {"type": "list", "elements": "str", "default": []},
            "gpus": {"type": "raw", "default": []},
            "nvidia_smi": {"type": "path"},
            "env": {"type": "dict", "default": {}},
            "context": {"type": "dict", "default": {}},
            "work_dir": {"type": "path", "required": True},
            "timeout_s": {"type": "int", "default": 900},
        },
        supports_check_mode=True,
    )
    layout = module.params["layout"]
    unknown = set(layout) - LAYOUT_KEYS
    missing = {"name", "tp", "pp", "nodes", "executor"} - set(layout)
    if unknown or missing:
        module.fail_json(msg="layout %r: unknown keys %s, missing keys %s" % (layout, sorted(unknown), sorted(missing)))
    chosen = chosen_gpus(module.params)
    try:
        start = Start(module.params, chosen)
    except ValueError as error:
        module.fail_json(msg=str(error))
    if module.check_mode:
        start.measurement.add("check_mode", "skipped", "would start: %s" % printable(start.argv))
        module.exit_json(changed=True, ready=False, **start.measurement.result())
    ready = start.run()
    module.exit_json(changed=start.launched, ready=ready, **start.measurement.result())


if __name__ == "__main__":
    marks.belong(marks.measuring())  # reset finds it, and what it started, when its connection is lost
    main()
