"""The disks of a node: room, inodes, and whether they take a write."""

from __future__ import annotations

from ...core.fact import reason
from .bound import NO_EXPECTATION, bound, size


def check_disk(evidence, expect):
    """Space, inodes, read-only state and a real write below each path; then what the kernel made read-only."""
    found = []
    for seen in evidence["disks"]:
        path = seen["path"]
        where = path if seen["place"] == path else "%s (not there yet: judged at %s)" % (path, seen["place"])
        if seen["error"]:
            found.append(reason("disk.free", "incomplete", "%s: %s" % (where, seen["error"]), None, "look at the mount (findmnt)"))
            continue
        found.append(_space(where, seen, expect))
        if seen["inodes_total"]:
            found.append(_inodes(where, seen, expect))
        found.append(_write(where, seen, expect))
    return found + [_mounts(evidence["read_only_mounts"])]


def _space(where, seen, expect):
    """Both limits in one reason: a full disk is one finding, not two."""
    minimum, percent = expect.get("disk_free_min_bytes"), expect.get("disk_free_min_percent")
    free_percent = 100.0 * seen["free_bytes"] / seen["total_bytes"] if seen["total_bytes"] else 0.0
    text = "%s: %s (%.1f %%) free" % (where, size(seen["free_bytes"]), free_percent)
    limits = []
    if minimum is not None:
        limits.append(size(minimum))
    if percent is not None:
        limits.append("%g %%" % percent)
    if not limits:
        return reason("disk.free", "skipped", text, NO_EXPECTATION)
    bad = (minimum is not None and seen["free_bytes"] < minimum) or (percent is not None and free_percent < percent)
    return reason(
        "disk.free",
        "failed" if bad else "healthy",
        text,
        ">= %s" % " and ".join(limits),
        "free space there (du -xh --max-depth=1), or mount a larger disk" if bad else None,
    )


def _inodes(where, seen, expect):
    return bound(
        "disk.inodes",
        100.0 * seen["inodes_free"] / seen["inodes_total"],
        expect.get("inodes_free_min_percent"),
        True,
        "{:.1f} % of inodes free".format,
        "remove small files there, or make the file system anew with more inodes",
        where=where,
    )


def _write(where, seen, expect):
    """The write probe: what it took, or why there was none."""
    if seen["read_only"]:
        remedy = "look for the error in the kernel log, then fsck and remount, or replace the node"
        return reason("disk.write", "failed", "%s is mounted read-only" % where, "writable", remedy)
    if seen["write"] is None:
        return reason("check_mode", "skipped", "%s: no file is written in check mode" % where, None)
    error = seen["write"]["error"]
    if error:
        text, threshold = "%s: 1 MiB could not be written: %s" % (where, error), "a synced write succeeds"
        if error.endswith(("(EACCES)", "(EPERM)")):
            # No right to write says nothing about the disk.
            return reason("disk.write", "incomplete", text, threshold, "run as root (become: true)")
        return reason("disk.write", "failed", text, threshold, "free space there, or mend or replace the disk")
    return bound(
        "disk.write",
        seen["write"]["ms"],
        expect.get("disk_write_max_ms"),
        False,
        "1 MiB written, synced and read back in {:.1f} ms".format,
        "look at the disk's load (iostat -x) and its errors in the kernel log",
        "degraded",
        where,
    )


def _mounts(mounts):
    if mounts is None:
        return reason("disk.read_only", "incomplete", "the mount table is not readable", "no disk read-only")
    seen = "read-only: %s" % ", ".join(mounts) if mounts else "every disk file system is mounted writable"
    remedy = "a kernel that met errors remounts so: look into the kernel log" if mounts else None
    return reason("disk.read_only", "degraded" if mounts else "healthy", seen, "no disk read-only", remedy)
