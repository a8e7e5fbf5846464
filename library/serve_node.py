#!/usr/bin/python
"""Ansible module: whether one node is ready to take its part in a layout."""

from __future__ import annotations

DOCUMENTATION = r"""
module: serve_node
short_description: check a node before a layout is started on it
description:
  - "Looks, and changes nothing: enough GPUs and none in use, an address that the others reach,
    the ports free, the model complete by its manifest, vLLM (and Ray, for the
    executor C(ray)) there, weights and one request small enough for a GPU by the model's own config."
  - Returns reasons for M(vllm_server), which puts them into the C(startup) fact of the layout and does not start it when one is bad.
options:
  layout:
    description: Keys name, tp, pp, nodes, executor and optionally extra_args.
    type: dict
    required: true
  program: {description: "Path of the C(vllm) command, or its name in a container.", type: str, required: true}
  container: {description: Running container to look into; empty for this machine itself., type: str, default: ""}
  node_ip: {description: This node's address as the other nodes reach it., type: str, required: true}
  ports: {description: "Ports that must be free here, by the name of their variable without C(vllm_serve_).", type: dict, default: {}}
  model: {description: Folder of the model on the node., type: path, required: true}
  require_manifest: {description: Whether a model without a manifest is refused., type: bool, default: true}
  max_model_len: {description: Context length in tokens., type: int, default: 2048}
  dtype: {description: Data type of the weights., type: str, default: auto}
  extra_args: {description: "More arguments for C(vllm serve), before those of the layout.", type: list, elements: str, default: []}
  gpus: {description: "GPUs that it may use, as the variable C(plumbline_gpus) has them; empty for all.", type: raw, default: []}
  env: {description: "Environment of the server, for C(VLLM_PP_LAYER_PARTITION).", type: dict, default: {}}
  gpu_idle_mib: {description: MiB that may be in use on a GPU that counts as free., type: int, default: 1024}
  nvidia_smi: {description: "Path of nvidia-smi; without it, wherever PATH has it.", type: path}
author: [Plumbline]
"""

EXAMPLES = r"""
- name: Check the head
  serve_node:
    layout: {name: b_tp8, tp: 8, pp: 1, nodes: 1, executor: mp}
    program: vllm
    container: plumbline-b_tp8
    node_ip: 10.0.0.4
    ports: {port: 8000}
    model: /var/lib/plumbline/models/Qwen2.5-72B
"""

RETURN = r"""
reasons: {description: "What was seen, as the reasons of a fact; each names the node.", type: list, elements: dict, returned: always}
node:
  description: What the node has.
  type: dict
  returned: always
  contains:
    address: {description: The node's address., type: str}
    gpus: {description: "GPUs that it may use, by index with UUID and memory in MiB, in the order of the ranks.", type: list}
    ranks: {description: "GPUs that the ranks take here, with C(index) and C(uuid); empty without a GPU.", type: list}
    versions: {description: "Versions of vllm and ray, null where there is none.", type: dict}
    memory: {description: "The memory arithmetic, null where there is none.", type: dict}
"""

import json
import subprocess

from ansible.module_utils.plumbline.core.module import AnsibleModule
from ansible.module_utils.plumbline.machine import gpu_choice
from ansible.module_utils.plumbline.model import config as served_model
from ansible.module_utils.plumbline.serving import checks as serve_checks
from ansible.module_utils.plumbline.serving.command import checked_layout
from ansible.module_utils.plumbline.serving.runtime import Runtime

# Reads names and versions only: importing vLLM takes seconds.
VERSIONS = r"""
import importlib.metadata as metadata, json
found = {}
for name in ("vllm", "ray"):
    try:
        found[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
        found[name] = None
print("PLUMBLINE " + json.dumps(found))
"""


def versions(runtime, program):
    """Return ``{"vllm": version or None, "ray": version or None}`` of the Python beside the program; {} when it does not answer."""
    try:
        done = runtime.run([runtime.python_beside(program), "-c", VERSIONS])
    except (OSError, subprocess.TimeoutExpired):
        return {}
    for line in done.stdout.splitlines():
        if line.startswith("PLUMBLINE "):
            return json.loads(line[len("PLUMBLINE ") :])
    return {}


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "layout": {"type": "dict", "required": True},
            "program": {"type": "str", "required": True},
            "container": {"type": "str", "default": ""},
            "node_ip": {"type": "str", "required": True},
            "ports": {"type": "dict", "default": {}},
            "model": {"type": "path", "required": True},
            "require_manifest": {"type": "bool", "default": True},
            "max_model_len": {"type": "int", "default": 2048},
            "dtype": {"type": "str", "default": "auto"},
            "extra_args": {"type": "list", "elements": "str", "default": []},
            "gpus": {"type": "raw", "default": []},
            "env": {"type": "dict", "default": {}},
            "gpu_idle_mib": {"type": "int", "default": 1024},
            "nvidia_smi": {"type": "path"},
        },
        supports_check_mode=True,
    )
    args = module.params
    try:
        layout = checked_layout(args["layout"])
    except ValueError as error:
        module.fail_json(msg=str(error))
    runtime = Runtime(args["container"])
    chosen = gpu_choice.of_module(module)
    reasons, gpus = serve_checks.gpu_reasons(args["nvidia_smi"], layout, args["gpu_idle_mib"], chosen)
    reasons += serve_checks.check_choice(chosen, args["env"]) + serve_checks.check_address(args["node_ip"], layout)
    reasons += serve_checks.check_ports(args["node_ip"], {name: int(port) for name, port in args["ports"].items()})
    reasons += serve_checks.check_model(args["model"], args["require_manifest"])
    try:
        there = runtime.has_program(args["program"])
    except (OSError, subprocess.TimeoutExpired) as error:
        module.fail_json(msg="cannot look for %s: %s" % (args["program"], error))
    seen = versions(runtime, args["program"]) if there else {}
    found, memory = serve_checks.check_memory(
        gpus,
        served_model.config_of(args["model"]),
        layout,
        args["dtype"],
        args["max_model_len"],
        args["extra_args"],
        seen.get("vllm"),
        args["env"],
    )
    reasons += found
    reasons += serve_checks.check_programs(there, seen, layout["executor"], bool(args["container"]))
    for item in reasons:
        item["seen"] = "%s: %s" % (args["node_ip"], item["seen"])
    node = {"address": args["node_ip"], "gpus": gpus, "ranks": serve_checks.ranks_of(gpus, layout), "versions": seen, "memory": memory}
    module.exit_json(changed=False, reasons=reasons, node=node)


if __name__ == "__main__":
    main()
