"""A connection to a node that hands out chunks: ssh, and at its other end ``chunk_server.py``. What fails is told in words."""

from __future__ import annotations

import contextlib
import fcntl
import inspect
import json
import os
import re
import select
import subprocess
import tempfile
import time

from ..core.scrub import scrub_text
from . import chunk_server

STALL_S = 4.0  # without a byte: a server that waits for news says so every second
CONNECT_S = 10.0
PIPE_BYTES = 2**20  # the most that pipe-max-size grants without privileges
F_SETPIPE_SZ = 1031  # linux/fcntl.h; Python names it since 3.10
BOOT = "python3 -c 'import sys; exec(sys.stdin.buffer.read(%d))'"
# Read once, by one thread: inspect's cache is not made for several.
PROGRAM = inspect.getsource(chunk_server).encode("utf-8")


class PeerError(Exception):
    """The peer, or the way to it, failed; the text says how."""


class Broken(PeerError):
    """The connection did not come about, ended or fell silent: that may be the fault of this one connection, or of a moment."""


class Left(Exception):
    """The connection was given up in the middle of a chunk, because another peer was chosen."""


def ssh_argv(config, user, address):
    """Return the argv up to the remote command; ``config`` is an ssh_config(5) that pins the peer's host keys."""
    # A node that is down is passed by, so it is not waited for as long as others do.
    return ["ssh", "-F", config, "-o", "ConnectTimeout=5", "-o", "ClearAllForwardings=yes", "-T", "-l", user, "--", address]


def unreadable(text):
    """Return the path that the program at the other end could not read for want of permission, None where that is not what it said."""
    found = re.search(r"PermissionError: [^']*'([^']*)'", text)
    return found.group(1) if found else None


def explain(text, source, user="the user who logs in there"):
    """Return ``(check, seen, remedy)`` for a source that could not be copied from; ``text`` is what was said, by ``user`` at its end."""
    text = " / ".join(line.strip() for line in scrub_text(text or "").splitlines() if line.strip())[:600]
    seen = f"the copy from {source} failed: {text or 'nothing was said'}"
    if "No space left on device" in text or "Disk quota exceeded" in text:
        return "model.disk", seen, "free space on this node, or set model_sync_path to a larger disk"
    if "Host key verification failed" in text:
        return "model.ssh", seen, "the head answers with another host key than it has: who answers at that address?"
    if unreadable(text):
        remedy = f"{user} cannot read {unreadable(text)} on the node that was asked: chmod -R go+rX there, and x for the folders above"
        return "model.source", seen, remedy
    if "[Errno 13]" in text:
        return "model.files", seen, "this node may not write there: look at the owner, the mode and the mount of model_sync_path"
    # As ssh says it, with the methods that it tried; others are denied other things.
    if "Permission denied (" in text:
        remedy = "the head did not accept this node's key: look at its sshd log, and at authorized_keys (from= has the nodes' addresses)"
        return "model.ssh", seen, remedy
    if "not done in time" in text:
        return "model.transfer", seen, "raise model_sync_timeout_s, or look at the link; the next run goes on from here"
    if "other bytes than" in text or "No such file or directory" in text or "is gone" in text or "no copy" in text:
        return "model.source", seen, "the head's files changed during the copy: check the head's verdict, run it again"
    if "python3" in text and ("not found" in text or "Permission denied" in text):
        return "model.ssh", seen, "python3 (3.9 or newer) must be on the PATH of the user that logs in there"
    if any(word in text for word in ("Connection refused", "timed out", "No route to host", "connection ended", "no byte")):
        return "model.ssh", seen, "is the head's sshd up and reachable from this node (its port, 22 by default)? then run it again"
    return "model.transfer", seen, "run it again; the copy goes on where it stopped"


