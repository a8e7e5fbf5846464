#!/usr/bin/python
"""Ansible module: bring this node's copy of a model to the manifest's state, pulling from the head over ssh."""

from __future__ import annotations

DOCUMENTATION = r"""
module: model_sync
short_description: Verify a model against a manifest and pull what is missing from the head
description:
  - Compares every file in O(path) with O(manifest), pulls what is missing, unfinished or outdated with rsync over ssh,
    verifies what came, and writes C(manifest.json) last.
  - A file that differs from the manifest of an earlier, completed copy was damaged since. That is a failed verdict, not
    something to paper over, unless O(on_corruption=repair).
options:
  path:
    description: The model directory on this node.
    type: path
    required: true
  manifest:
    description: The head's manifest, from C(model_manifest); empty when the head has none.
    type: dict
    required: true
  source_host:
    description: The head's address as this node sees it.
    type: str
    required: true
  source_port:
    description: The head's ssh port.
    type: int
    default: 22
  source_user:
    description: The user to log in to the head as.
    type: str
    default: root
  source_path:
    description: The model directory on the head.
    type: path
    required: true
  identity_file:
    description: This node's private key that the head accepts.
    type: path
    required: true
  host_keys:
    description: The head's public host keys, C(type base64) each.
    type: list
    elements: str
    required: true
  on_corruption:
    description: Report damaged files, or copy them again and call the node degraded.
    type: str
    default: fail
    choices: [fail, repair]
  threads:
    description: Files hashed at once; 0 takes one per CPU, at most 8.
    type: int
    default: 0
  timeout_s:
    description: Seconds for the transfer.
    type: int
    default: 3600
attributes:
  check_mode:
    support: full
    description: Compares, and says what would be copied.
author: [Plumbline]
"""

EXAMPLES = r"""
- name: Pull the model from the head
  model_sync:
    path: /var/lib/plumbline/models/tiny-qwen2
    source_host: 10.98.0.11
    source_path: /var/lib/plumbline/models/tiny-qwen2
    manifest: "{{ hostvars[head].manifest }}"
    identity_file: /var/lib/plumbline/model_sync/id_ed25519
    host_keys: "{{ hostvars[head].host_keys }}"
"""

RETURN = r"""
fact:
  description:
    - The fact; also in C(ansible_facts.plumbline.model).
    - "measured: files, size_bytes, transferred_bytes, transfer_s, verify_s, corrupt_files."
  type: dict
  returned: always
"""

import os
import shlex
import shutil
import subprocess
import time

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.plumbline.core import marks, processes
from ansible.module_utils.plumbline.core.fact import Measurement
from ansible.module_utils.plumbline.machine import ssh
from ansible.module_utils.plumbline.model import manifest as manifests
from ansible.module_utils.plumbline.model import pull as manifest_pull


def run_bounded(command, timeout_s):
    """Run a command in its own process group; return ``(status or None at the timeout, stdout, stderr)``."""
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True, errors="replace", start_new_session=True, env=dict(os.environ, LC_ALL="C"),
    )  # fmt: skip
    try:
        out, err = process.communicate(timeout=timeout_s)
        return process.returncode, out, err
    except subprocess.TimeoutExpired:
        processes.end_group(process)
        out, err = process.communicate()
        return None, out, err


