#!/usr/bin/python
"""Ansible module: one node of the lab."""

from __future__ import annotations

DOCUMENTATION = r"""
module: lab_node
short_description: Start, change or remove one node of the lab
description:
  - A node is a process in its own network, mount, pid, uts and ipc namespaces, on an overlay of a shared root
    filesystem and a disk of its own, that runs sshd and, with O(engine), a Docker engine. It outlives the Ansible run.
    What is true is read from the kernel.
  - V(present) starts a node that is down, whose sshd or engine does not answer or whose settings changed (its disk is
    kept unless the disk's size, its kind or the root filesystem changed), and sets its link's rate without a restart.
  - V(absent) ends the node and removes its link, its cgroups and its folder.
options:
  state:
    description: Whether the node should be there.
    type: str
    choices: [present, absent]
    default: present
  name:
    description: The node's hostname.
    type: str
    required: true
  dir:
    description: Folder of the lab; the node's is C(nodes/<name>) in it.
    type: path
    required: true
  address:
    description: The node's IPv4 address.
    type: str
  prefix:
    description: Prefix length of the lab's network.
    type: int
  gateway:
    description: The controller's address, the node's default route.
    type: str
  bridge:
    description: The bridge to join.
    type: str
  link:
    description: Name of the machine's end of the node's link.
    type: str
  link_rate:
    description: Rate in both directions, as tc writes it, or V(unlimited).
    type: str
    default: unlimited
  hosts:
    description: All nodes, C(name) and C(address), for /etc/hosts.
    type: list
    elements: dict
    default: []
  authorized_key:
    description: File with the public key that may log in as root.
    type: path
  rootfs:
    description:
      - The shared root filesystem. V(/) is the machine's own; what is mounted below it comes along read-only, and the
        environment of the process that runs this (PATH, libraries, NCCL's variables) reaches all that runs in the node,
        which has no CAP_MKNOD.
    type: path
  gpus:
    description: The node's GPUs, C(minor) and C(uuid) of each; it gets their device files and no other GPU's. Only with O(rootfs=/).
    type: list
    elements: dict
    default: []
  sshd:
    description: Path of the machine's sshd, for O(rootfs=/).
    type: path
    default: /usr/sbin/sshd
  env:
    description: The shared vLLM environment, mounted read-only at /opt/plumbline/vllm; empty for none.
    type: str
    default: ""
  disk:
    description: V(loop) for a sparse ext4 image, V(tmpfs) for memory.
    type: str
    choices: [loop, tmpfs]
    default: loop
  disk_size:
    description: Size of the node's disk.
    type: str
    default: 6G
  shm_size:
    description: Size of the node's /dev/shm.
    type: str
    default: 4G
  init:
    description: The script that becomes the node's first process.
    type: path
  engine:
    description: Folder with C(start-engine), which starts a Docker engine in the node; empty for none.
    type: str
    default: ""
  image:
    description: The engine's image, a folder that M(lab_image) made, mounted read-only at /opt/plumbline/image; empty for none.
    type: str
    default: ""
  timeout:
    description: Seconds to wait for sshd, and as many for the engine.
    type: int
    default: 30
author: [Plumbline]
"""

EXAMPLES = r"""
- name: Start a node
  lab_node:
    name: lab1
    dir: /var/lib/plumbline-lab/lab
    address: 10.98.0.11
    prefix: 16
    gateway: 10.98.255.254
    bridge: labbr0
    link: labh1
    link_rate: 1gbit
    hosts: [{name: lab1, address: 10.98.0.11}]
    authorized_key: /var/lib/plumbline-lab/lab/id_ed25519.pub
    rootfs: /root/.cache/plumbline/rootfs-0123456789ab
    init: /srv/plumbline/roles/lab/files/node-init.sh
    engine: /srv/plumbline/roles/lab/files/engine
    image: /root/.cache/plumbline/image-0123456789ab

- name: Remove a node
  lab_node:
    name: lab1
    dir: /var/lib/plumbline-lab/lab
    state: absent
"""

RETURN = r"""
pid:
  description: The node's first process as the machine counts, null when it is down. C(nsenter -a -t <pid>) enters.
  returned: success
  type: int
hostkey:
  description: The node's public host key, type and key; null before it is made.
  returned: success
  type: str
done:
  description: What was, or in check mode would be, done.
  returned: success
  type: list
"""

