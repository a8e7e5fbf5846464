#!/usr/bin/python
"""Ansible module: the host keys of this node's sshd, for those who pin them."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ssh_host_keys
short_description: Read the public host keys of this node's sshd
description:
  - Returns the public host keys of the sshd that runs here, and its port, read from its own configuration (C(sshd -T) with the options
    that the listening process was started with), never from the network. Who pins them needs no first connection to trust.
  - Needs root, since sshd reads its private keys for it. Changes nothing.
attributes:
  check_mode:
    support: full
author: [Plumbline]
"""

EXAMPLES = r"""
- name: Read the host keys
  ssh_host_keys:
  register: host_keys
"""

RETURN = r"""
host_keys:
  description: The sshd's public host keys, C(type base64) each.
  type: list
  elements: str
  returned: success
port:
  description: The first port that its configuration names; V(22) where it names none.
  type: int
  returned: success
"""

import os

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.plumbline.machine import sshd


def read(module):
    """Return ``(the running sshd's public host keys, its port)``; fails when there is no key to be found."""
    sshds = sshd.listeners()
    if not sshds:  # started on demand by a socket: the default configuration is the one it will use
        sshds = [(module.get_bin_path("sshd", required=True, opt_dirs=["/usr/sbin"]), [])]
    keygen = module.get_bin_path("ssh-keygen", required=True)
    keys, said, port = [], [], None
    for program, options in sshds:
        status, out, err = module.run_command([program, "-T", *options])
        if status != 0:
            said.append(f"{program} -T: {err.strip()}")
            continue
        port = port or sshd.port(out)
        for path in sshd.host_key_paths(out):
            if os.path.exists(path + ".pub"):
                with open(path + ".pub", encoding="utf-8") as text:
                    line = text.read()
            elif os.path.exists(path):
                status, line, err = module.run_command([keygen, "-y", "-P", "", "-f", path])
                said += [err.strip()] if status != 0 else []
            else:
                continue
            key = sshd.public_key(line)
            if key and key not in keys:
                keys.append(key)
    if not keys:
        module.fail_json(msg=f"no host key of the sshd on this node could be read: {'; '.join(said) or sshds}")
    return keys, port or 22


def main():
    """Run the module."""
    module = AnsibleModule(argument_spec={}, supports_check_mode=True)
    try:
        keys, port = read(module)
    except OSError as error:
        module.fail_json(msg=f"cannot read the host keys of the sshd on this node: {error}")
    module.exit_json(changed=False, host_keys=keys, port=port)


if __name__ == "__main__":
    main()
