"""A hub's files on a disk: which are there and whole, and what an interrupted download left of the others.

``hf`` downloads to ``.cache/huggingface/download/<folder>/<hash of the name>.<etag>[.<random>].incomplete`` and moves what is whole. The
etag is the checksum that the hub names (huggingface_hub 2.4.0, ``_local_folder.py`` and ``file_download.py``). The random part makes
that client start such a file over after a kill, and it removes it after an error. So what it left is kept and finished here, by
HTTP range. It writes 10 MiB at once: what a kill costs for each file.
"""

from __future__ import annotations

import errno
import fnmatch
import hashlib
import http.client
import os
import re
import time
from concurrent import futures

from . import hub as hubs
from . import manifest as manifests

DOWNLOADS = os.path.join(".cache", "huggingface", "download")
CHUNK = manifests.CHUNK
PULLS = 8  # files at once, as many as hf
LOOK_S = 0.5
KEPT = ".kept.incomplete"
OF_THE_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.EROFS, errno.EACCES, errno.EPERM)
PATIENCE = 5  # attempts in a row that bring nothing, as hf has it
_PART = re.compile(r"[\w=-]+\.([0-9a-f]{40,64})(?:\.\w+)?\.incomplete")


def chosen(listed, include, exclude):
    """Return the files of a listing that belong to the model: not hidden ones, nor those that the patterns (fnmatch) leave out.

    A file called as our own manifest cannot lie beside it, and is left out too.
    """

    def wanted(name):
        # Also what would leave the folder, or break a list of names.
        hidden = "\n" in name or any(part == "" or part.startswith(".") for part in name.split("/"))
        return (
            not hidden
            and name != manifests.NAME
            and (not include or any(fnmatch.fnmatch(name, pattern) for pattern in include))
            and not any(fnmatch.fnmatch(name, pattern) for pattern in exclude)
        )

    return {name: file for name, file in listed.items() if wanted(name)}


def digests(path, file):
    """Return ``(SHA-256, the checksum that the source names)`` of a file, read once; that of a source without checksums is ``""``.

    ``git`` is the SHA-1 of a blob of that size, ``md5`` what Azure keeps as Content-MD5, in hex.
    """
    sha256 = hashlib.sha256()
    other = {"git": hashlib.sha1, "md5": hashlib.md5}.get(file.algorithm)
    # The source's own checksums: a machine in FIPS mode refuses them as security.
    other = other(b"blob %d\0" % file.size if file.algorithm == "git" else b"", usedforsecurity=False) if other else None
    with open(path, "rb") as data:
        for chunk in iter(lambda: data.read(CHUNK), b""):
            sha256.update(chunk)
            if other:
                other.update(chunk)
    found = sha256.hexdigest()
    return found, other.hexdigest() if other else found if file.algorithm == "sha256" else ""


def look(folder, files, threads):
    """Return ``(whole, wrong, missing)``: ``{name: SHA-256}`` of files as the hub has them, ``{name: why}``, and a set of names."""

    def one(name):
        path, file = os.path.join(folder, name), files[name]
        if not os.path.isfile(path):
            return None
        size = os.path.getsize(path)
        if size != file.size:
            return "%d bytes, the source has %d" % (size, file.size), None
        sha256, found = digests(path, file)
        if found != file.digest:
            return "%s %s, the source says %s" % (file.algorithm, found, file.digest), None
        return None, sha256

    names = sorted(files)
    with futures.ThreadPoolExecutor(max_workers=max(1, threads)) as pool:
        seen = dict(zip(names, pool.map(one, names)))
    whole = {name: found[1] for name, found in seen.items() if found and found[1]}
    wrong = {name: found[0] for name, found in seen.items() if found and found[0]}
    return whole, wrong, {name for name, found in seen.items() if found is None}


def parts(folder):
    """Return ``{path: checksum}`` of what interrupted downloads left."""
    found = {}
    for base, _folders, names in os.walk(os.path.join(folder, DOWNLOADS)):
        for name in names:
            match = _PART.fullmatch(name)
            if match:
                found[os.path.join(base, name)] = match.group(1)
    return found


