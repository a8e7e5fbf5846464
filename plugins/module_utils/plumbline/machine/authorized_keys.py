"""The lines of ``authorized_keys`` that let a node's key in: added and taken away without touching anybody else's.

Runs beside each other change one file, so that each change is made under a lock and written whole (sshd(8), "AUTHORIZED_KEYS FILE
FORMAT"). A line of ours that has expired is dead for sshd, and is taken away by whoever comes next.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import re
import time

from ..core.files import write_atomically

FULL = (errno.ENOSPC, errno.EDQUOT)
EXPIRY = re.compile(r'(?:^|,)expiry-time="(\d{14})"')


def stamp(epoch_s):
    """Return a time as ``expiry-time`` has it: the machine's own, which is sshd's too (OpenSSH 7.7; a ``Z`` needs 9.1)."""
    return time.strftime("%Y%m%d%H%M%S", time.localtime(epoch_s))


def options(sources=(), until_s=None):
    """Return a line's options. ``restrict`` takes terminal, forwarding and rc files away (OpenSSH 7.2).

    ``sources`` are the addresses that a key may come from, empty for any; ``until_s`` (seconds since 1970) is when it stops to count.
    Raises ValueError for what is no address.
    """
    wrong = [source for source in sources if not re.fullmatch(r"[0-9A-Fa-f.:]+", source)]
    if wrong:
        raise ValueError("no address: %s" % ", ".join(wrong))
    found = ["restrict"]
    found += ['from="%s"' % ",".join(sources)] if sources else []
    found += ['expiry-time="%s"' % stamp(until_s)] if until_s is not None else []
    return ",".join(found)


def line(public_key, sources=(), until_s=None):
    """Return the line for a public key (``type base64 comment``) with :func:`options`. Raises ValueError for what is no key."""
    text = public_key.strip()
    if not blob(text) or "\n" in text:
        raise ValueError("no public key: %r" % text[:80])
    return "%s %s" % (options(sources, until_s), text)


def blob(text):
    """Return the ``base64`` of a line or a public key, None where there is none: it tells a key from all others."""
    found = re.search(r"(?:^|\s)(?:ssh-|ecdsa-|sk-)\S+\s+(AAAA\S+)", text)
    return found.group(1) if found else None


def comment(text):
    """Return the comment of a line, empty where there is none."""
    found = re.search(r"(?:^|\s)(?:ssh-|ecdsa-|sk-)\S+\s+AAAA\S+\s+(.*)$", text)
    return found.group(1).strip() if found else ""


def is_dead(text, prefix, now_s):
    """Tell whether a line is one of ours, by its comment, and has expired."""
    found = EXPIRY.search(text.split(" ", 1)[0])
    return bool(found) and comment(text).startswith(prefix) and found.group(1) <= stamp(now_s)


def with_lines(text, lines, prefix, now_s):
    """Return ``text`` with the lines: what has their keys is replaced, and what of ``prefix`` is dead goes."""
    kept = [item for item in text.splitlines(True) if not is_dead(item.strip(), prefix, now_s)]
    wanted = {blob(item): item for item in lines}
    here = [item for item in kept if blob(item) in wanted]
    if sorted(item.strip() for item in here) == sorted(lines):
        return "".join(kept)
    kept = [item for item in kept if blob(item) not in wanted]
    if kept and not kept[-1].endswith("\n"):
        kept[-1] += "\n"
    return "".join(kept + [item + "\n" for item in lines])


def without_lines(text, keys, prefix):
    """Return ``text`` without the lines of ``keys``, or with no ``keys`` without all whose comment begins with ``prefix``."""
    blobs = {blob(key) for key in keys} - {None}  # what is no key is no line's: a comment and a blank line have none either

    def goes(item):
        return blob(item) in blobs if keys else blob(item) is not None and comment(item).startswith(prefix)

    return "".join(item for item in text.splitlines(True) if not goes(item.strip()))


@contextlib.contextmanager
def locked(folder):
    """Hold the lock of a user's ``.ssh``, which is the folder itself: no file is left. Some network file systems have none."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with contextlib.suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
    finally:
        os.close(handle)


def read(path):
    """Return the text of a file, empty where there is none; bytes that are no UTF-8 come back as they were with :func:`write`."""
    try:
        with open(path, encoding="utf-8", errors="surrogateescape", newline="") as stream:
            return stream.read()
    except FileNotFoundError:
        return ""


def write(path, text, owner):
    """Write the file whole, with the mode and owner that it has, else 0600 and ``owner`` ``(uid, gid)``; a link stays one."""
    path, mode = os.path.realpath(path), 0o600
    if os.path.exists(path):
        status = os.stat(path)
        # Not given to the user: a link of his could lead to a file that is not his.
        mode, owner = status.st_mode & 0o777, (status.st_uid, status.st_gid)
    data = text.encode("utf-8", "surrogateescape")
    try:
        # Whose it is before it has its name: sshd reads the file as its user, and one killed in between would lock him out.
        write_atomically(path, data, mode, owner=owner if os.geteuid() == 0 else None)
    except OSError as error:
        if error.errno not in FULL or not os.path.exists(path) or os.path.getsize(path) < len(data):
            raise
        shorten(path, data)


def shorten(path, data):
    """Write ``data``, which is no longer than the file, in its place: a key is taken away on a full disk too.

    What is left over is blank for the moment between the two steps, so that sshd reads no half line.
    """
    handle = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    try:
        os.pwrite(handle, data.ljust(os.fstat(handle).st_size, b"\n"), 0)
        os.ftruncate(handle, len(data))
    finally:
        os.close(handle)


def change(home, owner, changed):
    """Replace the text of ``authorized_keys`` in ``home`` by ``changed(text)``; return ``(before, after)``.

    ``.ssh`` is made where it is missing. Raises OSError.
    """
    folder = os.path.join(home, ".ssh")
    path = os.path.join(folder, "authorized_keys")
    if not os.path.isdir(folder):
        if not changed(""):
            return "", ""
        os.mkdir(folder, 0o700)
        if os.geteuid() == 0:
            os.chown(folder, *owner)
    with locked(folder):
        before = read(path)
        after = changed(before)
        if after != before:
            write(path, after, owner)
    return before, after
