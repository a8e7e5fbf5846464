"""A copy in progress: the chunks that have come, kept so that the next run goes on where this one was killed.

All of it is in one hidden folder of the model's, which is gone when the copy is complete. One process at a time works there: it holds a
lock on the model's folder, which leaves no file and goes when its process does.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import mmap
import os
import shutil
import time

from ..core.files import write_atomically
from . import chunks, unfinished
from . import manifest as manifests
from .chunk_server import HAVE, MANIFEST, PART, WORK, read_file


class Busy(Exception):
    """Another run kept the folder for longer than this one could wait."""


@contextlib.contextmanager
def locked(folder, patience_s):
    """Hold the lock of a model's folder, which is made where it is missing; raise :class:`Busy`."""
    os.makedirs(folder, mode=0o755, exist_ok=True)
    handle, deadline = os.open(folder, os.O_RDONLY | os.O_DIRECTORY), time.monotonic() + patience_s
    try:
        while True:
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    raise Busy("another run brings %s up to date, for %d s now" % (folder, patience_s)) from None
            time.sleep(0.05)
        yield
    finally:
        os.close(handle)


def kept_bytes(folder, manifest):
    """Return the bytes that an interrupted copy has left in its folder and that a copy of ``manifest`` needs no room for.

    It goes on from one of the same manifest, and removes that of another first.
    """
    work = os.path.join(folder, WORK)
    if read_file(os.path.join(work, MANIFEST)) != manifests.encode(manifest):
        return left_bytes(folder)
    have, every = read_file(os.path.join(work, HAVE)) or b"", chunks.of(manifest)
    return sum(length for flag, (name, _offset, length) in zip(have, every) if flag and os.path.exists(os.path.join(work, PART, name)))


def settle(folder):
    """Remove what unfinished copies left beside a model whose files are as its manifest says. The caller holds the folder's lock."""
    unfinished.end(folder)
    drop_parts(folder)


def drop_parts(folder):
    """Remove the parts of files that an interrupted copy left. Under the folder's lock."""
    shutil.rmtree(os.path.join(folder, WORK), ignore_errors=True)


def left_bytes(folder):
    """Return the bytes on the disk that an interrupted copy has left: they are free when its folder is removed."""
    found = 0
    for base, _folders, names in os.walk(os.path.join(folder, WORK)):
        for name in names:
            with contextlib.suppress(FileNotFoundError):
                found += os.lstat(os.path.join(base, name)).st_blocks * 512
    return found


class Store:
    """The chunks of ``manifest`` in the model's folder ``path``.

    ``hashes`` is the list of theirs, ``wanted`` the names of the files that differ.
    """

    def __init__(self, path, manifest, hashes, wanted):
        self.path, self.manifest, self.hashes, self.wanted = path, manifest, hashes, sorted(wanted)
        self.digest = manifests.digest(manifest)
        self.chunk_bytes = chunks.chunk_bytes(manifest)
        self.chunks = chunks.of(manifest)
        self.work = os.path.join(path, WORK)
        self.have = None
        self.of_file = {}
        for index, (name, _offset, _length) in enumerate(self.chunks):
            self.of_file.setdefault(name, []).append(index)

    def part(self, name):
        """Return the path of a file in progress."""
        return os.path.join(self.work, PART, name)

    def prepare(self):
        """Make the folder, or take up what an interrupted run for the same manifest left there."""
        known = read_file(os.path.join(self.work, MANIFEST))
        if known != manifests.encode(self.manifest):
            self.remove()
            os.makedirs(os.path.join(self.work, PART), mode=0o755)
        have = os.path.join(self.work, HAVE)
        size = max(1, len(self.chunks))
        if not os.path.exists(have) or os.path.getsize(have) != size:
            write_atomically(have, b"\0" * size)
        with open(have, "r+b") as stream:
            self.have = mmap.mmap(stream.fileno(), size)
        for name in self.manifest["files"]:
            if name not in self.wanted:
                self.mark(name, 1)
            elif not os.path.exists(self.part(name)):
                self.mark(name, 0)
                os.makedirs(os.path.dirname(self.part(name)), mode=0o755, exist_ok=True)
        # Peers believe the rest once this is there.
        write_atomically(os.path.join(self.work, MANIFEST), manifests.encode(self.manifest))

    def mark(self, name, value):
        for index in self.of_file.get(name, ()):
            self.have[index] = value

    def take_over(self):
        """Take what is still good of older files at their places."""
        for name in self.wanted:
            old = os.path.join(self.path, name)
            if os.path.isfile(old) and not os.path.exists(self.part(name)):
                self.seed(name, old)

    def seed(self, name, old):
        """Copy the chunks of an older file that are as they should be; one that cannot be read gives none."""
        with contextlib.suppress(OSError), open(old, "rb") as stream:
            for index in self.of_file.get(name, ()):
                _name, offset, length = self.chunks[index]
                stream.seek(offset)
                data = stream.read(length)
                if hashlib.sha256(data).digest() == self.hashes[index]:
                    self.write(index, data)

    def missing(self):
        """Return the indices of chunks that have not come."""
        return [index for index in range(len(self.chunks)) if not self.have[index]]

    def missing_bytes(self):
        """Return the bytes that have not come."""
        return sum(self.chunks[index][2] for index in self.missing())

    def write(self, index, data):
        """Write a chunk and say that it is there."""
        name, offset, _length = self.chunks[index]
        handle = os.open(self.part(name), os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            view = memoryview(data)
            while view:
                done = os.pwrite(handle, view, offset)
                view, offset = view[done:], offset + done
        finally:
            os.close(handle)
        self.have[index] = 1

    def read(self, index):
        """Return a chunk's bytes."""
        name, offset, length = self.chunks[index]
        with open(self.part(name), "rb") as stream:
            stream.seek(offset)
            return stream.read(length)

    def drop_wrong(self, name):
        """Take back the chunks of a file that are not what their hashes say; return how many."""
        wrong = [index for index in self.of_file.get(name, ()) if hashlib.sha256(self.read(index)).digest() != self.hashes[index]]
        for index in wrong:
            self.have[index] = 0
        return len(wrong)

    def finish(self, name):
        """Give a verified file its name, once its bytes are on the disk: while others still come, the wait costs little."""
        if not self.manifest["files"][name]["size"]:
            with open(self.part(name), "wb"):
                pass
        target = os.path.join(self.path, name)
        os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
        os.chmod(self.part(name), 0o644)
        manifests.to_disk(self.part(name))
        os.replace(self.part(name), target)

    def complete(self):
        """Write the manifest beside the files when all of them are on the disk, and remove what was for the copy."""
        manifests.save(self.path, self.manifest)
        unfinished.end(self.path)
        self.remove()

    def remove(self):
        """Remove the folder of the copy in progress."""
        if self.have is not None:
            self.have.close()
            self.have = None
        if os.path.isdir(self.work):
            shutil.rmtree(self.work)

    def discard_empty(self):
        """Remove the folder where nothing has come yet."""
        if not any(self.have[index] for name in self.wanted for index in self.of_file.get(name, ())):
            self.remove()
