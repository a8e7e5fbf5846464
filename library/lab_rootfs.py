#!/usr/bin/python
"""Ansible module: the root filesystem that all nodes of all labs share."""

from __future__ import annotations

DOCUMENTATION = r"""
module: lab_rootfs
short_description: Build the lab's Debian root filesystem in the cache, once
description:
  - Runs debootstrap into a temporary folder of the cache and renames the result, so that a build that was interrupted
    is built again and never half used. Packages downloaded by an interrupted build are kept.
options:
  path:
    description: Where the root filesystem should be. Its name should depend on O(suite) and O(packages).
    type: path
    required: true
  suite:
    description: Debian suite.
    type: str
    required: true
  packages:
    description: Packages beyond the minimal system.
    type: list
    elements: str
    required: true
  mirror:
    description: Debian mirror. Empty takes the machine's own when it runs Debian, else deb.debian.org.
    type: str
    default: ""
  downloads:
    description: Folder that keeps downloaded packages.
    type: path
    required: true
  mount_points:
    description: Empty folders to make in it, for what nodes mount there.
    type: list
    elements: str
    default: []
author: [Plumbline]
"""

EXAMPLES = r"""
- name: Build the root filesystem
  lab_rootfs:
    path: /root/.cache/plumbline/rootfs-0123456789ab
    suite: bookworm
    packages: [openssh-server, python3]
    downloads: /root/.cache/plumbline/debs
"""

RETURN = r"""
mirror:
  description: The mirror used, or that would be.
  returned: when there was something to build
  type: str
seconds:
  description: How long the build took, in seconds.
  returned: when built
  type: float
"""

import glob
import os
import shutil

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.plumbline.lab import apt as lab_apt
from ansible.module_utils.plumbline.lab import cache as lab_cache
from ansible.module_utils.plumbline.lab import host as lab_host


def machine_mirror():
    """Return the mirror this machine uses."""
    entries = []
    for path in ["/etc/apt/sources.list", *sorted(glob.glob("/etc/apt/sources.list.d/*.list"))]:
        entries += lab_apt.parse_one_line(lab_host.read(path))
    for path in sorted(glob.glob("/etc/apt/sources.list.d/*.sources")):
        entries += lab_apt.parse_deb822(lab_host.read(path))
    return lab_apt.pick_mirror(lab_host.read("/etc/os-release"), entries)


def proxy_environment():
    """Return the environment with apt's own HTTP proxy, which debootstrap does not read by itself."""
    env = dict(os.environ, LC_ALL="C", DEBIAN_FRONTEND="noninteractive")
    if "http_proxy" not in env and shutil.which("apt-config"):
        dump = lab_host.call("apt-config", "dump", "--format", "%v", "Acquire::http::Proxy", check=False)
        words = dump.stdout.strip()
        if words.startswith("http"):
            env["http_proxy"] = words
    return env


def build(params, mirror, part):
    """Build in the folder ``part``."""
    os.makedirs(params["downloads"], exist_ok=True)
    # Its own mount and pid namespace: an interrupted debootstrap leaves neither a mounted /proc nor a process.
    argv = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private", "debootstrap"]
    argv += ["--variant=minbase", "--include=" + ",".join(params["packages"]), "--cache-dir=" + params["downloads"]]
    done = lab_host.call(*argv, params["suite"], part, mirror, check=False, timeout=1800, env=proxy_environment())
    if done.returncode:
        log = lab_host.read(os.path.join(part, "debootstrap/debootstrap.log")).strip().splitlines()[-8:]
        words = "\n".join([lab_host.last_words(done, 6), *log])
        raise lab_host.HostError(
            "debootstrap %s from %s ended with %d (set lab_mirror to a Debian mirror this machine reaches):\n%s"
            % (params["suite"], mirror, done.returncode, words)
        )
    # Each node has keys and an identity of its own.
    for name in [*glob.glob(part + "/etc/ssh/ssh_host_*"), part + "/etc/hostname", part + "/etc/machine-id"]:
        if os.path.exists(name):
            os.unlink(name)
    for name in glob.glob(part + "/var/cache/apt/archives/*.deb") + glob.glob(part + "/var/lib/apt/lists/*Packages*"):
        os.unlink(name)
    for point in params["mount_points"]:
        os.makedirs(os.path.join(part, point.lstrip("/")), exist_ok=True)


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "suite": {"type": "str", "required": True},
            "packages": {"type": "list", "elements": "str", "required": True},
            "mirror": {"type": "str", "default": ""},
            "downloads": {"type": "path", "required": True},
            "mount_points": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    params = module.params
    if os.path.isdir(params["path"]):
        module.exit_json(changed=False)
    mirror = params["mirror"] or machine_mirror()
    if module.check_mode:
        module.exit_json(changed=True, mirror=mirror)
    try:
        built = lab_cache.build_once(params["path"], lambda part: build(params, mirror, part))
    except (lab_host.HostError, OSError) as error:
        module.fail_json(msg=str(error))
    if built is None:
        module.exit_json(changed=False)
    module.exit_json(changed=True, mirror=mirror, seconds=built[1])


if __name__ == "__main__":
    main()
