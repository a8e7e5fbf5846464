"""An engine's store that many engines can share: its records, and one copy of its layers.

The layout is that of Docker's overlay2 driver: ``overlay2/<layer>/{diff,link}``, ``overlay2/l/<short name>`` links to
``../<layer>/diff``, and ``image/overlay2/repositories.json`` maps names to image ids
(moby: ``daemon/graphdriver/overlay2/overlay.go``, ``reference/store.go``).
"""

from __future__ import annotations

import json
import os
import shutil
import stat

# What an engine needs to know an image; the rest of a store is of the engine that made it.
KEPT = ("image", "overlay2")


class StoreError(RuntimeError):
    """A store is not as an engine leaves one after a single import."""


def share_layers(folder, mount_point, rootfs, node_path, env):
    """Turn ``folder/store``, as an engine left it, into records in ``store`` and files in ``layers``.

    Each layer becomes a link into ``mount_point``, where nodes see ``folder``. A link, not a mount: engines unmount what
    is below their store when they stop. Returns the bytes that hard links to ``rootfs`` and to ``env`` (in the image at
    ``node_path``) save. Raises :class:`StoreError`.
    """
    store, layers = os.path.join(folder, "store"), os.path.join(folder, "layers")
    for name in os.listdir(store):
        path = os.path.join(store, name)
        if name in KEPT:
            continue
        if os.path.isdir(path) and not os.path.islink(path):
            shutil.rmtree(path)
        else:
            os.unlink(path)
    driver = os.path.join(store, "overlay2")
    found = [name for name in os.listdir(driver) if os.path.isdir(os.path.join(driver, name, "diff"))]
    if len(found) != 1:
        raise StoreError("the engine's store has %d layers, expected 1: %s" % (len(found), ", ".join(sorted(found))))
    os.mkdir(layers, 0o755)
    layer = os.path.join(layers, found[0])
    os.rename(os.path.join(driver, found[0], "diff"), layer)
    os.symlink(os.path.join(mount_point, "layers", found[0]), os.path.join(driver, found[0], "diff"))
    inside = os.path.join(layer, node_path.strip("/"))
    return link_files(inside, env) + link_files(layer, rootfs, skip=inside)


def link_files(copy, source, skip=None):
    """Replace the regular files of ``copy`` with hard links to those at the same place in ``source``; return the bytes saved.

    The copy was just made from the source: a file of the same size, mode and owner is the same file. One on another file
    system, or with as many links as it can have, stays a copy.
    """
    saved = 0
    for base, folders, names in os.walk(copy):
        folders[:] = [name for name in folders if os.path.join(base, name) != skip]
        for name in names:
            path = os.path.join(base, name)
            twin = os.path.join(source, os.path.relpath(path, copy))
            try:
                have, other = os.lstat(path), os.lstat(twin)
            except OSError:
                continue
            if not stat.S_ISREG(have.st_mode) or have.st_ino == other.st_ino or not same(have, other):
                continue
            spare = path + ".plumbline-link"
            try:
                os.link(twin, spare)
            except OSError:
                continue
            os.rename(spare, path)
            saved += have.st_size if have.st_nlink == 1 else 0
    return saved


def same(one, other):
    """Say whether two files' ``stat`` results agree in what an import keeps."""
    return all(getattr(one, key) == getattr(other, key) for key in ("st_size", "st_mode", "st_uid", "st_gid", "st_dev"))


def write_record(folder, reference, image):
    """Write ``folder/record``: the entry of the image as it stands in an engine's ``repositories.json``."""
    with open(os.path.join(folder, "record"), "w", encoding="utf-8") as handle:
        handle.write("%s:%s" % (json.dumps(reference), json.dumps(image)))


def recorded(folder):
    """Return ``(reference, id)`` of the image in ``folder``, ``(None, None)`` without one."""
    try:
        with open(os.path.join(folder, "record"), encoding="utf-8") as handle:
            return next(iter(json.loads("{%s}" % handle.read()).items()))
    except (OSError, ValueError, StopIteration):
        return None, None


def write_digest(folder, digest):
    """Write ``folder/digest``: what the image's manifest is called in the registry whose files are in ``folder/registry``."""
    with open(os.path.join(folder, "digest"), "w", encoding="utf-8") as handle:
        handle.write(digest + "\n")


def digest_of(folder):
    """Return that digest, ``""`` without one."""
    try:
        with open(os.path.join(folder, "digest"), encoding="utf-8") as handle:
            return handle.read().strip()
    except OSError:
        return ""
