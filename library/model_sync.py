#!/usr/bin/python
"""Ansible module: bring this node's copy of a model to the manifest's state, pulling along a chain of nodes over ssh."""

from __future__ import annotations

DOCUMENTATION = r"""
module: model_sync
short_description: Verify a model against a manifest and pull what is missing along a chain of nodes
description:
  - Compares every file in O(path) with O(manifest). With O(copy) it pulls what is missing, unfinished or outdated, verifies it, and writes
    C(manifest.json) last.
  - It pulls over ssh from the node before it in O(chain), chunk by chunk as soon as that one has them, each verified by its SHA-256. A
    node that is dead, slow, or hands out other bytes is passed by; the first of the chain, the source, is the last resort.
  - What came is kept in the hidden folder C(.plumbline-sync) of the model's until the copy is complete, so that a killed copy goes on
    within a file. Two runs on one node wait for each other.
  - Files that are not in the manifest make the fact C(degraded), as a server may load them. Those of the model that was copied here before
    are removed when all files are as the manifest says, and the fact says so; no other file ever is.
  - A file that differs from the manifest of an earlier, completed copy was damaged since. That is a failed verdict, not
    something to paper over, unless O(on_corruption=repair).
options:
  path:
    description: The model directory, the same on each node.
    type: path
    required: true
  manifest:
    description: The source's manifest, from C(model_manifest); empty when it has none.
    type: dict
    required: true
  chunk_hashes:
    description: The source's hashes of the chunks, from C(model_manifest).
    type: str
    default: ""
  source_status:
    description: The status of the source's own fact. Nothing is pulled from a source that is V(failed).
    type: str
    default: ""
  copy:
    description:
      - V(false) only compares; a file that is to be copied makes the fact C(incomplete) until it is.
      - Where all are as they should be, C(manifest.json) is brought up to date, and what earlier copies left is removed, all the same.
    type: bool
    default: true
  only:
    description: Files to look at, where the others were compared already; empty for all.
    type: list
    elements: str
    default: []
  chain:
    description: Names of the source, and then of the nodes that pull, in the order in which they hand on.
    type: list
    elements: str
    default: []
  addresses:
    description: The address of each of O(chain).
    type: list
    elements: str
    default: []
  node:
    description: This node's name in O(chain).
    type: str
    default: ""
  user:
    description: The user to log in to the others as.
    type: str
    default: root
  ssh_config:
    description: An ssh_config(5) with the key and the host keys of the others, from C(ssh_key). Its folder is removed when the copy ends.
    type: path
  streams:
    description: Connections to the node before, at once.
    type: int
    default: 2
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
- name: Pull the model along the chain
  model_sync:
    path: /var/lib/plumbline/models/tiny-qwen2
    manifest: "{{ hostvars[head].manifest_result.manifest }}"
    chunk_hashes: "{{ hostvars[head].manifest_result.chunk_hashes }}"
    chain: [node1, node2]
    addresses: [10.98.0.11, 10.98.0.12]
    node: node2
    ssh_config: "{{ key_result.config }}"
"""

RETURN = r"""
fact:
  description:
    - The fact; also in C(ansible_facts.plumbline.model).
    - "measured: files, size_bytes, transferred_bytes, transfer_s, transfer_gbps, resumed_bytes, sources, verify_s, corrupt_files."
  type: dict
  returned: always
wanted:
  description: Names of the files that are to be copied, and may be.
  type: list
  elements: str
  returned: always
pending:
  description: Whether the fact is no verdict yet, since the copy of what is wanted is still to come.
  type: bool
  returned: always
"""

import contextlib
import json
import os
import shutil
import time

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.plumbline.core import marks
from ansible.module_utils.plumbline.core.fact import Measurement
from ansible.module_utils.plumbline.core.files import write_atomically
from ansible.module_utils.plumbline.machine import ssh
from ansible.module_utils.plumbline.model import chain as chains
from ansible.module_utils.plumbline.model import chunks, peer, store, unfinished
from ansible.module_utils.plumbline.model import manifest as manifests
from ansible.module_utils.plumbline.model.chunk_server import PROGRESS