import hashlib
import json
import os
import shutil
import socket
import subprocess

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.plumbline.core.files import write_atomically
from ansible.module_utils.plumbline.lab import cgroups as lab_cgroups
from ansible.module_utils.plumbline.lab import engine as lab_engine
from ansible.module_utils.plumbline.lab import gpus as lab_gpus
from ansible.module_utils.plumbline.lab import host as lab_host
from ansible.module_utils.plumbline.lab import machine as lab_machine
from ansible.module_utils.plumbline.lab import plan as lab
from ansible.module_utils.plumbline.lab import store as lab_store
from ansible.module_utils.plumbline.machine import net


def answers(address, seconds):
    """Say whether an SSH server greets at the address within the time."""

    def greets():
        try:
            with socket.create_connection((address, 22), timeout=1) as stream:
                stream.settimeout(2)
                return stream.recv(4) == b"SSH-"
        except OSError:
            return False

    return lab_host.wait_until(greets, seconds)


def hidden_from_nodes(lab_dir):
    """Return the folders of the machine that no node on its root may see: this lab's, and those of the labs beside it."""
    parent = os.path.dirname(lab_dir.rstrip("/"))
    return [parent if os.path.basename(parent) == "plumbline-lab" else lab_dir.rstrip("/")]


def digest(folder):
    """Return a digest of a folder's files, None for no folder."""
    if not folder:
        return None
    found = hashlib.sha256()
    for name in sorted(os.listdir(folder)):
        if not os.path.isfile(os.path.join(folder, name)):
            continue
        with open(os.path.join(folder, name), "rb") as handle:
            found.update(name.encode() + b"\0" + handle.read() + b"\0")
    return found.hexdigest()