class Sync:
    """One node's copy: what differs, and how to mend it."""

    def __init__(self, module, measurement):
        self.module, self.measurement, self.args = module, measurement, module.params
        self.path = self.args["path"]
        self.manifest = self.args["manifest"]
        self.threads = manifests.threads_for(self.args["threads"])
        self.verify_s = 0.0
        self.changed = False
        self.source = f"{self.args['source_host']}:{self.args['source_path']}"

    def compare(self, manifest):
        started = time.monotonic()
        difference = manifests.compare(self.path, manifest, self.threads)
        self.verify_s += time.monotonic() - started
        self.measurement.measured["verify_s"] = round(self.verify_s, 3)
        return difference

    def run(self):
        """Fill the measurement in, and set ``changed`` (in check mode: whether it would be)."""
        measurement = self.measurement
        measurement.context["manifest_sha256"] = manifests.digest(self.manifest)
        measurement.measured = manifests.measured(self.manifest)
        old, marked = self.old_manifest()
        difference = self.compare(self.manifest)
        wanted = manifests.differing(difference)
        damaged = manifests.damaged(difference, old, self.manifest)
        measurement.measured["corrupt_files"] = len(damaged)
        if damaged and not self.may_repair(damaged, difference):
            return
        stale = not marked or old != self.manifest
        if self.module.check_mode:
            self.foretell(wanted)
            self.changed = bool(wanted) or stale
            return
        if wanted and not self.pull(wanted):
            return
        if stale or wanted:
            manifests.save(self.path, self.manifest)
            self.changed = True
        measurement.add(
            "model.verified",
            "healthy",
            f"{len(self.manifest['files'])} files as the manifest says, {len(wanted)} of them copied now",
            "every SHA-256",
        )

    def old_manifest(self):
        """Return ``(manifest of the last completed copy or None, whether its file is there)``."""
        try:
            old = manifests.load(self.path)
        except manifests.ManifestError as error:
            # All files are compared with the head's manifest anyway; the marker is made anew.
            self.measurement.add("model.marker", "degraded", str(error), "a readable manifest", "check the disk")
            return None, False
        return old, old is not None

    def may_repair(self, damaged, difference):
        """Add a reason per damaged file; return whether to go on and copy them again."""
        repair = self.args["on_corruption"] == "repair"
        for name in damaged:
            self.measurement.add(
                "model.corrupt",
                "degraded" if repair else "failed",
                manifests.describe(self.path, name, difference, self.manifest),
                "unchanged since a completed copy",
                "copied again; check the disk (smartctl, dmesg)"
                if repair
                else "check the disk (smartctl, dmesg), then -e model_sync_on_corruption=repair",
            )
        return repair

    def foretell(self, wanted):
        if not wanted:
            self.measurement.add(
                "model.verified",
                "healthy",
                f"{len(self.manifest['files'])} files as the manifest says",
                "every SHA-256",
            )
            return
        size = manifests.size_bytes(self.manifest, wanted)
        self.measurement.add(
            "check_mode",
            "skipped",
            f"{len(wanted)} files, {size} bytes, would be copied from {self.source}",
            None,
            None,
        )

    def pull(self, wanted):
        """Copy files and verify them; return whether all is well."""
        measurement, args = self.measurement, self.args
        needed = manifests.size_bytes(self.manifest, wanted)
        free = manifests.free_bytes(self.path)
        if needed > free:
            measurement.add(
                "model.disk",
                "failed",
                f"{free} bytes free at {self.path}, {needed} bytes needed for {len(wanted)} files",
                f"at least {needed} bytes",
                "free space on this node, or set model_sync_path to a larger disk",
            )
            return False
        if not shutil.which("rsync") or not shutil.which("ssh"):
            measurement.add("model.rsync", "failed", "rsync or ssh is not installed", "both", "install rsync and openssh-client")
            return False
        if not args["host_keys"] or not os.path.exists(args["identity_file"]):
            measurement.add(
                "model.ssh", "failed", f"no host keys of the head, or no key {args['identity_file']} on this node", "both",
                "see the tasks before; the head must be part of the run (--limit)",
            )  # fmt: skip
            return False
        self.changed = True
        os.makedirs(self.path, mode=0o755, exist_ok=True)
        # From here to the end the copy is not complete, so what a broken transfer leaves is no damage.
        marker = os.path.join(self.path, manifests.NAME)
        if os.path.exists(marker):
            os.remove(marker)
        status, took_s, out, err = self.rsync(wanted)
        measurement.measured["transfer_s"] = round(took_s, 3)
        measurement.measured["transferred_bytes"] = manifest_pull.received_bytes(out) or 0
        if status != 0:
            check, seen, remedy = manifest_pull.explain(status, err, self.source)
            if check == "model.disk":
                seen += f"; {manifests.free_bytes(self.path)} bytes free now, {needed} bytes needed"
            measurement.add(check, "failed", seen, "every file copied", remedy)
            return False
        part = dict(self.manifest, files={name: self.manifest["files"][name] for name in wanted})
        difference = self.compare(part)
        for name in manifests.differing(difference):
            text = manifests.describe(self.path, name, difference, part)
            measurement.add(
                "model.verify", "failed", f"after the copy: {text}", "the manifest's SHA-256",
                "see the head's own verdict: its file may be damaged; else check this node's disk and memory",
            )  # fmt: skip
        return not any(difference.values())

    def rsync(self, wanted):
        args, folder = self.args, self.module.tmpdir
        listed = os.path.join(folder, "model_sync.files")
        known = os.path.join(folder, "model_sync.known_hosts")
        with open(listed, "w", encoding="utf-8") as text:
            text.write("".join(name + "\n" for name in wanted))
        with open(known, "w", encoding="utf-8") as text:
            text.write(ssh.known_hosts_text(args["source_host"], args["source_port"], args["host_keys"]))
        command = manifest_pull.rsync_command(
            args["source_user"], args["source_host"], args["source_path"], self.path, listed,
            ssh.command(args["source_port"], args["identity_file"], known),
        )  # fmt: skip
        self.measurement.command = shlex.join(command)
        started = time.monotonic()
        try:
            status, out, err = run_bounded(command, args["timeout_s"])
        finally:
            os.remove(listed)
            os.remove(known)
        return status, time.monotonic() - started, out, err


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "manifest": {"type": "dict", "required": True},
            "source_host": {"type": "str", "required": True},
            "source_port": {"type": "int", "default": 22},
            "source_user": {"type": "str", "default": "root"},
            "source_path": {"type": "path", "required": True},
            "identity_file": {"type": "path", "required": True},
            "host_keys": {"type": "list", "elements": "str", "required": True, "no_log": False},
            "on_corruption": {"type": "str", "default": "fail", "choices": ["fail", "repair"]},
            "threads": {"type": "int", "default": 0},
            "timeout_s": {"type": "int", "default": 3600},
        },
        supports_check_mode=True,
    )
    args = module.params
    measurement = Measurement("model", os.path.basename(args["path"].rstrip("/")))
    sync = Sync(module, measurement)
    measurement.context = {"source": sync.source, "path": args["path"]}
    try:
        if args["manifest"]:
            manifests.check(args["manifest"])
            sync.run()
        elif module.check_mode:
            measurement.add("check_mode", "skipped", f"{args['source_host']} has no manifest yet; the whole model would be copied")
        else:
            measurement.add(
                "model.source",
                "incomplete",
                f"there is no manifest from the head ({args['source_host'] or 'no head'}), so nothing to verify against",
                "the head's manifest",
                "see the head's own verdict; the head must be part of the run (--limit)",
            )
    except manifests.ManifestError as error:
        module.fail_json(msg=f"manifest: {error}")
    except OSError as error:
        measurement.add(
            "model.files",
            "failed",
            str(error),
            "a directory that can be read and written",
            "check the disk and its mounts",
        )
    module.exit_json(changed=sync.changed, **measurement.result())


if __name__ == "__main__":
    marks.belong(marks.measuring())  # reset finds it, and what it started, when its connection is lost
    main()
