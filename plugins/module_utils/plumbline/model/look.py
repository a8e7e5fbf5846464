"""The program that hashes a node's copy of a model: sent as text to the node, it says whether every file is as its manifest says.

The first look at each node, in every run: Ansible's own module takes a node several times as long to start. It asks one question, which
a node with a completed copy answers with yes; any other answer has the module look, which says what is wrong. Standard library only.
"""

from __future__ import annotations

import hashlib
import json
import os
import resource
import sys
import time
from concurrent.futures import ThreadPoolExecutor

LOCKS = 10  # RLIMIT_LOCKS, in which core/marks.py keeps the number by which reset finds what measures


def sha256_of(path):
    """Return the SHA-256 of a file as hex digits."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        for data in iter(lambda: stream.read(4 * 1024 * 1024), b""):
            digest.update(data)
    return digest.hexdigest()


def names_below(folder):
    """Return the relative names of the files of a model, as ``files_below`` of :mod:`manifest`: links followed, nothing hidden."""
    found = set()
    for base, folders, names in os.walk(folder, followlinks=True):
        folders[:] = [name for name in folders if not name.startswith(".")]
        paths = [os.path.join(base, name) for name in names if not name.startswith(".")]
        found |= {os.path.relpath(path, folder) for path in paths if os.path.isfile(path)}
    return found - {"manifest.json"}


def is_whole(folder, digest, threads):
    """Tell whether the manifest in ``folder`` has the SHA-256 ``digest``, and each of its files its own. Reads every byte."""
    if os.path.lexists(os.path.join(folder, ".plumbline-unfinished")):
        return False  # a copy was ended just before its end: the module removes the mark
    if os.path.isdir(os.path.join(folder, ".plumbline-sync")) and os.listdir(os.path.join(folder, ".plumbline-sync")):
        return False  # as large as the model, perhaps, and of no use any more: the module removes it
    with open(os.path.join(folder, "manifest.json"), "rb") as stream:
        text = stream.read()
    if hashlib.sha256(text).hexdigest() != digest:
        return False
    files = json.loads(text.decode("utf-8"))["files"]
    if names_below(folder) - set(files):
        return False  # an old index or shard beside them may be what is loaded: the module removes or names them
    paths = {name: os.path.join(folder, name) for name in files}
    if any(os.path.getsize(paths[name]) != entry["size"] for name, entry in files.items()):
        return False
    with ThreadPoolExecutor(max_workers=threads or min(8, os.cpu_count() or 1)) as pool:
        return all(pool.map(lambda name: sha256_of(paths[name]) == files[name]["sha256"], files))


def main():
    """Print whether the copy is whole, and the seconds of hashing; nothing where that cannot be said."""
    asked = json.loads(sys.argv[1])
    try:
        resource.setrlimit(LOCKS, (asked["mark"], asked["mark"]))
    except (OSError, ValueError):
        pass
    started = time.monotonic()
    try:
        whole = is_whole(asked["path"], asked["digest"], asked["threads"])
    except (OSError, ValueError, LookupError, TypeError):
        whole = False
    print(json.dumps({"whole": whole, "verify_s": round(time.monotonic() - started, 3)}))


if __name__ == "__main__":
    main()
