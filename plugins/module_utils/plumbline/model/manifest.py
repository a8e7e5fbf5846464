"""The manifest of a model directory: every file with its size and SHA-256, and what differs from it.

``manifest.json`` lies in the model directory and is written last, so it is also the mark of a completed
copy: a file that differs from the manifest beside it was damaged afterwards.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
from concurrent.futures import ThreadPoolExecutor

from ..core.files import write_atomically

NAME = "manifest.json"
SCHEMA = "plumbline.manifest/1"
CHUNK = 4 * 1024 * 1024  # bytes read at once: hashlib drops the GIL, so threads hash in parallel


class ManifestError(Exception):
    """A manifest that cannot be used; the text says what was seen and expected."""


def sha256_of(path):
    """Return the SHA-256 of a file as hex digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as data:
        while True:
            chunk = data.read(CHUNK)
            if not chunk:
                return digest.hexdigest()
            digest.update(chunk)


def hash_files(folder, names, threads):
    """Return ``{name: SHA-256}`` of files below ``folder``; a file that cannot be read has ``unreadable: <why>``."""

    def one(name):
        try:
            return sha256_of(os.path.join(folder, name))
        except OSError as error:
            return f"unreadable: {error.strerror}"

    names = sorted(names)
    with ThreadPoolExecutor(max_workers=max(1, threads)) as pool:
        return dict(zip(names, pool.map(one, names)))


def files_below(folder):
    """Return ``{relative name: size in bytes}`` of the files of a model, links followed.

    Hidden files and folders (``.cache``, ``.git``, unfinished copies) and the manifest are no part of a model.
    """
    found = {}
    for base, folders, names in os.walk(folder, followlinks=True):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            path = os.path.join(base, name)
            relative = os.path.relpath(path, folder)
            if not name.startswith(".") and relative != NAME and os.path.isfile(path):
                found[relative] = os.path.getsize(path)
    return found


def build(folder, threads):
    """Return the manifest of a folder: reads every byte."""
    sizes = files_below(folder)
    hashes = hash_files(folder, sizes, threads)
    for name, value in hashes.items():
        if value.startswith("unreadable"):
            raise ManifestError(f"{os.path.join(folder, name)}: {value}")
    return {"schema": SCHEMA, "files": {name: {"size": sizes[name], "sha256": hashes[name]} for name in sorted(sizes)}}


