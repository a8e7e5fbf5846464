#!/usr/bin/python
"""Ansible module: the lab's plan, and whether this machine can carry it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: lab_plan
short_description: Names, addresses and rates of a lab's nodes, and what this machine lacks for it
description:
  - Works out the lab from its variables and checks the machine by trying - in private namespaces that leave nothing
    behind - what the lab needs (root, overlay, network namespaces, tc's tbf, loop devices, commands, disk space,
    cgroups for the nodes' Docker engines).
  - Changes nothing; fails with the list of what is missing.
options:
  name:
    description: The lab's name, the prefix of node and interface names.
    type: str
    required: true
  nodes:
    description: How many nodes.
    type: int
    required: true
  subnet:
    description: IPv4 network of the lab.
    type: str
    required: true
  link_rate:
    description: Rate of each node's link as tc writes it, or V(unlimited).
    type: str
    required: true
  link_rates:
    description: Rate by node name, for nodes that differ.
    type: dict
    default: {}
  dir:
    description: Folder of the lab.
    type: path
    required: true
  cache_dir:
    description: Folder of the download cache.
    type: path
    required: true
  need_bytes:
    description: Free space that the cache still needs for what is not there yet, in bytes.
    type: int
    default: 0
  disk:
    description: Kind of the nodes' disks; V(auto) takes loop devices where they work.
    type: str
    choices: [auto, loop, tmpfs]
    default: auto
  docker:
    description: Whether nodes get a Docker engine; V(auto) where this machine's cgroups allow it.
    type: str
    choices: [auto, "true", "false"]
    default: auto
  cached:
    description: True when root filesystem and environment are in the cache, so that building tools are not needed.
    type: bool
    default: false
  link_check:
    description: Whether to check that no other interface uses the subnet.
    type: bool
    default: true
author: [Plumbline]
"""

EXAMPLES = r"""
- name: Plan the lab
  lab_plan:
    name: lab
    nodes: 3
    subnet: 10.98.0.0/16
    link_rate: 1gbit
    dir: /var/lib/plumbline-lab/lab
    cache_dir: /root/.cache/plumbline
  register: plan
"""

RETURN = r"""
plan:
  description: >-
    bridge, controller, prefix, subnet, disk, surplus, docker (whether nodes get an engine), docker_lacks (why this machine
    cannot carry one, null when it can or was not asked) and nodes (name, index, address, link, link_rate).
  returned: success
  type: dict
missing:
  description: What the machine lacks, with the remedy.
  returned: failure
  type: list
"""

import os
import shutil
import tempfile

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.plumbline.lab import cgroups as lab_cgroups
from ansible.module_utils.plumbline.lab import host as lab_host
from ansible.module_utils.plumbline.lab import plan as lab

# command -> Debian package
COMMANDS = {
    "ip": "iproute2",
    "tc": "iproute2",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "mount": "mount",
    "pivot_root": "util-linux",
    "losetup": "mount",
    "mkfs.ext4": "e2fsprogs",
    "ssh": "openssh-client",
    "ssh-keygen": "openssh-client",
}
BUILD_COMMANDS = {"debootstrap": "debootstrap", "chroot": "coreutils"}


def private(script, **env):
    """Run a shell script in namespaces of its own; return None when it works, else its words."""
    argv = ["unshare", "--mount", "--net", "--propagation", "private", "/bin/sh", "-euc", script]
    try:
        done = lab_host.call(*argv, check=False, timeout=60, env={**os.environ, **env})
    except lab_host.HostError as error:
        return str(error)
    return None if done.returncode == 0 else (done.stderr.strip().splitlines() or ["exit %d" % done.returncode])[-1]