class Connection:
    """One ssh to a peer. ``given_up`` is asked while bytes are awaited; where it says True, :class:`Left` is raised."""

    def __init__(self, argv, path, digest, chunk_bytes, given_up=lambda: False):
        self.given_up = given_up
        self.state, self.have, self.stalled_s = "absent", b"", 0.0
        self.buffer = b""
        self.errors = tempfile.TemporaryFile()
        self.process = subprocess.Popen(
            [*argv, BOOT % len(PROGRAM)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self.errors, bufsize=0,
            start_new_session=True, env=dict(os.environ, LC_ALL="C"),
        )  # fmt: skip
        self.out = self.process.stdout.fileno()
        with contextlib.suppress(OSError):
            fcntl.fcntl(self.out, F_SETPIPE_SZ, PIPE_BYTES)
        try:
            first = {"path": path, "digest": digest, "chunk_bytes": chunk_bytes}
            self.say(PROGRAM + json.dumps(first).encode("ascii") + b"\n")
            self.look(patience_s=CONNECT_S, seen=-1)
        except BaseException:
            self.close()
            raise

    def say(self, data):
        try:
            view = memoryview(data)
            while view:
                view = view[self.process.stdin.write(view) :]
        except OSError:
            raise Broken(self.why()) from None

    def ask(self, **request):
        self.say(json.dumps(request).encode("ascii") + b"\n")

    def why(self):
        """Return what ssh, or the Python at the other end, said last."""
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(1.0)
        self.errors.seek(0)
        said = self.errors.read().decode("utf-8", errors="replace").strip().splitlines()
        return " / ".join(said[-3:]) or "the connection ended without a word"

    def receive(self, most, patience_s=STALL_S):
        """Return 1 to ``most`` bytes; raise :class:`PeerError` where none come."""
        if self.buffer:
            data, self.buffer = self.buffer[:most], self.buffer[most:]
            return data
        deadline = time.monotonic() + patience_s
        while not select.select([self.out], [], [], 0.2)[0]:
            if self.given_up():
                raise Left
            if time.monotonic() >= deadline:
                raise Broken(f"no byte for {patience_s:.0f} s")
        if self.given_up():
            raise Left
        data = os.read(self.out, most)
        if not data:
            raise Broken(self.why())
        return data

    def header(self, patience_s=STALL_S):
        """Return the line of JSON that begins an answer."""
        line = b""
        while b"\n" not in line:
            line += self.receive(4096, patience_s)
            if len(line) > 65536:
                raise PeerError("it speaks something else: %r" % line[:80])
        line, _newline, rest = line.partition(b"\n")
        self.buffer = rest + self.buffer
        try:
            said = json.loads(line.decode("utf-8"))
            length = said["length"]
        except (ValueError, KeyError, TypeError):
            raise PeerError("it speaks something else: %r" % line[:80]) from None
        if said.get("error"):
            raise PeerError(said["error"])
        return said, length

    def body(self, length, count=lambda number: None):
        """Return as many bytes, and tell ``count`` of each part."""
        data, at = bytearray(length), 0
        while at < length:
            part = self.receive(min(length - at, PIPE_BYTES))
            data[at : at + len(part)] = part
            at += len(part)
            count(len(part))
        return data

    def look(self, patience_s=STALL_S, seen=None):
        """Ask what the peer has; it answers when that is not what it was, or after a second."""
        self.ask(seen=self.have.count(1) if seen is None else seen)
        said, length = self.header(patience_s)
        have = bytes(self.body(length))
        self.state, self.have, self.stalled_s = said.get("state"), have, said.get("stalled_s", 0.0)

    def get(self, index, length, count):
        """Return a chunk's bytes."""
        self.ask(get=index)
        return self.take(length, count)

    def take(self, length, count):
        """Return the bytes of the next chunk that was asked for."""
        _said, offered = self.header()
        if offered != length:
            raise PeerError(f"a chunk of {offered} bytes, expected {length}")
        return self.body(length, count)

    def close(self):
        """End ssh; the program at the other end sees its input end."""
        with contextlib.suppress(OSError):
            self.process.stdin.close()
        self.process.kill()
        self.process.wait()
        self.process.stdout.close()
        self.errors.close()