class Node:
    """One node: what it should be (the module's arguments) against what it is."""

    def __init__(self, params):
        self.want = params
        self.dir = os.path.join(params["dir"], "nodes", params["name"])
        self.done = []
        self.machine_root = params["rootfs"] == "/"

    def path(self, name):
        """Return the path of a file in the node's folder."""
        return os.path.join(self.dir, name)

    def settings(self):
        """Return what a running node cannot take over without a restart."""
        with open(self.want["init"], encoding="utf-8") as handle:
            script = handle.read()
        keys = ("address", "prefix", "gateway", "rootfs", "env", "disk", "shm_size", "image")
        wanted = {key: self.want[key] for key in keys}
        if self.machine_root:
            wanted.update(self.settings_of_machine_root())
        return dict(wanted, engine=digest(self.want["engine"]), disk_size=lab.parse_size(self.want["disk_size"]), init=script)

    def settings_of_machine_root(self):
        """Return what else a node on the machine's root cannot take over without a restart."""
        variables = lab_machine.environment(os.environ, self.want["name"])
        mounts = lab_machine.mounts(lab_host.read("/proc/self/mountinfo"), hidden_from_nodes(self.want["dir"]))
        return {
            "gpus": [{"minor": int(gpu["minor"]), "uuid": gpu["uuid"]} for gpu in self.want["gpus"]],
            "environment": variables,
            "sshd": self.want["sshd"],
            # Lists, as JSON reads them back; a mount that is gone or hidden by another is nothing to bring.
            "mounts": [list(item) for item in mounts if os.path.exists(item[1])],
        }

    def present(self, check_mode):
        """Make it so, or note what there is to do."""
        pid, known, wanted = lab_host.pid1(self.dir), lab_host.settings_of(self.dir), self.settings()
        why = None
        if pid is None:
            why = "start"
        elif known != wanted:
            why = "restart: %s changed" % ", ".join(sorted(k for k in wanted if known.get(k) != wanted[k]))
        elif not os.path.exists("/sys/class/net/" + self.want["link"]):
            why = "restart: its link %s is gone" % self.want["link"]
        elif not answers(self.want["address"], 2):
            why = "restart: its sshd did not answer at %s" % self.want["address"]
        elif self.engine_lacks(pid, 5):
            why = "restart: " + self.engine_lacks(pid, 0)
        if why:
            self.done.append(why)
            if not check_mode:
                self.start(known, wanted)
        elif self.hosts_text() != lab_host.read("/proc/%d/root/etc/hosts" % pid):
            self.done.append("write /etc/hosts")
            if not check_mode:
                write_atomically(self.path("hosts"), self.hosts_text())
                with open("/proc/%d/root/etc/hosts" % pid, "w", encoding="utf-8") as handle:
                    handle.write(self.hosts_text())
        self.shape(check_mode)

    def engine_lacks(self, pid, seconds):
        """Return what the node's engine lacks after at most ``seconds``, None when nothing or when it should have none."""
        if not self.want["engine"]:
            return None
        expected = lab_store.recorded(self.want["image"]) if self.want["image"] else (None, None)
        lab_host.wait_until(lambda: lab_engine.lacks(pid, *expected) is None, seconds)
        return lab_engine.lacks(pid, *expected)

    def start(self, known, wanted):
        """Start the node from nothing or from what was left of it."""
        lab_host.stop_node(self.dir, self.want["address"])
        lab_cgroups.remove(self.want["link"])
        lab_host.delete_link(self.want["link"])
        lab_host.release_loops(self.dir)
        os.makedirs(self.dir, mode=0o755, exist_ok=True)
        self.make_disk(known, wanted)
        if not os.path.exists(self.path("hostkey.pub")):
            for name in ("hostkey", "hostkey.pub"):
                if os.path.exists(self.path(name)):
                    os.unlink(self.path(name))
            comment = "root@" + self.want["name"]
            lab_host.call("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", comment, "-f", self.path("hostkey"))
        write_atomically(self.path("hosts"), self.hosts_text())
        write_atomically(self.path("authorized_keys"), lab_host.read(self.want["authorized_key"]))
        if self.machine_root:
            write_atomically(self.path("mounts"), "".join("%s\t%s\n" % tuple(item) for item in wanted["mounts"]))
            write_atomically(self.path("sshd_config"), lab_machine.sshd_config(wanted["environment"]))
            write_atomically(self.path("environment"), lab_machine.exports(wanted["environment"]))
        self.spawn(wanted)
        write_atomically(self.path("node.json"), json.dumps(wanted))

    def make_disk(self, known, wanted):
        """Make the disk, keeping a disk that fits: same kind, size and root filesystem below it."""
        image = self.path("disk.img")
        if any(known.get(key) != wanted[key] for key in ("disk", "disk_size", "rootfs")) and os.path.exists(image):
            os.unlink(image)
        # A machine that lost power leaves a file system to check; one that cannot be repaired is made anew.
        if os.path.exists(image) and lab_host.call("fsck.ext4", "-p", image, check=False).returncode >= 4:
            os.unlink(image)
        if wanted["disk"] != "loop" or os.path.exists(image):
            return
        part = image + ".part"
        with open(part, "wb") as handle:
            handle.truncate(wanted["disk_size"])
        # No journal: the disk is remade rather than repaired. No reserve: the whole size is the node's.
        options = ["-q", "-F", "-m", "0", "-i", "65536", "-O", "^has_journal", "-E", "nodiscard"]
        lab_host.call("mkfs.ext4", *options, part)
        os.rename(part, image)

    def spawn(self, wanted):
        """Start the first process and connect it."""
        env = {
            "PATH": os.environ.get("PATH", "") + ":/usr/sbin:/usr/bin:/sbin:/bin",
            lab_host.MARKER: self.dir,
            "NODE_NAME": self.want["name"],
            "NODE_ROOTFS": wanted["rootfs"],
            "NODE_ENV": wanted["env"],
            "NODE_DISK": wanted["disk"],
            "NODE_SIZE": str(wanted["disk_size"]),
            "NODE_SHM": str(lab.parse_size(wanted["shm_size"])),
            "NODE_ENGINE": self.want["engine"],
            "NODE_IMAGE": wanted["image"],
            "NODE_CGROUP": lab_cgroups.PREFIX + self.want["link"],
            "NODE_DEVICES": "",
            "NODE_SSHD": "",
            "NODE_HIDDEN": "",
        }
        if self.machine_root:
            minors = [gpu["minor"] for gpu in wanted["gpus"]]
            env["NODE_DEVICES"] = " ".join(lab_gpus.device_files(minors)) if minors else ""
            env["NODE_HIDDEN"] = "\n".join(hidden_from_nodes(self.want["dir"]))
            env["NODE_SSHD"] = wanted["sshd"]
        argv = ["unshare", "--mount", "--uts", "--ipc", "--net", "--pid", "--fork", "--propagation", "private"]
        with open(self.path("init.log"), "wb") as log:
            child = subprocess.Popen(
                [*argv, "/bin/sh", self.want["init"]],
                env=env,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        # poll() also collects a child that has died
        pid = lab_host.wait_until(lambda: child.poll() is not None or lab_host.pid1(self.dir), 10)
        if child.poll() is not None or not isinstance(pid, int) or pid is True:
            raise lab_host.HostError(self.failure("did not start"))
        self.connect(pid)
        if not answers(self.want["address"], self.want["timeout"]):
            raise lab_host.HostError(self.failure("has no sshd answering after %d s" % self.want["timeout"], pid))
        if self.machine_root and wanted["gpus"]:
            self.check_gpus(pid, wanted)
        lacks = self.engine_lacks(pid, self.want["timeout"])
        if lacks:
            log = lab_host.read("/proc/%d/root/var/log/dockerd.log" % pid).strip().splitlines()
            words = "\n".join(log[-8:]) or "nothing"
            raise lab_host.HostError(
                "node %s: %s after %d s (set lab_docker: false to do without). Its log, /var/log/dockerd.log, ends with:\n%s"
                % (self.want["name"], lacks, self.want["timeout"], words)
            )

    def check_gpus(self, pid, wanted):
        """Raise :class:`HostError` unless the node's own nvidia-smi lists its GPUs and no other."""
        variables = ["%s=%s" % pair for pair in wanted["environment"].items()]
        inside = ["nsenter", "--mount", "--uts", "--ipc", "--net", "--pid", "--target", str(pid)]
        drop = ["setpriv", "--bounding-set=-mknod", "--inh-caps=-mknod"]
        done = lab_host.call(*inside, "env", "-i", *variables, "HOME=/root", *drop, "nvidia-smi", "-L", check=False)
        seen = {gpu["uuid"] for gpu in lab_gpus.parse_list(done.stdout)}
        expected = {gpu["uuid"] for gpu in wanted["gpus"]}
        if seen != expected:
            raise lab_host.HostError(
                self.failure(
                    "sees the GPUs %s, expected %s; nvidia-smi -L ended with %d in it: %s; its device files: %s"
                    % (
                        ", ".join(sorted(seen)) or "none",
                        ", ".join(sorted(expected)),
                        done.returncode,
                        lab_host.last_words(done, 8) or "nothing",
                        ", ".join(sorted(name for name in os.listdir("/proc/%d/root/dev" % pid) if name.startswith("nvidia"))) or "none",
                    ),
                    pid,
                )
            )

    def failure(self, what, pid=None):
        """Return a sentence with the last words of the node's start, and of its sshd where it got that far."""
        words = lab_host.read(self.path("init.log")).strip()[-1500:] or "nothing"
        text = "node %s %s; it said: %s (%s)" % (self.want["name"], what, words, self.path("init.log"))
        if pid:
            log = lab_host.read("/proc/%d/root/var/log/sshd.log" % pid).strip()[-800:] or "nothing"
            running = "runs" if lab_host.pid1(self.dir) else "has ended"
            text += "; its first process %s; its /var/log/sshd.log ends with: %s" % (running, log)
        return text

    def connect(self, pid):
        """Give the node its link, address and route."""
        want = self.want
        peer = ["peer", "name", "eth0", "address", lab.mac(want["address"]), "netns", str(pid)]
        lab_host.call("ip", "link", "add", want["link"], "type", "veth", *peer)
        lab_host.call("ip", "link", "set", want["link"], "master", want["bridge"], "up")
        inside = ["nsenter", "--net", "--target", str(pid), "ip", "-batch", "-"]
        script = "link set lo up\naddress add %s/%d dev eth0\nlink set eth0 up\nroute add default via %s\n"
        lab_host.call(*inside, input=script % (want["address"], want["prefix"], want["gateway"]))

    def shape(self, check_mode):
        """Set the rate of both ends: the node's own for what it sends, the machine's for what it receives."""
        want = lab.parse_rate(self.want["link_rate"])
        pid = lab_host.pid1(self.dir)
        if pid is None:  # check mode, not started
            return
        ends = [(["nsenter", "--net", "--target", str(pid), "tc"], "eth0"), (["tc"], self.want["link"])]
        for tc, device in ends:
            have = net.tbf_rate_bit_s(lab_host.json_of(*tc, "-j", "qdisc", "show", "dev", device))
            # tc keeps bytes per second: a rate may have been rounded down to one
            if have == want or (have and want and have // 8 == want // 8):
                continue
            self.done.append("set the rate of %s to %s" % (device, self.want["link_rate"]))
            if check_mode:
                continue
            if want is None:
                lab_host.call(*tc, "qdisc", "delete", "dev", device, "root")
            else:
                lab_host.call(*tc, "qdisc", "replace", "dev", device, "root", *lab.tbf(want))

    def absent(self, check_mode):
        """Remove the node."""
        cgroups = lab_cgroups.left(self.want["link"]) if self.want["link"] else []
        if cgroups or lab_host.marked(self.dir) or os.path.lexists(self.dir):
            self.done.append("remove")
            if not check_mode:
                address = self.want["address"] or lab_host.settings_of(self.dir).get("address") or "0.0.0.0"
                lab_host.stop_node(self.dir, address)
                if self.want["link"]:
                    lab_cgroups.remove(self.want["link"])
                    lab_host.delete_link(self.want["link"])
                lab_host.release_loops(self.dir)
                lab_host.remove_tree(self.dir)

    def hosts_text(self):
        """Return the node's /etc/hosts."""
        lines = ["127.0.0.1 localhost"] + ["%s %s" % (item["address"], item["name"]) for item in self.want["hosts"]]
        return "\n".join(lines) + "\n"

    def result(self):
        """Return the module's result."""
        key = lab_host.read(self.path("hostkey.pub")).split()
        return {
            "changed": bool(self.done),
            "done": self.done,
            "pid": lab_host.pid1(self.dir),
            "hostkey": " ".join(key[:2]) or None,
        }


def main():
    """Run the module."""
    needed = ["address", "prefix", "gateway", "bridge", "link", "authorized_key", "rootfs", "init"]
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "name": {"type": "str", "required": True},
            "dir": {"type": "path", "required": True},
            "address": {"type": "str"},
            "prefix": {"type": "int"},
            "gateway": {"type": "str"},
            "bridge": {"type": "str"},
            "link": {"type": "str"},
            "link_rate": {"type": "str", "default": "unlimited"},
            "hosts": {"type": "list", "elements": "dict", "default": []},
            "authorized_key": {"type": "path", "no_log": False},
            "rootfs": {"type": "path"},
            "gpus": {"type": "list", "elements": "dict", "default": []},
            "sshd": {"type": "path", "default": "/usr/sbin/sshd"},
            "env": {"type": "str", "default": ""},
            "disk": {"type": "str", "choices": ["loop", "tmpfs"], "default": "loop"},
            "disk_size": {"type": "str", "default": "6G"},
            "shm_size": {"type": "str", "default": "4G"},
            "init": {"type": "path"},
            "engine": {"type": "str", "default": ""},
            "image": {"type": "str", "default": ""},
            "timeout": {"type": "int", "default": 30},
        },
        required_if=[("state", "present", needed)],
        supports_check_mode=True,
    )
    if os.geteuid() != 0 or not shutil.which("unshare"):
        module.fail_json(msg="lab nodes are made by root with unshare (package util-linux)")
    node = Node(module.params)
    try:
        if module.params["state"] == "present":
            node.present(module.check_mode)
        else:
            node.absent(module.check_mode)
    except (lab.LabError, lab_host.HostError) as error:
        module.fail_json(msg=str(error), done=node.done)
    except OSError as error:
        module.fail_json(msg="node %s: %s" % (module.params["name"], error), done=node.done)
    module.exit_json(**node.result())


if __name__ == "__main__":
    main()