def encode(manifest):
    """Return the one text of a manifest, as bytes; its SHA-256 names the model's content."""
    return (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode("utf-8")


def digest(manifest):
    """Return the SHA-256 of :func:`encode`."""
    return hashlib.sha256(encode(manifest)).hexdigest()


def check(manifest):
    """Return ``manifest`` when it can be used, else raise ManifestError.

    Names come from another machine and become paths here: absolute ones, hidden ones and those that leave
    the folder are refused.
    """
    if not isinstance(manifest, dict) or manifest.get("schema") != SCHEMA:
        seen = manifest.get("schema") if isinstance(manifest, dict) else type(manifest).__name__
        raise ManifestError(f"not a manifest: schema {seen!r}, expected {SCHEMA!r}")
    files = manifest.get("files")
    if not isinstance(files, dict) or not files:
        raise ManifestError("a manifest without files")
    for name, entry in files.items():
        parts = name.split("/")
        if os.path.isabs(name) or any(part == "" or part.startswith(".") for part in parts) or "\n" in name or name == NAME:
            raise ManifestError(f"a file name that is not allowed: {name!r}")
        if not isinstance(entry, dict) or not isinstance(entry.get("size"), int) or entry["size"] < 0:
            raise ManifestError(f"{name}: no size")
        value = entry.get("sha256")
        if not isinstance(value, str) or len(value) != 64 or set(value) - set("0123456789abcdef"):
            raise ManifestError(f"{name}: not a SHA-256: {value!r}")
    return manifest


def load(folder):
    """Return the manifest in a folder, None when there is none; ManifestError when it is damaged."""
    path = os.path.join(folder, NAME)
    try:
        with open(path, encoding="utf-8") as text:
            return check(json.load(text))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise ManifestError(f"{path}: {error}") from error


def to_disk(path):
    """Wait until a file's bytes, or a folder's names, are on the disk; one that is not there is no matter. Raises OSError."""
    try:
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system that cannot do it for this kind
            raise
    finally:
        os.close(handle)


def save(folder, manifest):
    """Write the manifest so that it is there whole or not at all, and on the disk before its name is.

    What it promises is on the disk before it: else a loss of power would leave a manifest beside files that are not as it says.
    """
    paths, at = set(manifest["files"]), set(manifest["files"])
    while at:  # the folders above, as each has the name of the one below
        at = {os.path.dirname(path) for path in at} - {""}
        paths |= at
    for path in [*sorted(paths), ""]:
        to_disk(os.path.join(folder, path))
    write_atomically(os.path.join(folder, NAME), encode(manifest), durable=True)
    to_disk(folder)


def size_bytes(manifest, names=None):
    """Return the bytes of all files of a manifest, or of some."""
    return sum(manifest["files"][name]["size"] for name in (manifest["files"] if names is None else names))


def measured(manifest, verify_s=0.0, corrupt_files=0):
    """Return a model fact's ``measured``, with nothing transferred yet; ``verify_s`` in seconds."""
    return {
        "files": len(manifest["files"]),
        "size_bytes": size_bytes(manifest),
        "transferred_bytes": 0,
        "transfer_s": 0.0,
        "verify_s": round(verify_s, 3),
        "corrupt_files": corrupt_files,
    }


def threads_for(asked):
    """Return how many files to hash at once: ``asked``, or with 0 one for each CPU, at most 8."""
    return asked or min(8, os.cpu_count() or 1)


def compare(folder, manifest, threads):
    """Return what differs: ``{"missing": [names], "size": {name: bytes}, "hash": {name: SHA-256 seen}}``.

    Only files of the right size are read.
    """
    missing, size, same = [], {}, []
    for name, entry in sorted(manifest["files"].items()):
        path = os.path.join(folder, name)
        if not os.path.isfile(path):
            missing.append(name)
        elif os.path.getsize(path) != entry["size"]:
            size[name] = os.path.getsize(path)
        else:
            same.append(name)
    hashes = hash_files(folder, same, threads)
    wrong = {name: seen for name, seen in hashes.items() if seen != manifest["files"][name]["sha256"]}
    return {"missing": missing, "size": size, "hash": wrong}


def extra(folder, manifest):
    """Return the names of files of a folder that are not in its manifest: a server may load them all the same."""
    return sorted(set(files_below(folder)) - set(manifest["files"]))


def differing(difference):
    """Return the names of all files that differ, of what :func:`compare` returns."""
    return sorted([*difference["missing"], *difference["size"], *difference["hash"]])


def damaged(difference, old, manifest):
    """Return the names that were damaged after a completed copy.

    ``old`` is the manifest found beside the files (None: no completed copy). A file is damaged when that
    manifest promised the very content that is wanted and it is not there any more; when it promised
    something else, the model on the head is a newer one and the file is merely old. A missing file is
    no damage: somebody removed it.
    """
    if old is None:
        return []
    return sorted(
        name
        for name in [*difference["hash"], *difference["size"]]
        if old["files"].get(name, {}).get("sha256") == manifest["files"][name]["sha256"]
    )


def verified(files, copied=0):
    """Return the sentence on a copy each of whose files was hashed and is as the manifest says."""
    return f"{files} files as the manifest says, {copied} of them copied now"


def describe(folder, name, difference, manifest):
    """Return a sentence on one file that differs: expected and seen."""
    entry = manifest["files"][name]
    path = os.path.join(folder, name)
    if name in difference["missing"]:
        return f"{path}: missing"
    if name in difference["size"]:
        return f"{path}: size {difference['size'][name]} bytes, expected {entry['size']}"
    return f"{path}: SHA-256 {difference['hash'][name]}, expected {entry['sha256']}"


def free_bytes(path):
    """Return the bytes free for an ordinary process where ``path`` is, or will be."""
    while not os.path.exists(path):
        path = os.path.dirname(path)
    room = os.statvfs(path)
    return room.f_bavail * room.f_frsize
