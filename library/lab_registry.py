#!/usr/bin/python
"""Ansible module: the registry of a lab, in its own network, with the lab's image in it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: lab_registry
short_description: Run a lab's container registry
description:
  - Runs Debian's C(docker-registry) of the nodes' root filesystem on this machine, at its address in the lab's network, where the
    nodes' engines know it as C(registry:5000) and take it without TLS.
  - It starts with the image that M(lab_image) pushed, and keeps what else is pushed until the lab is removed.
options:
  dir: {description: The lab's folder., type: path, required: true}
  state: {description: Whether there is one., type: str, choices: [present, absent], default: present}
  address: {description: This machine's address in the lab's network., type: str}
  rootfs: {description: The nodes' root filesystem., type: path}
  image: {description: "The folder that M(lab_image) built, for the image to start with; empty for none.", type: str, default: ""}
  timeout: {description: Seconds to wait until it answers., type: int, default: 30}
author: [Plumbline]
"""

EXAMPLES = r"""
- name: Registry of the lab
  lab_registry:
    dir: /var/lib/plumbline-lab/lab
    address: 10.98.255.254
    rootfs: /root/.cache/plumbline/rootfs-0123456789ab
    image: /root/.cache/plumbline/image-0123456789ab
"""

RETURN = r"""
image: {description: "The lab's image by digest, as nodes ask for it; empty without one.", type: str, returned: always}
done: {description: "What was, or in check mode would be, done.", type: list, elements: str, returned: success}
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.plumbline.core.files import write_atomically
from ansible.module_utils.plumbline.lab import host as lab_host
from ansible.module_utils.plumbline.lab import registry as lab_registry
from ansible.module_utils.plumbline.lab import store as lab_store


def present(params, check_mode):
    """Make it run with the image; return what there was to do."""
    base = lab_registry.folder(params["dir"])
    wanted = "%s %s" % (params["rootfs"], params["image"])
    same = lab_host.read(os.path.join(base, "settings")) == wanted
    if same and lab_registry.running(params["dir"]) and lab_registry.answers(params["address"]):
        return []
    if not check_mode:
        lab_registry.stop(params["dir"])
        os.makedirs(base, exist_ok=True)
        if not same:
            lab_registry.fill(os.path.join(params["image"], "registry") if params["image"] else "", os.path.join(base, "storage"))
        lab_registry.start(params["dir"], params["rootfs"], params["address"], params["timeout"])
        write_atomically(os.path.join(base, "settings"), wanted)
    return ["start"]


def absent(params, check_mode):
    """Remove it; return what there was to do."""
    base = lab_registry.folder(params["dir"])
    if not os.path.lexists(base) and not lab_registry.running(params["dir"]):
        return []
    if not check_mode:
        lab_registry.stop(params["dir"])
        lab_host.remove_tree(base)
    return ["remove"]


def image_of(params):
    """Return the lab's image as a node asks for it, ``""`` without one."""
    digest = lab_store.digest_of(params["image"]) if params["image"] else ""
    reference = lab_store.recorded(params["image"])[0] if digest else None
    if params["state"] != "present" or not reference:
        return ""
    return "%s:%d/%s@%s" % (lab_registry.NAME, lab_registry.PORT, reference.rpartition(":")[0], digest)


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "dir": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "address": {"type": "str"},
            "rootfs": {"type": "path"},
            "image": {"type": "str", "default": ""},
            "timeout": {"type": "int", "default": 30},
        },
        required_if=[("state", "present", ["address", "rootfs"])],
        supports_check_mode=True,
    )
    act = present if module.params["state"] == "present" else absent
    try:
        done = act(module.params, module.check_mode)
    except (lab_host.HostError, OSError) as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=bool(done), done=done, image=image_of(module.params))


if __name__ == "__main__":
    main()
