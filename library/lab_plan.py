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
  gpus:
    description:
      - How many of the machine's GPUs the nodes share, as even as it goes; V(auto) for all that C(nvidia-smi -L) lists, V(none).
      - A node without a share is an error.
    type: str
    default: none
  root:
    description: >-
      The nodes' lower layer, V(machine) for this machine's own root, V(built) for a root filesystem of their own; V(auto) takes the
      machine's where the nodes have GPUs, because it has the driver.
    type: str
    choices: [auto, machine, built]
    default: auto
  gpu_env:
    description: The machine's own serving environment, a folder with C(bin/vllm), which nodes with GPUs use.
    type: path
    default: /opt/vllm
  sshd:
    description: The machine's sshd, for nodes on its root; empty takes the one on PATH or in the system's folders.
    type: str
    default: ""
  shm_size:
    description: Size of each node's /dev/shm; V(auto) for 16G where nodes have GPUs, else 4G.
    type: str
    default: auto
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
    cannot carry one, null when it can or was not asked), root (V(machine) or V(built)), gpus (how many are shared), gpus_least
    (the least that a node has), sshd and python (paths of the machine's, for nodes on its root), shm_size, and nodes (name, index,
    address, link, link_rate, gpus with index, name, uuid, bus_id and minor of each).
  returned: success
  type: dict
missing:
  description: What the machine lacks, with the remedy.
  returned: failure
  type: list
"""

import os
import shutil
import sys
import tempfile

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.plumbline.lab import cgroups as lab_cgroups
from ansible.module_utils.plumbline.lab import gpus as lab_gpus
from ansible.module_utils.plumbline.lab import host as lab_host
from ansible.module_utils.plumbline.lab import machine as lab_machine
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
# What nodes on the machine's root run; sshd is looked for beside them.
MACHINE_COMMANDS = {"setpriv": "util-linux", "rsync": "rsync", "md5sum": "coreutils"}
BRING = (
    " (where no package can be installed: unpack its files, `dpkg -x <package>.deb <folder>`, into / or into a folder that PATH and"
    " LD_LIBRARY_PATH name; not below /tmp or /run, where nodes have folders of their own)"
)
BUILD_COMMANDS = {"debootstrap": "debootstrap", "chroot": "coreutils"}


def private(script, **env):
    """Run a shell script in namespaces of its own; return None when it works, else its words."""
    argv = ["unshare", "--mount", "--net", "--propagation", "private", "/bin/sh", "-euc", script]
    try:
        done = lab_host.call(*argv, check=False, timeout=60, env={**os.environ, **env})
    except lab_host.HostError as error:
        return str(error)
    return None if done.returncode == 0 else (done.stderr.strip().splitlines() or ["exit %d" % done.returncode])[-1]


def commands_lacking(params, on_machine):
    """Return what commands are missing, as sentences with the packages that have them."""
    more = MACHINE_COMMANDS if on_machine else {} if params["cached"] else BUILD_COMMANDS
    wanted = dict(COMMANDS, **more)
    # A node on the machine's root finds what the machine's search path has, and the system's folders.
    where = {"path": lab_machine.search_path(os.environ)} if on_machine else {}
    absent = [name for name in sorted(wanted) if not shutil.which(name, **where)]
    if not absent:
        return []
    packages = " ".join(sorted({wanted[name] for name in absent}))
    return ["commands %s: apt-get install %s%s" % (", ".join(absent), packages, BRING if on_machine else "")]


def find_sshd(params):
    """Return ``(path, None)`` of an sshd that a node on the machine's root can run, or ``(None, what is wrong)``."""
    path = params["sshd"] or shutil.which("sshd", path=lab_machine.search_path(os.environ))
    if not path:
        return None, "command sshd: apt-get install openssh-server" + BRING
    if not os.access(path, os.X_OK):
        return None, "lab_sshd is %s, which is no program: expected the path of sshd" % path
    own = lab_machine.visible(path, [params["dir"]])
    if own:
        return None, "sshd is %s, but nodes have a %s of their own: move it elsewhere, such as /opt/lab" % (path, own)
    # It prints its version, or its usage with the version, unless a library is missing.
    done = lab_host.call(path, "-V", check=False)
    if "OpenSSH" not in done.stdout + done.stderr:
        words = lab_host.last_words(done, 3) or "nothing"
        return None, "a working sshd: `%s -V` ended with %d and said: %s: bring what it lacks%s" % (path, done.returncode, words, BRING)
    return path, None


def lacks_for_gpus(params):
    """Return what a machine with GPUs lacks for nodes that serve with them, as sentences."""
    program = os.path.join(params["gpu_env"], "bin", "vllm")
    if not os.access(program, os.X_OK):
        return [
            "the serving environment: there is no program %s; bring vLLM for this machine's GPUs (with Ray for its layouts) and set"
            " lab_gpu_env to its folder" % program
        ]
    own = lab_machine.visible(program, [params["dir"]])
    if own:
        return ["the serving environment: %s is in %s, and nodes have a folder of their own there; move it elsewhere" % (program, own)]
    return []