class Sync:
    """One node's copy: what differs, and how to mend it."""

    def __init__(self, module, measurement):
        self.module, self.measurement, self.args = module, measurement, module.params
        self.path = self.args["path"]
        self.manifest = self.args["manifest"]
        self.threads = manifests.threads_for(self.args["threads"])
        self.verify_s = 0.0
        self.changed = False
        self.old = None  # the manifest of the last completed copy
        self.wanted = []  # what is to be copied and may be
        self.source = f"{self.args['chain'][0] if self.args['chain'] else 'the head'}:{self.path}"

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
        wanted, stale = self.look()
        if self.module.check_mode:
            self.changed = bool(wanted) or stale
            if wanted:
                self.foretell(wanted)
        elif wanted and not self.args["copy"]:
            self.announce(wanted)
        elif wanted:
            self.bring()
        elif wanted is not None and stale:
            # Who holds the lock may be replacing these very files: it writes the manifest, or the next run does.
            with contextlib.suppress(store.Busy), store.locked(self.path, 0):
                self.settle()
        if wanted == []:
            self.verified(0)
        self.name_extra_files(to_go=self.obsolete() if wanted or (wanted == [] and self.module.check_mode) else [])

    def look(self):
        """Compare; return ``(names to copy, whether the manifest beside them is an old one)``, None for names where damage forbids it."""
        known = self.manifest
        if self.args["only"]:
            known = dict(known, files={name: known["files"][name] for name in self.args["only"] if name in known["files"]})
        old, marked = self.old_manifest()
        self.old = old
        difference = self.compare(known)
        damaged = manifests.damaged(difference, old, self.manifest)
        self.measurement.measured["corrupt_files"] = len(damaged)
        if damaged and not self.may_repair(damaged, difference):
            return None, False
        return manifests.differing(difference), not marked or old != self.manifest or unfinished.is_left(self.path)

    def obsolete(self):
        """Return the names of files of the earlier model, copied here and not in this one: a server might load them, and not these."""
        ours, here = unfinished.ours(self.path, self.old), os.path.realpath(self.path)

        def is_here(name):  # not in a linked folder, which keeps it elsewhere
            return os.path.join(os.path.realpath(os.path.join(self.path, os.path.dirname(name))), "").startswith(os.path.join(here, ""))

        return [name for name in manifests.extra(self.path, self.manifest) if name in ours and is_here(name)]

    def remove_obsolete(self):
        """Remove them and say so. Under the lock, when all files are as the manifest says and before the earlier manifest is replaced."""
        names = self.obsolete()
        for name in names:
            os.remove(os.path.join(self.path, name))
        if names:
            self.measurement.add(
                "model.removed", "healthy", f"removed {len(names)} files of the model that was here before: {', '.join(names[:5])}",
                "no files but the manifest's",
            )  # fmt: skip

    def name_extra_files(self, to_go):
        """Name the files that are not the model's, but for those that are ``to_go`` when the copy is complete."""
        names = [name for name in manifests.extra(self.path, self.manifest) if name not in to_go]
        if names:
            self.measurement.add(
                "model.extra_files", "degraded", f"{len(names)} files that are not in the manifest: {', '.join(names[:5])}",
                "no other files", f"remove them from {self.path}: a server may load them",
            )  # fmt: skip
        if to_go and self.module.check_mode:
            self.measurement.add(
                "check_mode", "skipped", f"{len(to_go)} files of the earlier model would be removed: {', '.join(to_go[:5])}"
            )

    def settle(self):
        """Say beside files that are all as the manifest says that they are. Under the lock."""
        self.remove_obsolete()
        manifests.save(self.path, self.manifest)
        store.settle(self.path)
        self.changed = True

    def verified(self, copied):
        self.measurement.add(
            "model.verified",
            "healthy",
            manifests.verified(len(self.manifest["files"]), copied),
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
        size = manifests.size_bytes(self.manifest, wanted)
        self.has_room(self.needed(wanted), wanted)
        self.measurement.add("check_mode", "skipped", f"{len(wanted)} files, {size} bytes, would be copied from {self.source}")

    def needed(self, wanted):
        """Return the bytes for which there has to be room."""
        return max(0, manifests.size_bytes(self.manifest, wanted) - store.kept_bytes(self.path, self.manifest))

    def announce(self, wanted):
        """Say what is to be copied; from a source that is known to be bad nothing is."""
        size = manifests.size_bytes(self.manifest, wanted)
        if not self.source_is_good():
            return
        # A node without room is told so now: it makes no key, and nobody waits for it.
        if not self.has_room(self.needed(wanted), wanted):
            return
        self.wanted = wanted
        self.measurement.add(
            "model.copy", "incomplete", f"{len(wanted)} files, {size} bytes, are still to be copied", "every file copied",
            "see why the tasks after the comparison did not copy them",
        )  # fmt: skip

    def source_is_good(self):
        if self.args["source_status"] not in ("failed", "incomplete") and self.args["chunk_hashes"]:
            return True
        self.measurement.add(
            "model.source", "incomplete", "the head's own copy is not as its manifest says, so that nothing was pulled from it",
            "a head whose files are verified", "see the head's own verdict, mend its copy, and run it again",
        )  # fmt: skip
        return False

    def bring(self):
        """Copy under the folder's lock; another run may have copied all of it meanwhile."""
        os.umask(0o022)  # the user whom the others log in as reads what is here
        try:
            if not self.can_copy():
                return
            with store.locked(self.path, self.args["timeout_s"]):
                with contextlib.suppress(FileNotFoundError):  # an earlier run's note would have this one taken for stalled
                    os.remove(os.path.join(self.path, store.WORK, PROGRESS))
                self.measurement.reasons = [item for item in self.measurement.reasons if item["check"] != "model.corrupt"]
                wanted, stale = self.look()
                if wanted:
                    self.copy(wanted)
                elif wanted is not None:
                    if stale:
                        self.settle()
                    self.verified(0)
        except store.Busy as error:
            self.measurement.add("model.busy", "incomplete", str(error), "one run at a time", "let it end, or end it, and run this again")

    def can_copy(self):
        args = self.args
        if not self.source_is_good():
            return False
        if not shutil.which("ssh"):
            self.measurement.add("model.ssh", "failed", "ssh is not installed", "an ssh client", "install openssh-client")
            return False
        if not args["ssh_config"] or not os.path.exists(args["ssh_config"]) or len(self.upstream()) == 0:
            self.measurement.add(
                "model.ssh", "failed", f"no key and host keys of the head in {args['ssh_config'] or '(nothing)'}", "both",
                "see the tasks before; the head must be part of the run (--limit)",
            )  # fmt: skip
            return False
        return True

    def upstream(self):
        """Return ``[(name, address)]`` of the nodes before this one, the nearest first."""
        nodes, node = list(zip(self.args["chain"], self.args["addresses"])), self.args["node"]
        place = self.args["chain"].index(node) if node in self.args["chain"] else 1
        return nodes[:place][::-1]

    def copy(self, wanted):
        """Copy files and verify them, and say how it went."""
        measurement = self.measurement
        hashes = chunks.decode(self.args["chunk_hashes"], self.manifest)
        if hashes is None:
            measurement.add(
                "model.source", "incomplete", "the head's hashes of the chunks are not those of its manifest", "a hash for each chunk",
                "run it again; the head's files changed meanwhile",
            )  # fmt: skip
            return
        self.changed = True
        here = store.Store(self.path, self.manifest, hashes, wanted)
        here.prepare()
        if not self.has_room(here.missing_bytes(), wanted):
            here.discard_empty()
            return
        # From here to the end the copy is not complete, so what a broken transfer leaves is no damage; nor is it a model.
        unfinished.begin(self.path, self.manifest, self.old)
        marker = os.path.join(self.path, manifests.NAME)
        if os.path.exists(marker):
            os.remove(marker)
        here.take_over()
        self.pull(here)

    def has_room(self, needed, wanted):
        free = manifests.free_bytes(self.path)
        if needed > free:
            self.measurement.add(
                "model.disk", "failed", f"{free} bytes free at {self.path}, {needed} bytes needed for {len(wanted)} files",
                f"at least {needed} bytes", "free space on this node, or set model_sync_path to a larger disk",
            )  # fmt: skip
        return needed <= free

    def pull(self, here):
        """Run the chain, keep what it measured whatever came of it, and judge."""
        measurement, args, needed = self.measurement, self.args, here.missing_bytes()
        measurement.measured["resumed_bytes"] = manifests.size_bytes(self.manifest, here.wanted) - needed
        upstreams = [self.reach(here, *node) for node in self.upstream()]
        chain = chains.Chain(here, upstreams, args["streams"], self.threads, lambda said: self.report(here, said))
        measurement.command = " <- ".join([args["node"], *(item.name for item in upstreams)])
        measurement.context["method"] = "chain"
        started, trouble = time.monotonic(), None
        try:
            chain.run(started + args["timeout_s"])
        except (chains.NoSource, TimeoutError, OSError) as error:
            trouble = error
        finally:
            self.keep(chain, time.monotonic() - started)
        if trouble is not None:
            self.explain(trouble, needed)
        for name, seen in sorted(chain.bad_files.items()):
            wrong = manifests.describe(self.path, name, {"missing": [], "size": {}, "hash": {name: seen}}, self.manifest)
            measurement.add(
                "model.verify", "failed", f"after the copy: {wrong}", "the manifest's SHA-256",
                "see the head's own verdict: its file may be damaged; else check this node's disk and memory",
            )  # fmt: skip
        if trouble is None and not chain.bad_files:
            self.remove_obsolete()
            here.complete()
            self.passed_by(chain)
            self.verified(len(here.wanted))

    def reach(self, here, name, address):
        """Return a node as one to pull from."""
        argv = peer.ssh_argv(self.args["ssh_config"], self.args["user"], address)

        def connect(given_up):
            return peer.Connection(argv, self.path, here.digest, here.chunk_bytes, given_up)

        return chains.Upstream(name, connect)

    def report(self, here, said):
        """Say how far the copy is, for who looks while it runs."""
        # With the time, so that a note which does not change is a dead one's.
        write_atomically(os.path.join(here.work, PROGRESS), json.dumps(dict(said, at=time.time())))

    def keep(self, chain, took_s):
        """Note what was moved, from whom and how fast."""
        measured = self.measurement.measured
        measured["transfer_s"] = round(took_s, 3)
        measured["transferred_bytes"] = chain.moved
        measured["transfer_gbps"] = round(chain.moved * 8 / took_s / 1e9, 6) if took_s > 0 else 0.0
        measured["sources"] = {
            item.name: {"bytes": item.bytes, "corrupt_chunks": item.corrupt, "left_because": "; ".join(item.said)}
            for item in chain.upstreams
            if item.bytes or item.said
        }

    def passed_by(self, chain):
        """Name the nodes that were passed by. They are no fault of this node's."""
        if chain.faults():
            self.measurement.add(
                "model.route", "healthy", "passed by on the way: " + " / ".join(chain.faults()), None,
                "look at these nodes and at their sshd's port, which the others must reach",
            )  # fmt: skip

    def explain(self, trouble, needed):
        check, seen, remedy = peer.explain(str(trouble), self.source, self.args["user"])
        if check == "model.disk":
            seen += f"; {manifests.free_bytes(self.path)} bytes free now, {needed} bytes needed"
        self.measurement.add(check, "failed", seen, "every file copied", remedy)


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "manifest": {"type": "dict", "required": True},
            "chunk_hashes": {"type": "str", "default": ""},
            "source_status": {"type": "str", "default": ""},
            "copy": {"type": "bool", "default": True},
            "only": {"type": "list", "elements": "str", "default": []},
            "chain": {"type": "list", "elements": "str", "default": []},
            "addresses": {"type": "list", "elements": "str", "default": []},
            "node": {"type": "str", "default": ""},
            "user": {"type": "str", "default": "root"},
            "ssh_config": {"type": "path"},
            "streams": {"type": "int", "default": 2},
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
            measurement.add("check_mode", "skipped", f"{sync.source} has no manifest yet; the whole model would be copied")
        else:
            measurement.add(
                "model.source",
                "incomplete",
                f"there is no manifest from the head ({sync.source}), so nothing to verify against",
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
    finally:
        # Whatever became of it, another run that has copied all of it before included.
        if args["ssh_config"] and not module.check_mode:
            ssh.forget(args["ssh_config"])
    module.exit_json(changed=sync.changed, wanted=sync.wanted, pending=bool(sync.wanted), **measurement.result())


if __name__ == "__main__":
    marks.belong(marks.measuring())  # reset finds it, and what it started, when its connection is lost
    main()
