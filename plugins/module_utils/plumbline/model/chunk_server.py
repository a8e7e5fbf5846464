"""The program that hands out a model's chunks: over ssh it is sent as text and reads requests on its standard input.

It is run by the peer who pulls (``ssh node python3 -c ...``), so it needs no port, no key and no encryption of its own, and ends with the
connection. It only reads: what the folder has, whole or in part, and nothing outside of it. Requests are lines of JSON, the first of them
says which model; each answer is a line of JSON with ``length`` and as many bytes. This file is sent as it is: standard library only.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import sys
import time

WORK = ".plumbline-sync"  # in the model's folder, while a copy is in progress
MANIFEST = "manifest.json"
HAVE = "have"  # in WORK: a byte for each chunk, 1 when it is there
PART = "part"  # in WORK: the files in progress
PROGRESS = "progress.json"  # in WORK: a note on how far the copy is, with the time of its last byte
POLL_S = 0.01
WAIT_S = 0.5  # who waits for news gets an answer at least this often, which is how it knows that this end lives


def layout(manifest, chunk_bytes):
    """Return ``[(name, offset, length)]`` of all chunks of a manifest, in their one order."""
    found = []
    for name in sorted(manifest["files"]):
        size = manifest["files"][name]["size"]
        found += [(name, offset, min(chunk_bytes, size - offset)) for offset in range(0, size, chunk_bytes)]
    return found


def read_file(path):
    """Return a file's bytes, None where there is none."""
    try:
        with open(path, "rb") as stream:
            return stream.read()
    except FileNotFoundError:
        return None


def is_locked(folder):
    """Tell whether somebody brings the folder up to date now: who does holds its lock, which the kernel takes from the dead."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(handle)
    return False


class Served:
    """What the folder ``path`` has of the model whose manifest's SHA-256 is ``digest``."""

    def __init__(self, path, digest, chunk_bytes):
        self.path, self.digest, self.chunk_bytes = path, digest, chunk_bytes
        self.work = os.path.join(path, WORK)
        self.chunks = None
        self.complete = False
        self.opened = (None, None)  # (name, descriptor) of the last file

    def look(self):
        """Return ``(state, a byte for each chunk)``: complete, pulling, idle (a copy that nobody goes on with) or absent."""
        if not self.complete:
            self.complete = self.knows(os.path.join(self.path, MANIFEST))
        if self.complete:
            return "complete", b"\1" * len(self.chunks)
        if not self.knows(os.path.join(self.work, MANIFEST)):
            return "absent", b""
        have = read_file(os.path.join(self.work, HAVE)) or b""
        return ("pulling" if is_locked(self.path) else "idle"), have[: len(self.chunks)]

    def knows(self, path):
        """Tell whether the manifest at ``path`` is the one asked for; reads the order of its chunks."""
        text = read_file(path)
        if text is None or hashlib.sha256(text).hexdigest() != self.digest:
            return False
        if self.chunks is None:
            self.chunks = layout(json.loads(text.decode("utf-8")), self.chunk_bytes)
        return True

    def news(self, seen):
        """Return :meth:`look` as soon as there are other than ``seen`` chunks, or after :data:`WAIT_S`."""
        deadline = time.monotonic() + WAIT_S
        state, have = self.look()
        while have.count(1) == seen and state != "complete" and time.monotonic() < deadline:
            time.sleep(POLL_S)
            # One small file, often; all else is looked at when it says something new.
            now = read_file(os.path.join(self.work, HAVE))
            if state == "absent" or now is None or now.count(1) != seen:
                state, have = self.look()
        return state, have

    def stalled_s(self, state):
        """Return for how long nothing has come to a copy in progress, in seconds: who waits for it then knows whom it waits for."""
        if state != "pulling":
            return 0.0
        try:
            note = json.loads((read_file(os.path.join(self.work, PROGRESS)) or b"null").decode("utf-8"))
            return max(0.0, time.time() - note["fed_at"])
        except (ValueError, KeyError, TypeError):
            return 0.0

    def descriptor(self, name):
        """Return an open descriptor of a file: in progress, or whole. It may be renamed between the two looks, hence the third."""
        if self.opened[0] != name:
            if self.opened[1] is not None:
                os.close(self.opened[1])
            self.opened = (None, None)
            part, whole = os.path.join(self.work, PART, name), os.path.join(self.path, name)
            for path in [whole] if self.complete else [part, whole, part]:
                try:
                    self.opened = (name, os.open(path, os.O_RDONLY))
                    break
                except FileNotFoundError:
                    continue
            else:
                raise FileNotFoundError("%s is gone" % whole)
        return self.opened[1]


def write_all(out, data):
    """Write all of ``data`` to a descriptor."""
    view = memoryview(data)
    while view:
        view = view[os.write(out, view) :]


def answer(out, payload, **said):
    """Write an answer."""
    write_all(out, json.dumps(dict(said, length=len(payload))).encode("ascii") + b"\n" + payload)


def send(out, served, index):
    """Write a chunk, or why there is none."""
    if served.chunks is None:
        served.look()
    name, offset, length = served.chunks[index]
    handle = served.descriptor(name)
    if os.fstat(handle).st_size < offset + length:
        raise OSError("%s has only %d bytes" % (name, os.fstat(handle).st_size))
    write_all(out, json.dumps({"length": length}).encode("ascii") + b"\n")
    while length:
        sent = os.sendfile(out, handle, offset, length)
        if not sent:
            sys.exit(1)  # cut short meanwhile: the other end sees the connection end
        offset, length = offset + sent, length - sent


def serve(requests, out):
    """Answer until the other end is gone."""
    first = json.loads(requests.readline())
    served = Served(first["path"], first["digest"], first["chunk_bytes"])
    for line in iter(requests.readline, b""):
        asked = json.loads(line)
        try:
            if "get" in asked:
                send(out, served, asked["get"])
            else:
                state, have = served.news(asked["seen"])
                answer(out, have, state=state, stalled_s=served.stalled_s(state))
        except (OSError, LookupError, TypeError) as error:
            if isinstance(error, (BrokenPipeError, ConnectionError)):
                return
            answer(out, b"", error="%s: %s" % (type(error).__name__, error))


if __name__ == "__main__":
    serve(sys.stdin.buffer, 1)
