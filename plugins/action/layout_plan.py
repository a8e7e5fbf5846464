"""Action plugin: what the tasks that serve one layout are told, worked out on the controller."""

from __future__ import annotations

DOCUMENTATION = r"""
module: layout_plan
short_description: work out what the tasks of one serving layout need
description:
  - Runs on the controller and touches no node. Which node takes which part, with which program, container, environment, mounts and ports.
  - The variables of the role and the layout that may hold tokens (C(env)) are no part of it, since Ansible prints what it registers.
options:
  layout: {description: "Keys name, tp, pp, nodes and executor.", type: dict, required: true}
  hosts: {description: "Inventory names of the usable nodes, the head first.", type: list, elements: str, required: true}
  runtime: {description: "V(host) for a virtual environment, V(docker) for containers.", type: str, choices: [host, docker], required: true}
  venv: {description: Virtual environment with vLLM on the nodes., type: str, required: true}
  image: {description: The image's name., type: str, default: ""}
  image_infos:
    description: What M(container_image) returned on each of O(hosts), in their order; empty where nobody asked.
    type: list
    elements: dict
    default: []
  gpus: {description: Whether containers get the node's GPUs., type: bool, default: true}
  node_gpus:
    description: The variable C(plumbline_gpus) by node, the GPUs that it may use; a node that is left out may use all.
    type: dict
    default: {}
  volumes: {description: More volumes for the containers., type: list, elements: str, default: []}
  model: {description: Folder of the model on the nodes., type: str, required: true}
  topology_file: {description: NCCL's topology file on the nodes; empty for none., type: str, default: ""}
  work_dir: {description: Folder of all layouts' logs., type: str, required: true}
  cache_dir: {description: Folder of compiled graphs., type: str, required: true}
  port: {description: Port of the server., type: int, required: true}
  ray_port: {description: Port of Ray's control store., type: int, required: true}
  master_port: {description: Port of torch.distributed's store., type: int, required: true}
author: [Plumbline]
"""

EXAMPLES = r"""
- name: Plan the layout
  layout_plan:
    layout: {name: pp2_across, tp: 1, pp: 2, nodes: 2, executor: ray}
    hosts: [node1, node2]
    runtime: host
    venv: /opt/plumbline/vllm
    model: /var/lib/plumbline/models/tiny-qwen2
    work_dir: /var/lib/plumbline/serve
    cache_dir: /var/lib/plumbline/vllm-cache
    port: 8000
    ray_port: 6379
    master_port: 29501
  register: __vllm_serve_plan
"""

RETURN = r"""
began_s: {description: "When the layout's turn began, in seconds since the epoch.", type: float, returned: always}
program: {description: "Path of C(vllm), or its name in the image.", type: str, returned: always}
ray_program: {description: "Path of C(ray), or its name in the image.", type: str, returned: always}
container: {description: "Name of the layout's container, empty without one.", type: str, returned: always}
hosts: {description: "The layout's nodes, the head first; empty when there are too few.", type: list, elements: str, returned: always}
container_hosts: {description: Those that get a container., type: list, elements: str, returned: always}
ray_hosts: {description: Those that get a Ray node., type: list, elements: str, returned: always}
worker_hosts: {description: Those that serve headless., type: list, elements: str, returned: always}
slots: {description: Ranks on each node., type: int, returned: always}
ports: {description: "Ports that the head must have free, by the end of their variables' names.", type: dict, returned: always}
env: {description: "Environment of every program, under the variables of role and layout.", type: dict, returned: always}
volumes: {description: Volumes of the containers., type: list, elements: str, returned: always}
mounts: {description: Mounts of what must be there already., type: list, elements: dict, returned: always}
device_requests: {description: GPUs of the containers., type: list, elements: dict, returned: always}
chosen_device_requests: {description: "Those of nodes with a choice of GPUs, by node.", type: dict, returned: always}
gpus: {description: "GPUs that each node may use, by node; empty for all.", type: dict, returned: always}
gpu_problems: {description: "What is wrong with that choice, as sentences.", type: list, elements: str, returned: always}
context: {description: What the startup fact notes of the image., type: dict, returned: always}
image_problems: {description: "What is wrong with the image, as sentences.", type: list, elements: str, returned: always}
image_ids: {description: "The image's id on each node that gets a container, by node.", type: dict, returned: always}
image_reasons: {description: "What the nodes saw of it, as the reasons of a fact.", type: list, elements: dict, returned: always}
image_failed: {description: Nodes that have no image to make a container of., type: list, elements: str, returned: always}
layout_dir: {description: Folder of the layout's logs on each node., type: str, returned: always}
"""


import time

from ansible.module_utils.plumbline.controller import layout
from ansible.module_utils.plumbline.controller.action import ControllerAction


class ActionModule(ControllerAction):
    """The action behind ``layout_plan:``."""

    ARGUMENTS = {
        "layout": {"type": "dict", "required": True},
        "hosts": {"type": "list", "elements": "str", "required": True},
        "runtime": {"type": "str", "choices": ["host", "docker"], "required": True},
        "venv": {"type": "str", "required": True},
        "image": {"type": "str", "default": ""},
        "image_infos": {"type": "list", "elements": "dict", "default": []},
        "gpus": {"type": "bool", "default": True},
        "node_gpus": {"type": "dict", "default": {}},
        "volumes": {"type": "list", "elements": "str", "default": []},
        "model": {"type": "str", "required": True},
        "topology_file": {"type": "str", "default": ""},
        "work_dir": {"type": "str", "required": True},
        "cache_dir": {"type": "str", "required": True},
        "port": {"type": "int", "required": True},
        "ray_port": {"type": "int", "required": True},
        "master_port": {"type": "int", "required": True},
    }

    def answer(self, arguments, task_vars):
        """Return the plan."""
        return dict(layout.plan(arguments), began_s=time.time(), changed=False)