def share_gpus(params, plan):
    """Put GPUs, root, sshd, Python and the size of /dev/shm into the plan; return what is missing for them. Raises :class:`LabError`."""
    gpus = [] if params["gpus"].lower() in ("none", "0") else lab_gpus.of_machine()
    gpus = gpus[: lab_gpus.wanted(params["gpus"], len(gpus))]
    given = lab_gpus.shares(gpus, len(plan["nodes"])) if gpus else [[] for _node in plan["nodes"]]
    for node, share in zip(plan["nodes"], given):  # noqa: B905 - Python 3.9 has no strict
        node["gpus"] = share
    if gpus and params["root"] == "built":
        raise lab.LabError("lab_root is built, but nodes with GPUs need the driver of this machine's root: expected auto or machine")
    on_machine = params["root"] == "machine" or bool(gpus)
    if on_machine and params["docker"] == "true":
        raise lab.LabError("lab_docker is true, but nodes on this machine's root have no Docker engine: expected auto or false")
    shm_size = params["shm_size"] if params["shm_size"] != "auto" else "16G" if gpus else "4G"
    lab.parse_size(shm_size)
    python = "/usr/bin/python3" if os.path.exists("/usr/bin/python3") else shutil.which("python3") or sys.executable
    plan.update(root="machine" if on_machine else "built", gpus=len(gpus), gpus_least=min(len(share) for share in given))
    plan.update(shm_size=shm_size, sshd=None, python=python if on_machine else "/usr/bin/python3")
    if not on_machine:
        return []
    plan["sshd"], wrong = find_sshd(params)
    return ([wrong] if wrong else []) + (lacks_for_gpus(params) if gpus else [])


def lacks(params, on_machine=False, known=(), shaped=True):
    """Return ``(missing, disk kind)``; ``known`` is what is missing for a lab on the machine's root, ``shaped``: a link has a rate."""
    if os.geteuid() != 0:
        return ["root: you are uid %d; run again as root (for example with sudo)" % os.geteuid()], None
    absent = commands_lacking(params, on_machine)
    if absent:
        return [*absent, *known], None
    missing = list(known)
    unshaped_hint = "; -e lab_link_rate=unlimited does without tbf" if shaped else ""
    with tempfile.TemporaryDirectory(prefix="plumbline-probe-") as scratch:
        words = private("true")
        if words:
            return ["network and mount namespaces: unshare says: %s" % words, *known], None
        words = private(
            'mount -t tmpfs tmpfs "$D"; cd "$D"; mkdir l u w m; mount -t overlay -o lowerdir=l,upperdir=u,workdir=w o m',
            D=scratch,
        )
        if words:
            missing.append("the overlay file system: mount says: %s (modprobe overlay, or a kernel with it)" % words)
        if on_machine and not words:
            words = private(
                'mount -t tmpfs tmpfs "$D"; cd "$D"; mkdir u w m; mount -t overlay -o lowerdir=/,upperdir=u,workdir=w o m; [ -d m/usr ]',
                D=scratch,
            )
            if words:
                missing.append(
                    "an overlay of this machine's root: mount says: %s (set -e lab_gpus=none for nodes of their own root)" % words
                )
        words = private("ip link add p0 type veth peer name p1; tc qdisc add dev p0 root " + " ".join(lab.tbf(10**9)))
        if words and not shaped:
            words = private("ip link add p0 type veth peer name p1")
        if words:
            missing.append("veth links shaped with tbf: %s (modprobe veth sch_tbf, or a kernel with them%s)" % (words, unshaped_hint))
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
    if params["need_bytes"] and not on_machine:
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
            "gpus": {"type": "str", "default": "none"},
            "root": {"type": "str", "choices": ["auto", "machine", "built"], "default": "auto"},
            "gpu_env": {"type": "path", "default": "/opt/vllm"},
            "sshd": {"type": "str", "default": ""},
            "shm_size": {"type": "str", "default": "auto"},
            "link_check": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    params = module.params
    try:
        plan = lab.plan(params["name"], params["nodes"], params["subnet"], params["link_rate"], params["link_rates"])
        wrong = share_gpus(params, plan)
    except (lab.LabError, lab_host.HostError) as error:
        module.fail_json(msg=str(error))
    for key in ("dir", "cache_dir"):
        if set(params[key]) & set(":,\\\n"):
            module.fail_json(msg="lab_%s is %r: the overlay needs a path without : , and \\" % (key, params[key]))
    on_machine = plan["root"] == "machine"
    shaped = any(lab.parse_rate(node["link_rate"]) is not None for node in plan["nodes"])
    missing, plan["disk"] = lacks(params, on_machine, wrong, shaped)
    if missing:
        if plan["gpus"]:
            missing.append("(for a lab without GPUs, whose nodes have a root and a vLLM for CPU of their own: -e lab_gpus=none)")
        module.fail_json(msg=lab.explain(missing), missing=missing)
    if params["link_check"]:
        taken = lab.overlaps(plan["subnet"], lab_host.json_of("ip", "-j", "-4", "address"), plan["bridge"])
        if taken:
            module.fail_json(
                msg="lab_subnet %s is in use on this machine: %s. Set lab_subnet to a free private network."
                % (plan["subnet"], "; ".join(taken))
            )
    plan["docker_lacks"] = lab_cgroups.lacks() if params["docker"] == "auto" else None
    if on_machine and params["docker"] == "auto":
        plan["docker_lacks"] = "nodes on this machine's root have no engine of their own"
    plan["docker"] = params["docker"] != "false" and plan["docker_lacks"] is None
    present = {os.path.basename(folder) for folder in lab_host.nodes_of(params["dir"])}
    plan["surplus"] = sorted(present - {node["name"] for node in plan["nodes"]})
    module.exit_json(changed=False, plan=plan)


if __name__ == "__main__":
    main()