def keep_parts(folder):
    """Hold on to what ``hf`` is downloading by a second name: it removes its own after an error. One that became whole is let go."""
    for path in parts(folder):
        base, name = os.path.split(path)
        start = ".".join(name.split(".")[:2])
        kept = os.path.join(base, start + KEPT)
        try:
            if path != kept:
                os.link(path, kept)
            elif os.stat(path).st_nlink > 1 and not any(item != name and item.startswith(start + ".") for item in os.listdir(base)):
                os.remove(path)  # the second link is the file in its place
        except OSError:
            pass  # moved meanwhile, kept already, or a file system without links: then that file starts over


def best_parts(folder, files, names):
    """Return ``{name: path}``, the longest part of each file; all other parts are removed.

    Only of files with a SHA-256: ``hf`` takes such a file from us when its hash is right, and the others are small.
    """
    sizes = {}
    for path, digest in parts(folder).items():
        relative = os.path.relpath(os.path.dirname(path), os.path.join(folder, DOWNLOADS))
        for name in names:
            file = files[name]
            if file.algorithm == "sha256" and file.digest == digest and os.path.normpath(os.path.dirname(name) or ".") == relative:
                sizes.setdefault(name, []).append((os.path.getsize(path), path))
    best = {}
    for name, found in sizes.items():
        fit = [item for item in found if 0 < item[0] <= files[name].size]
        if fit:
            best[name] = max(fit)[1]
    for path in parts(folder):
        if path not in best.values():
            os.remove(path)
    return best


def on_disk(folder, names):
    """Return the bytes of the named files, and of the parts, that lie there now."""
    inodes = {}
    for path in [os.path.join(folder, name) for name in names] + list(parts(folder)):
        try:
            seen = os.stat(path)
        except OSError:
            continue
        inodes[seen.st_ino] = seen.st_size
    return sum(inodes.values())


def finish(hub, commit, folder, files, best, deadline, watch=lambda: None, sleep=time.sleep):
    """Bring the rest of each part and put it in its place when its hash is right; return ``{name: bytes that were there}``.

    ``watch()`` is called twice a second meanwhile.

    A part whose hash turns out wrong is removed: ``hf`` brings that file anew. Raises HubError; the parts stay.
    """

    def one(name):
        path, there = best[name], os.path.getsize(best[name])
        if not _rest(hub, hub.url(commit, name), path, files[name].size, deadline, sleep):
            return 0
        if digests(path, files[name])[0] != files[name].digest:
            os.remove(path)
            return 0
        place = os.path.join(folder, name)
        os.makedirs(os.path.dirname(place), exist_ok=True)
        os.chmod(path, 0o644)
        os.replace(path, place)
        return there

    with futures.ThreadPoolExecutor(max_workers=PULLS) as pool:
        pulls = {name: pool.submit(one, name) for name in best}
        while futures.wait(pulls.values(), timeout=LOOK_S).not_done:
            watch()
        return {name: pull.result() for name, pull in pulls.items()}


def _rest(hub, url, path, size, deadline, sleep):
    """Append what is missing of ``path``; return whether it has its size now. A server without ranges: False, and the part is gone."""
    fruitless = 0
    while os.path.getsize(path) < size:
        before = os.path.getsize(path)
        try:
            with hubs.open_url(url, hub.token, {"Range": "bytes=%d-" % before}) as answer, open(path, "ab") as part:
                if answer.status != 206 or not (answer.headers.get("Content-Range") or "").startswith("bytes %d-" % before):
                    os.remove(path)
                    return False
                _append(answer, part, size - before, deadline)
        except (OSError, http.client.HTTPException) as error:
            if getattr(error, "errno", None) in OF_THE_DISK:
                raise
            problem = hubs.explain(error, url, hub.token)
            fruitless = 0 if os.path.getsize(path) > before else fruitless + 1
            if not problem.passing or fruitless >= PATIENCE:
                raise problem from error
            sleep(1)
            continue
        fruitless = 0 if os.path.getsize(path) > before else fruitless + 1
        if fruitless >= PATIENCE:
            raise hubs.HubError("hub.unreachable", url + ": it ends early, again and again", "the rest of the file", "run it again", True)
    return os.path.getsize(path) == size


def _append(answer, part, most, deadline):
    while most > 0:
        chunk = answer.read(min(CHUNK, most))
        if not chunk:
            return
        part.write(chunk)
        part.flush()
        most -= len(chunk)
        if time.monotonic() > deadline:
            raise hubs.HubError("hub.time", "not done in time", "all files", "raise model_sync_timeout_s; the next run goes on from here")
