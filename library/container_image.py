#!/usr/bin/python
"""Ansible module: bring the image of a serving run to this node's engine, and prove that it is the one asked for."""

from __future__ import annotations

DOCUMENTATION = r"""
module: container_image
short_description: bring a container image to this node and verify it
description:
  - Asks the node's engine over its socket, looks whether it can give a container GPUs where some will be asked for, has it pull the
    image if it is not there, and compares the digest of what is there with the one in O(image).
  - While a pull lasts it writes bytes, rate and time left to O(progress), which the action plugin of this name shows.
  - What is wrong is named with what to do. Registry down, unknown digest, no right to pull, no trust in the certificate, plain HTTP, disk
    full, no engine and no toolkit are told apart by the engine's words.
options:
  image:
    description: "registry/name@sha256:..., or an id (C(sha256:...)) that is on the node. With a tag it is not pinned, which is said."
    type: str
    required: true
  pull: {description: When to pull., type: str, choices: [missing, always, never], default: missing}
  gpus: {description: Whether containers will ask for GPUs., type: bool, default: true}
  handed_on_by:
    description: A node that would hand the image on, were this not check mode; a node without the image is told so, and not failed.
    type: str
    default: ""
  timeout_s: {description: Seconds for a pull., type: int, default: 7200}
  idle_s: {description: Seconds that the engine may say nothing during a pull., type: int, default: 600}
  socket:
    description: The engine's socket. Without one that of E(DOCKER_HOST), where it is C(unix://...), else C(/var/run/docker.sock).
    type: path
  config: {description: "Where C(docker login) left the registry's password.", type: path, default: /root/.docker/config.json}
  progress: {description: File for the line of progress., type: path, default: /run/plumbline-image.progress}
attributes:
  check_mode:
    support: full
    description: Says what would be pulled. The registry is not asked.
author: [Plumbline]
"""

EXAMPLES = r"""
- name: Bring the image
  container_image:
    image: docker.io/vllm/vllm-openai@sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
  async: 7500
  poll: 0
"""

RETURN = r"""
reasons: {description: "What was seen, as the reasons of a fact; also when it failed.", type: list, elements: dict, returned: always}
images:
  description: The image as the engine knows it, in a list that is empty without one.
  type: list
  elements: dict
  returned: always
  contains:
    Id: {description: Its id., type: str}
    RepoDigests: {description: What registries call it., type: list}
    Size: {description: Bytes on disk., type: int}
engine: {description: Whether the engine answered., type: bool, returned: always}
pulled: {description: "C(bytes) over the network, C(seconds) and C(retries); empty when nothing was pulled.", type: dict, returned: always}
"""

from ansible.module_utils.plumbline.core import marks
from ansible.module_utils.plumbline.core.module import AnsibleModule
from ansible.module_utils.plumbline.serving.image.bring import Bring
from ansible.module_utils.plumbline.serving.image.engine import PROGRESS, Engine, socket_of


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "image": {"type": "str", "required": True},
            "pull": {"type": "str", "choices": ["missing", "always", "never"], "default": "missing"},
            "gpus": {"type": "bool", "default": True},
            "handed_on_by": {"type": "str", "default": ""},
            "timeout_s": {"type": "int", "default": 7200},
            "idle_s": {"type": "int", "default": 600},
            "socket": {"type": "path"},
            "config": {"type": "path", "default": "/root/.docker/config.json"},
            "progress": {"type": "path", "default": PROGRESS},
        },
        supports_check_mode=True,
    )
    bring = Bring(module.params, Engine(socket_of(module.params["socket"])))
    bring.run(module.check_mode)
    keys = ("Id", "RepoDigests", "Size")
    images = [{key: bring.image.get(key) for key in keys}] if bring.image else []
    answered = not any(item["check"] == "serve.engine" and item["status"] == "failed" for item in bring.reasons)
    module.end(bring.reasons, changed=bring.changed, images=images, engine=answered, pulled=bring.pulled)


if __name__ == "__main__":
    marks.belong(marks.measuring())  # reset finds it when its connection is lost; the engine ends a pull with the connection of who asked
    main()
