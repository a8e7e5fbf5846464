"""Disks: real ones, and a recorded mount table."""

from __future__ import annotations

import os
import subprocess

import pytest
from ansible.module_utils.plumbline.health.evidence import disk
from health_nodes import write


def test_read_only_file_system_is_told_from_a_read_only_mount(tmp_path):
    lines = [
        "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,discard",
        "30 22 8:1 /opt /opt/vllm ro,relatime - ext4 /dev/sda1 rw,discard",
        "31 22 8:17 / /mnt/my\\040disk ro,relatime shared:2 - ext4 /dev/sdb1 ro",
        "32 22 7:0 / /snap/core ro,nodev - squashfs /dev/loop0 ro",
    ]
    write(tmp_path, "proc/self/mountinfo", "\n".join(lines) + "\n")
    assert disk.read_only_mounts(str(tmp_path)) == ["/mnt/my disk"]
    assert disk.read_only_mounts(str(tmp_path / "nothing")) is None


def test_disk_writes_and_leaves_nothing(tmp_path):
    seen = disk.disk(str(tmp_path / "not" / "there"))
    assert seen["place"] == str(tmp_path)
    assert seen["free_bytes"] > 0 and seen["write"]["error"] is None and seen["write"]["ms"] > 0
    assert list(tmp_path.iterdir()) == []
    assert disk.disk(str(tmp_path), probe=False)["write"] is None


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_full_and_read_only_disks_are_seen(tmp_path):
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(tmp_path)], check=False).returncode:
        pytest.skip("this machine does not allow mounting a tmpfs")
    try:
        assert disk.disk(str(tmp_path))["write"]["error"] is None
        (tmp_path / "filler").write_bytes(b"x" * (3 << 20))
        full = disk.disk(str(tmp_path))
        assert "ENOSPC" in full["write"]["error"] and full["free_bytes"] == 0
        assert [item.name for item in tmp_path.iterdir()] == ["filler"]
        subprocess.run(["mount", "-o", "remount,ro", str(tmp_path)], check=True)
        locked = disk.disk(str(tmp_path))
        assert locked["read_only"] and "EROFS" in locked["write"]["error"]
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_slow_write_is_made_again_and_the_fastest_counts():
    def attempts(*times):
        waits = iter(times)
        left = []

        def write(_place):
            left.append(next(waits))
            return {"ms": left[-1], "error": None}

        return disk.best_write("/x", write, sleep=lambda _s: None)["ms"], len(left)

    assert attempts(12.0) == (12.0, 1)
    assert attempts(800.0, 30.0) == (30.0, 2), "somebody else wrote, once"
    assert attempts(800.0, 900.0, 700.0) == (700.0, 3), "a slow disk is slow each time"


def test_a_failed_write_is_not_made_again():
    failed = {"ms": None, "error": "no space left (ENOSPC)"}
    assert disk.best_write("/x", lambda _place: failed, sleep=None) is failed
