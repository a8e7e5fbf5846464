#!/usr/bin/python
"""Ansible module: a key pair of this node's own, with which it reaches other nodes by ssh."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ssh_key
short_description: Make a key of this node's own, for good or for one run, or take it away
description:
  - With O(identity_file) a key pair without a passphrase is made there when it is missing.
  - With O(run_folder) it is made for one run, in a new folder of its own with a random name, so that runs beside each other have keys of
    their own. The folder also gets an ssh_config(5) for O(hosts) that pins their host keys; C(ssh -F) takes it, and tries nothing else.
    What an interrupted run left there goes as soon as it is older than its O(valid_s).
  - The private key never leaves the node.
options:
  state:
    description: V(absent) removes the folder of O(identity_file), or all of O(run_folder).
    type: str
    choices: [present, absent]
    default: present
  identity_file:
    description: Path of the private key.
    type: path
  run_folder:
    description: Where the folders of runs are.
    type: path
  comment:
    description: The public key's comment, by which it is found again where it was let in.
    type: str
    default: plumbline
  owner:
    description: The user whose key it is; by default the one that runs the module.
    type: str
  valid_s:
    description: Seconds after which a run's key is of no use to anybody.
    type: int
    default: 3600
  hosts:
    description: The nodes that a run's key is for. One without O(hosts[].host_keys) is refused by ssh.
    type: list
    elements: dict
    default: []
    suboptions:
      address: {description: Name or address by which it is reached., type: str, required: true}
      port: {description: Port of its sshd., type: int, default: 22}
      host_keys: {description: "Its public host keys, C(type base64) each, as M(ssh_host_keys) reads them.", type: list, elements: str,
                  default: []}
attributes:
  check_mode:
    support: full
    description: Nothing is made or removed; RV(public_key) is empty when there is none yet.
  diff_mode:
    support: none
author: [Plumbline]
"""

EXAMPLES = r"""
- name: Make the key with which this node pulls
  ssh_key:
    identity_file: /var/lib/plumbline/model_sync/id_ed25519
    comment: "plumbline-model-sync@{{ inventory_hostname }}"

- name: Make a key for this run
  ssh_key:
    run_folder: /run/plumbline-mpi
    comment: "plumbline-mpi@{{ inventory_hostname }}"
    hosts:
      - {address: 10.0.0.5, host_keys: ["ssh-ed25519 AAAA..."]}
"""

RETURN = r"""
public_key:
  description: The public key's line, empty when there is none.
  type: str
  returned: always
identity_file:
  description: Path of the private key; of a run's that was not made, a path that says so.
  type: str
  returned: always
config:
  description: Path of the ssh_config(5), empty without O(run_folder).
  type: str
  returned: always
sources:
  description: This node's own addresses towards O(hosts), by its routes; empty where one of them has none.
  type: list
  elements: str
  returned: always
"""

import os
import pwd
import shutil
import tempfile
import time

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.plumbline.core.files import read_int, write_atomically
from ansible.module_utils.plumbline.machine import net, ssh

NAME = "id_ed25519"


def generate(module, path, comment):
    """Make a key pair at ``path``, whose folder is there."""
    keygen = module.get_bin_path("ssh-keygen", required=True)
    module.run_command([keygen, "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", path], check_rc=True)


def read_public(path):
    """Return the line of the public key of ``path``."""
    with open(path + ".pub", encoding="utf-8") as text:
        return text.read().strip()


def standing(module, path, comment):
    """Return ``(public key line, whether it was made now)`` of a key that stays."""
    if os.path.exists(path) and os.path.exists(path + ".pub"):
        return read_public(path), False
    if module.check_mode:
        return "", True
    os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
    for old in (path, path + ".pub"):
        if os.path.exists(old):
            os.remove(old)
    generate(module, path, comment)
    return read_public(path), True


