#!/usr/bin/python
"""Ansible module: what layouts would ask of this node's GPUs, for the prediction of what they take."""

from __future__ import annotations

DOCUMENTATION = r"""
module: layout_prediction
short_description: predict what a token takes in each layout, before any is served
description:
  - "On the node it looks, and starts nothing: the model's C(config.json), the GPUs' names and memory, whether weights and one request fit."
  - On the controller the action plugin of this name adds what the run has measured so far (read rates of GPUs, all-reduces), and returns
    one fact of kind C(prediction) for each layout. It is kept before the layout is served, so that it is no word made afterwards.
  - Of what its model does not cover (no GPU, other GPUs, quantized weights, drafters, several requests at a time) it says that, and no
    number.
options:
  layouts:
    description: Keys name, tp, pp, nodes, executor and optionally extra_args and env of each.
    type: list
    elements: dict
    required: true
  model: {description: Folder of the model on the node., type: path, required: true}
  max_model_len: {description: Context length in tokens., type: int, default: 2048}
  dtype: {description: Data type of the weights., type: str, default: auto}
  extra_args: {description: "More arguments for C(vllm serve), before those of the layout.", type: list, elements: str, default: []}
  env: {description: "Environment of the server, for C(VLLM_PP_LAYER_PARTITION).", type: dict, default: {}}
  gpus: {description: "GPUs that it may use, as the variable C(plumbline_gpus) has them; empty for all.", type: raw, default: []}
  hosts: {description: "Inventory names of the nodes that may serve, the head first.", type: list, elements: str, default: []}
  concurrency: {description: Requests at a time of the benchmark., type: int, default: 1}
  input_len: {description: Tokens of a prompt., type: int, default: 57}
  output_len: {description: Tokens of an answer., type: int, default: 512}
  hbm_read_gbps:
    description: Rate in 10⁹ bytes/s at which one GPU reads its memory; V(0) takes what was measured, or what is known of its name.
    type: float
    default: 0
  hbm_read_known: {description: "Known rates by GPU, C({name: {hbm_read_gbps, source}}).", type: dict, default: {}}
  nvidia_smi: {description: "Path of nvidia-smi; without it, wherever PATH has it.", type: path}
author: [Plumbline]
"""

EXAMPLES = r"""
- name: Foretell what each layout takes
  layout_prediction:
    layouts:
      - {name: b_tp8, tp: 8, pp: 1, nodes: 1, executor: mp}
    model: /var/lib/plumbline/models/Qwen2.5-72B
    dtype: float16
"""

RETURN = r"""
asked:
  description: What each layout would ask of this node, with C(fit), a reason of a fact, and C(against), why nothing can be predicted.
  type: list
  elements: dict
  returned: always
plumbline_facts:
  description: By the action plugin, the facts under the host; shape in C(docs/schema/prediction.schema.json).
  type: dict
  returned: always
"""

from ansible.module_utils.plumbline.core.module import AnsibleModule
from ansible.module_utils.plumbline.machine import gpu_choice, gpu_memory, nvidia
from ansible.module_utils.plumbline.serving import asked


def gpus_of(tool):
    """Return this node's GPUs, [] without one, None where the driver does not answer."""
    try:
        return gpu_memory.read(tool)
    except nvidia.NvidiaError:
        return None


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "layouts": {"type": "list", "elements": "dict", "required": True},
            "model": {"type": "path", "required": True},
            "max_model_len": {"type": "int", "default": 2048},
            "dtype": {"type": "str", "default": "auto"},
            "extra_args": {"type": "list", "elements": "str", "default": []},
            "env": {"type": "dict", "default": {}},
            "gpus": {"type": "raw", "default": []},
            "hosts": {"type": "list", "elements": "str", "default": []},
            "concurrency": {"type": "int", "default": 1},
            "input_len": {"type": "int", "default": 57},
            "output_len": {"type": "int", "default": 512},
            "hbm_read_gbps": {"type": "float", "default": 0},
            "hbm_read_known": {"type": "dict", "default": {}},
            "nvidia_smi": {"type": "path"},
        },
        supports_check_mode=True,
    )
    args = module.params
    gpu_choice.of_module(module)
    gpus = gpus_of(args["nvidia_smi"])
    served = (args["model"], gpus, args["dtype"], args["max_model_len"], args["extra_args"], args["env"])
    try:
        found = [asked.asked(layout, *served) for layout in args["layouts"]]
    except ValueError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=False, asked=found)


if __name__ == "__main__":
    main()
