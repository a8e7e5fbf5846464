#!/usr/bin/python
"""Ansible module: the manifest of the model on the head node, made once and verified ever after."""

from __future__ import annotations

DOCUMENTATION = r"""
module: model_manifest
short_description: Make or verify the SHA-256 manifest of a model directory
description:
  - Without a C(manifest.json) in O(path) it hashes every file and writes one. With one, it verifies every file against it.
  - Files that a copy left which did not end (C(.plumbline-unfinished)) are no model. They get no manifest, and the fact is C(failed).
  - Returns a fact of kind C(model) for the head, and the manifest for the nodes that copy from it.
options:
  path:
    description: The model directory.
    type: path
    required: true
  rebuild:
    description: Write a new manifest when the files differ, because the model was changed on purpose.
    type: bool
    default: false
  threads:
    description: Files hashed at once; 0 takes one per CPU, at most 8.
    type: int
    default: 0
  source:
    description: Where the model came from, for the fact.
    type: str
    default: directory
attributes:
  check_mode:
    support: full
    description: Verifies, never writes; the fact is C(skipped) when there is no model yet.
author: [Plumbline]
"""

EXAMPLES = r"""
- name: Verify the model on the head
  model_manifest:
    path: /var/lib/plumbline/models/tiny-qwen2
"""

RETURN = r"""
fact:
  description: The fact; also in C(ansible_facts.plumbline.model).
  type: dict
  returned: always
manifest:
  description: The manifest, with C(schema) and C(files); empty when there is none.
  type: dict
  returned: always
chunk_hashes:
  description:
    - The SHA-256 of each chunk, base64 of all one after another, with which nodes verify what they hand on. Kept beside the manifest.
    - Empty when a file is not as the manifest says, or there is none.
  type: str
  returned: always
"""

import contextlib
import os
import time

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.plumbline.core import marks
from ansible.module_utils.plumbline.core.fact import Measurement
from ansible.module_utils.plumbline.model import chunks, store, unfinished
from ansible.module_utils.plumbline.model import manifest as manifests

AGAIN = {
    "random": "rm -r the directory and run again: the same seed makes it again",
    "hub": "-e model_sync_on_corruption=repair downloads it again",
    "blob": "-e model_sync_on_corruption=repair downloads it again",
}


def verify(measurement, path, known, threads, source):
    """Compare the files with the manifest and add the reasons; return the number of bad files."""
    difference = manifests.compare(path, known, threads)
    bad = manifests.differing(difference)
    again = AGAIN.get(source, "copy it again")
    for name in bad:
        measurement.add(
            "model.corrupt",
            "failed",
            manifests.describe(path, name, difference, known),
            "every file as the manifest beside it says",
            f"check the disk; {again}; if it was changed on purpose: -e model_sync_rebuild_manifest=true",
        )
    new = manifests.extra(path, known)
    if new:
        measurement.add(
            "model.extra_files",
            "degraded",
            f"{len(new)} files that are not in the manifest and are not copied: {', '.join(new[:5])}",
            "no other files",
            "remove them, or -e model_sync_rebuild_manifest=true to make them part of the model",
        )
    if not bad:
        measurement.add("model.verified", "healthy", f"{len(known['files'])} files as the manifest says", "every SHA-256")
    return len(bad)


def refuse(measurement, module, path, why):
    """Say that what lies in the folder is no whole model, or in check mode that it would be made again."""
    if module.check_mode and module.params["source"] == "random":
        measurement.add("check_mode", "skipped", f"{why}; it would be made again and its manifest written")
        return
    measurement.add(
        "model.unfinished",
        "failed",
        why,
        "a complete model: a manifest.json, or files that a person put there",
        "let a run that is still at it end; then run with a node that has the complete model as the head (the first of group serving),"
        " and this one copies the rest; or with the model_sync_source that it was downloaded from; or remove the folder (rm -r it, or"
        " playbooks/reset.yml with -e model_sync_reset_remove=true) and put the model there again",
    )


