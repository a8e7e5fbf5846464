#!/usr/bin/python
"""Ansible module: write an image of this node's engine to a file, or have the engine take one from a file."""

from __future__ import annotations

DOCUMENTATION = r"""
module: container_archive
short_description: hand a container image from one node's engine to another's by a file
description:
  - C(docker save) and C(docker load) over the engine's socket, with progress. What was taken is proved by the image's id, which is a
    digest over all of it.
options:
  image: {description: The image's id., type: str, required: true}
  path: {description: The file., type: path, required: true}
  state:
    description: V(exported) writes the file unless it is there; V(loaded) takes it unless the engine has the image.
    type: str
    choices: [exported, loaded]
    required: true
  timeout_s: {description: Seconds for it., type: int, default: 7200}
  socket:
    description: The engine's socket. Without one that of E(DOCKER_HOST), where it is C(unix://...), else C(/var/run/docker.sock).
    type: path
  progress: {description: File for the line of progress., type: path, default: /run/plumbline-image.progress}
attributes:
  check_mode:
    support: full
author: [Plumbline]
"""

EXAMPLES = r"""
- name: Take the image from the head
  container_archive:
    image: sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef
    path: /var/lib/plumbline/images/0123456789ab/image.tar
    state: loaded
"""

RETURN = r"""
reasons: {description: "What was seen, as the reasons of a fact; also when it failed.", type: list, elements: dict, returned: always}
id: {description: "The image's id; empty where the engine has none.", type: str, returned: always}
moved: {description: "C(bytes) of the file and C(seconds); empty when there was nothing to do.", type: dict, returned: always}
"""

from ansible.module_utils.plumbline.core import marks
from ansible.module_utils.plumbline.core.module import AnsibleModule
from ansible.module_utils.plumbline.serving.image.archive import Archive
from ansible.module_utils.plumbline.serving.image.engine import PROGRESS, Engine, socket_of


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "image": {"type": "str", "required": True},
            "path": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["exported", "loaded"], "required": True},
            "timeout_s": {"type": "int", "default": 7200},
            "socket": {"type": "path"},
            "progress": {"type": "path", "default": PROGRESS},
        },
        supports_check_mode=True,
    )
    archive = Archive(module.params, Engine(socket_of(module.params["socket"])))
    archive.run(module.check_mode)
    found = (archive.image or {}).get("Id") or ""
    module.end(archive.reasons, changed=archive.changed, id=found, moved=archive.moved)


if __name__ == "__main__":
    marks.belong(marks.measuring())  # reset finds it when its connection is lost
    main()