def lacks(params):
    """Return ``(missing, disk kind)``."""
    if os.geteuid() != 0:
        return ["root: you are uid %d; run again as root (for example with sudo)" % os.geteuid()], None
    wanted = dict(COMMANDS, **({} if params["cached"] else BUILD_COMMANDS))
    absent = [name for name in sorted(wanted) if not shutil.which(name)]
    if absent:
        packages = " ".join(sorted({wanted[name] for name in absent}))
        return ["commands %s: apt-get install %s" % (", ".join(absent), packages)], None
    missing = []
    with tempfile.TemporaryDirectory(prefix="plumbline-probe-") as scratch:
        words = private("true")
        if words:
            return ["network and mount namespaces: unshare says: %s" % words], None
        words = private(
            'mount -t tmpfs tmpfs "$D"; cd "$D"; mkdir l u w m; mount -t overlay -o lowerdir=l,upperdir=u,workdir=w o m',
            D=scratch,
        )
        if words:
            missing.append("the overlay file system: mount says: %s (modprobe overlay, or a kernel with it)" % words)
        words = private("ip link add p0 type veth peer name p1; tc qdisc add dev p0 root " + " ".join(lab.tbf(10**9)))
        if words:
            missing.append("veth links shaped with tbf: %s (modprobe veth sch_tbf, or a kernel with them)" % words)
        words = private("ip link add p0 type bridge")
        if words:
            missing.append("network bridges: %s (modprobe bridge, or a kernel with it)" % words)
        disk = params["disk"]
        if disk != "tmpfs":
            words = private(
                'mount -t tmpfs tmpfs "$D"; truncate -s 8M "$D/i"; mkfs.ext4 -q -F "$D/i"; mkdir "$D/m"; mount -o loop "$D/i" "$D/m"',
                D=scratch,
            )
            if words and disk == "loop":
                missing.append("loop devices: %s (modprobe loop, or set lab_disk: tmpfs)" % words)
            disk = "tmpfs" if words else "loop"
    words = lab_cgroups.lacks() if params["docker"] == "true" else None
    if words:
        missing.append("cgroups for the nodes' Docker engines: %s (mount them, or set lab_docker: false)" % words)
    if params["need_bytes"]:
        folder = params["cache_dir"]
        while not os.path.isdir(folder):
            folder = os.path.dirname(folder)
        free = shutil.disk_usage(folder).free
        if free < params["need_bytes"]:
            missing.append(
                "disk space: %.1f GiB free for %s, expected %.1f GiB; free some or set lab_cache_dir"
                % (free / 2**30, params["cache_dir"], params["need_bytes"] / 2**30)
            )
    return missing, disk


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "nodes": {"type": "int", "required": True},
            "subnet": {"type": "str", "required": True},
            "link_rate": {"type": "str", "required": True},
            "link_rates": {"type": "dict", "default": {}},
            "dir": {"type": "path", "required": True},
            "cache_dir": {"type": "path", "required": True},
            "need_bytes": {"type": "int", "default": 0},
            "disk": {"type": "str", "choices": ["auto", "loop", "tmpfs"], "default": "auto"},
            "docker": {"type": "str", "choices": ["auto", "true", "false"], "default": "auto"},
            "cached": {"type": "bool", "default": False},
            "link_check": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        plan = lab.plan(params["name"], params["nodes"], params["subnet"], params["link_rate"], params["link_rates"])
    except lab.LabError as error:
        module.fail_json(msg=str(error))
    for key in ("dir", "cache_dir"):
        if set(params[key]) & set(":,\\\n"):
            module.fail_json(msg="lab_%s is %r: the overlay needs a path without : , and \\" % (key, params[key]))
    missing, plan["disk"] = lacks(params)
    if missing:
        module.fail_json(msg=lab.explain(missing), missing=missing)
    if params["link_check"]:
        taken = lab.overlaps(plan["subnet"], lab_host.json_of("ip", "-j", "-4", "address"), plan["bridge"])
        if taken:
            module.fail_json(
                msg="lab_subnet %s is in use on this machine: %s. Set lab_subnet to a free private network."
                % (plan["subnet"], "; ".join(taken))
            )
    plan["docker_lacks"] = lab_cgroups.lacks() if params["docker"] == "auto" else None
    plan["docker"] = params["docker"] != "false" and plan["docker_lacks"] is None
    present = {os.path.basename(folder) for folder in lab_host.nodes_of(params["dir"])}
    plan["surplus"] = sorted(present - {node["name"] for node in plan["nodes"]})
    module.exit_json(changed=False, plan=plan)


if __name__ == "__main__":
    main()
