#!/usr/bin/python
"""Ansible module: the keys for copying a model over ssh: this node's own, and its sshd's host keys."""

from __future__ import annotations

DOCUMENTATION = r"""
module: model_sync_keys
short_description: Make this node's key for model_sync and read its sshd's host keys
description:
  - Generates a key pair without a passphrase at O(identity_file) when it is missing, and returns its public half.
  - Returns the public host keys of the sshd that runs here, read from its own configuration (C(sshd -T) with the options
    that the listening process was started with), never from the network.
options:
  identity_file:
    description: Path of the private key. Without it no key is made.
    type: path
  comment:
    description: The public key's comment, by which it is found again on the head.
    type: str
    default: plumbline-model-sync
  host_keys:
    description: Whether to read the host keys; needs root.
    type: bool
    default: false
attributes:
  check_mode:
    support: full
    description: No key is made; RV(public_key) is empty when there is none yet.
"""

EXAMPLES = r"""
- name: Make the key with which this node pulls
  model_sync_keys:
    identity_file: /var/lib/plumbline/model_sync/id_ed25519
    comment: "plumbline-model-sync@{{ inventory_hostname }}"
"""

RETURN = r"""
public_key:
  description: The public key's line, empty when there is none.
  type: str
  returned: always
host_keys:
  description: The sshd's public host keys, C(type base64) each.
  type: list
  elements: str
  returned: always
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.plumbline.model import keys as manifest_keys


def own_key(module, path, comment):
    """Return ``(public key line, whether it was made now)``."""
    public = path + ".pub"
    if not (os.path.exists(path) and os.path.exists(public)):
        if module.check_mode:
            return "", True
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        for old in (path, public):
            if os.path.exists(old):
                os.remove(old)
        keygen = module.get_bin_path("ssh-keygen", required=True)
        module.run_command([keygen, "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", path], check_rc=True)
        made = True
    else:
        made = False
    with open(public, encoding="utf-8") as text:
        return text.read().strip(), made


def host_keys(module):
    """Return the running sshd's public host keys; fails when there is none to be found."""
    sshds = manifest_keys.listeners()
    if not sshds:  # started on demand by a socket: the default configuration is the one it will use
        sshds = [(module.get_bin_path("sshd", required=True, opt_dirs=["/usr/sbin"]), [])]
    keygen = module.get_bin_path("ssh-keygen", required=True)
    keys, said = [], []
    for program, options in sshds:
        status, out, err = module.run_command([program, "-T", *options])
        if status != 0:
            said.append(f"{program} -T: {err.strip()}")
            continue
        for path in manifest_keys.host_key_paths(out):
            if os.path.exists(path + ".pub"):
                with open(path + ".pub", encoding="utf-8") as text:
                    line = text.read()
            elif os.path.exists(path):
                status, line, err = module.run_command([keygen, "-y", "-P", "", "-f", path])
                said += [err.strip()] if status != 0 else []
            else:
                continue
            key = manifest_keys.public_key(line)
            if key and key not in keys:
                keys.append(key)
    if not keys:
        module.fail_json(msg=f"no host key of the sshd on this node could be read: {'; '.join(said) or sshds}")
    return keys


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "identity_file": {"type": "path"},
            "comment": {"type": "str", "default": "plumbline-model-sync"},
            "host_keys": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    args = module.params
    result = {"changed": False, "public_key": "", "host_keys": []}
    try:
        if args["identity_file"]:
            result["public_key"], result["changed"] = own_key(module, args["identity_file"], args["comment"])
        if args["host_keys"]:
            result["host_keys"] = host_keys(module)
    except OSError as error:
        module.fail_json(msg=f"cannot make or read the keys of model_sync: {error}")
    module.exit_json(**result)


if __name__ == "__main__":
    main()