def settle(path):
    """Remove what an unfinished copy left beside files that are as the manifest says; who holds the lock does it itself."""
    if unfinished.is_left(path):
        with contextlib.suppress(store.Busy), store.locked(path, 0):
            store.settle(path)


def build(path, threads):
    """Return ``(manifest, hashes of its chunks)`` of a folder: reads every byte, once."""
    sizes = manifests.files_below(path)
    whole, parts = chunks.read(path, sizes, threads)
    files = {name: {"size": sizes[name], "sha256": whole[name]} for name in sorted(sizes)}
    return manifests.check({"schema": manifests.SCHEMA, "files": files}), chunks.encode(parts)


def hashes_of(path, known, threads):
    """Return ``(hashes of the chunks, whether they are new)`` of files that are as the manifest says; "" where one changed meanwhile."""
    kept = chunks.load(path, known, manifests.digest(known))
    if kept is not None:
        return kept, False
    whole, parts = chunks.read(path, {name: entry["size"] for name, entry in known["files"].items()}, threads)
    same = all(whole[name] == entry["sha256"] for name, entry in known["files"].items())
    return (chunks.encode(parts), True) if same else ("", False)


def work(module, args, measurement):
    """Fill the measurement in; return ``(manifest, hashes of its chunks, changed)``."""
    path, threads = args["path"], manifests.threads_for(args["threads"])
    if not os.path.isdir(path) or not manifests.files_below(path):
        if module.check_mode and args["source"] == "random":
            measurement.add("check_mode", "skipped", f"there is no model in {path} yet; it would be made and its manifest written")
        else:
            measurement.add(
                "model.source",
                "failed",
                f"there is no model in {path}",
                "a directory with a model's files",
                "see why the task before did not make it" if args["source"] == "random" else "copy a model there",
            )
        return {}, "", False

    started = time.monotonic()
    known, changed, bad, hashes, new = manifests.load(path), False, 0, "", False
    why = unfinished.why(path) if known is None else None
    if why:
        refuse(measurement, module, path, why)
        return {}, "", False
    if known is None or args["rebuild"]:
        fresh, hashes = build(path, threads)
        changed = new = fresh != known
        known = fresh
        if changed and not module.check_mode:
            manifests.save(path, known)
        measurement.add("model.manifest", "healthy", f"made the manifest of {len(known['files'])} files", "every file hashed")
    else:
        bad = verify(measurement, path, known, threads, args["source"])
    if not bad and not hashes:
        hashes, new = hashes_of(path, known, threads)
    if new and not module.check_mode:
        chunks.save(path, hashes, manifests.digest(known))
    if not bad and not module.check_mode:
        settle(path)
    measurement.measured = manifests.measured(known, time.monotonic() - started, bad)
    measurement.context["manifest_sha256"] = manifests.digest(known)
    if known.get("origin"):
        measurement.context["origin"] = known["origin"]
    return known, hashes, changed


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "rebuild": {"type": "bool", "default": False},
            "threads": {"type": "int", "default": 0},
            "source": {"type": "str", "default": "directory"},
        },
        supports_check_mode=True,
    )
    args = module.params
    measurement = Measurement("model", os.path.basename(args["path"].rstrip("/")))
    measurement.context = {"source": args["source"], "path": args["path"]}
    known, hashes, changed = {}, "", False
    try:
        known, hashes, changed = work(module, args, measurement)
    except (manifests.ManifestError, OSError) as error:
        measurement.add(
            "model.manifest",
            "failed",
            str(error),
            "a manifest that can be read and written",
            "check the disk; with files that are known to be good: rm manifest.json and run again",
        )
    module.exit_json(changed=changed, manifest=known, chunk_hashes=hashes, **measurement.result())


if __name__ == "__main__":
    marks.belong(marks.measuring())  # reset finds it, and what it started, when its connection is lost
    main()
