"""The disks of a node: space, inodes, a real write, and file systems that the kernel made read-only."""

from __future__ import annotations

import errno
import os
import tempfile
import time

from ...core.files import read_text

# Where a kernel that met errors remounts read-only; squashfs, iso9660 and the like are read-only by nature.
WRITABLE_FILESYSTEMS = ("ext2", "ext3", "ext4", "xfs", "btrfs", "f2fs")

PROBE_BYTES = 1 << 20
# A write that took this long, in milliseconds, is made again: who wrote beside it, once, is no property of the disk. Spinning disks
# take 20 to 60 for the data and the journal; the fastest of the attempts counts.
SLOW_MS = 100
ATTEMPTS = 3
APART_S = 0.2


def nearest_existing(path):
    """Return ``path`` or its nearest parent that exists: what a fresh node has not made yet lies there."""
    path = os.path.abspath(path)
    while not os.path.exists(path) and path != "/":
        path = os.path.dirname(path)
    return path


def disk(path, probe=True):
    """Return space, inodes and the result of a real write below ``path``.

    ``probe`` off (check mode) leaves ``write`` None. Bytes are those that an unprivileged process may still
    take, so a file system's reserve for root does not look like free space.
    """
    place = nearest_existing(path)
    seen = {"path": path, "place": place, "error": None, "write": None}
    try:
        stat = os.statvfs(place)
    except OSError as error:
        seen["error"] = error.strerror or str(error)
        return seen
    seen.update(
        total_bytes=stat.f_blocks * stat.f_frsize,
        free_bytes=stat.f_bavail * stat.f_frsize,
        # Some file systems (btrfs, overlay on it) have no inode table and report 0 of 0.
        inodes_total=stat.f_files or None,
        inodes_free=stat.f_favail if stat.f_files else None,
        read_only=bool(stat.f_flag & os.ST_RDONLY),
    )
    seen["write"] = best_write(place) if probe else None
    return seen


def best_write(place, write=None, sleep=time.sleep):
    """Return the fastest of up to three probes: of one that is not slow, the first; of one that failed, the failure."""
    best = None
    for attempt in range(ATTEMPTS):
        if attempt:
            sleep(APART_S)
        found = (write or write_probe)(place)
        if found["error"]:
            return found
        best = found if best is None or found["ms"] < best["ms"] else best
        if best["ms"] <= SLOW_MS:
            break
    return best


def write_probe(place, size=PROBE_BYTES):
    """Write, sync, read back and remove a small file in ``place``; return ``{"ms": float, "error": str or None}``.

    The one thing the health module does to a node. It shows what numbers do not: a disk that is full, read-only,
    over quota or answers with I/O errors.
    """
    started = time.monotonic()
    name = None
    try:
        pattern = os.urandom(4096) * (size // 4096)
        handle, name = tempfile.mkstemp(dir=place, prefix=".plumbline-probe-")
        with os.fdopen(handle, "w+b") as stream:
            stream.write(pattern)
            stream.flush()
            os.fsync(stream.fileno())
            stream.seek(0)
            if stream.read() != pattern:
                return {"ms": None, "error": "what was read back differs from what was written"}
    except OSError as error:
        code = errno.errorcode.get(error.errno, "?")
        return {"ms": None, "error": "%s (%s)" % (error.strerror or error, code)}
    finally:
        if name is not None:
            try:
                os.unlink(name)
            except OSError:
                pass  # a disk that just failed may refuse this too; the write's error is the verdict
    return {"ms": round((time.monotonic() - started) * 1000, 2), "error": None}


def read_only_mounts(root="/"):
    """Return mount points of disk file systems that are themselves read-only; None when unreadable.

    ``mountinfo`` tells the file system's own state (last field; what ``errors=remount-ro`` sets) from that of one
    mount: a bind mount may be read-only on purpose.
    """
    text = read_text(os.path.join(root, "proc/self/mountinfo"))
    if text is None:
        return None
    found = []
    for line in text.splitlines():
        mount, _sep, system = line.partition(" - ")
        fields, own = mount.split(), system.split()
        if len(fields) > 4 and len(own) >= 3 and own[0] in WRITABLE_FILESYSTEMS and "ro" in own[2].split(","):
            found.append(fields[4].replace("\\040", " "))
    return sorted(set(found))