def sweep(parent, now_s):
    """Remove the folders of runs whose keys are of no use any more; one that says nothing is being made, or was left by a crash."""
    for entry in os.scandir(parent):
        if entry.is_dir(follow_symlinks=False):
            until = read_int(os.path.join(entry.path, ssh.UNTIL))
            if until is None:
                until = entry.stat(follow_symlinks=False).st_mtime + 3600
            if until < now_s:
                shutil.rmtree(entry.path)


def make_run(module, args, owner):
    """Make the folder of a run and return the path of its key. What could not be made whole is not left."""
    parent = args["run_folder"]
    os.makedirs(parent, mode=0o755, exist_ok=True)
    sweep(parent, time.time())
    folder = tempfile.mkdtemp(dir=parent, prefix="run-")
    try:
        path = os.path.join(folder, NAME)
        known = os.path.join(folder, "known_hosts")
        generate(module, path, args["comment"])
        pinned = [ssh.known_hosts_text(host["address"], host["port"], host["host_keys"]) for host in args["hosts"]]
        write_atomically(known, "".join(pinned), 0o600)
        write_atomically(os.path.join(folder, "config"), ssh.config_text(args["hosts"], owner.pw_name, path, known), 0o600)
        write_atomically(os.path.join(folder, ssh.UNTIL), "%d\n" % (time.time() + args["valid_s"]), 0o600)
        if os.geteuid() == 0:
            for name in os.listdir(folder):
                os.chown(os.path.join(folder, name), owner.pw_uid, owner.pw_gid)
            os.chown(folder, owner.pw_uid, owner.pw_gid)
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    return path


def sources(hosts):
    """Return the addresses that packets to the hosts leave with, [] where one has no route or no address."""
    try:
        return sorted({net.local_address(host["address"]).split("%")[0] for host in hosts})
    except OSError:
        return []


def present(module, args):
    """Make what is missing; return the result."""
    result = {"changed": True, "public_key": "", "identity_file": args["identity_file"], "config": "", "sources": sources(args["hosts"])}
    if args["identity_file"]:
        result["public_key"], result["changed"] = standing(module, args["identity_file"], args["comment"])
        return result
    owner = pwd.getpwnam(args["owner"]) if args["owner"] else pwd.getpwuid(os.geteuid())
    if module.check_mode:
        result["identity_file"] = os.path.join(args["run_folder"], "(made in a run)", NAME)
    else:
        result["identity_file"] = make_run(module, args, owner)
        result["public_key"] = read_public(result["identity_file"])
    result["config"] = os.path.join(os.path.dirname(result["identity_file"]), "config")
    return result


def absent(module, args):
    """Remove the key's folder, or those of all runs; return the result."""
    folder = os.path.dirname(args["identity_file"]) if args["identity_file"] else args["run_folder"]
    found = os.path.isdir(folder)
    if found and not module.check_mode:
        shutil.rmtree(folder)
    return {"changed": found, "public_key": "", "identity_file": args["identity_file"] or "", "config": "", "sources": []}


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "identity_file": {"type": "path"},
            "run_folder": {"type": "path"},
            "comment": {"type": "str", "default": "plumbline"},
            "owner": {"type": "str"},
            "valid_s": {"type": "int", "default": 3600},
            "hosts": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "address": {"type": "str", "required": True},
                    "port": {"type": "int", "default": 22},
                    "host_keys": {"type": "list", "elements": "str", "no_log": False, "default": []},
                },
            },
        },
        required_one_of=[("identity_file", "run_folder")],
        mutually_exclusive=[("identity_file", "run_folder")],
        supports_check_mode=True,
    )
    args = module.params
    try:
        result = (present if args["state"] == "present" else absent)(module, args)
    except (OSError, KeyError) as error:
        module.fail_json(msg="cannot %s the key: %s" % ("make" if args["state"] == "present" else "remove", error))
    module.exit_json(**result)


if __name__ == "__main__":
    main()
