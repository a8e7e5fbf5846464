"""Reads the small files in which the kernel says one thing (sysfs, procfs), and writes files whole or not at all."""

from __future__ import annotations

import os
import tempfile


def read_text(path):
    """Return the stripped text of ``path``, or None when it cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read().strip()
    except OSError:
        return None


def read_int(path):
    """Return the integer in ``path``, or None: sysfs answers EINVAL for, say, the speed of a link that is down."""
    text = read_text(path)
    try:
        return int(text) if text is not None else None
    except ValueError:
        return None


def write_atomically(path, data, mode=0o644, durable=False, owner=None):
    """Write ``data`` (bytes, or text as UTF-8) to ``path``, so that a reader, or a full disk, never sees half a file.

    Its folder is made where there is none. ``durable`` has the bytes on the disk before the file has its name, for what
    must outlive a loss of power. It is ``owner``'s, ``(uid, gid)``, before it has its name. Raises OSError; the old file,
    if there was one, is then as it was and nothing else is left.
    """
    folder, name = os.path.split(path)
    os.makedirs(folder or ".", mode=0o755, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=folder or ".", prefix=".%s." % name)
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data.encode("utf-8") if isinstance(data, str) else data)
            if durable:
                stream.flush()
                os.fsync(stream.fileno())
        if owner is not None:
            os.chown(temporary, *owner)
        os.chmod(temporary, mode)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
