"""What every node must show, with or without GPUs."""

from __future__ import annotations

import time

GIB = 1 << 30


def test_sshd_is_running(host):
    assert host.process.filter(comm="sshd"), "no process named sshd"


def test_python_is_new_enough(host, variables):
    python = variables.get("ansible_python_interpreter", "python3")
    version = host.check_output("%s -c 'import sys; print(sys.version_info[0] * 100 + sys.version_info[1])'", python)
    assert int(version) >= 309, f"{python} is Python {version}, expected at least 3.9"


def test_disk_has_room_and_can_be_written(host, expect):
    for path in ("/", "/var/lib"):
        free_kib, percent_used = host.check_output("df -P -k %s | awk 'NR == 2 {print $4, $5}'", path).split()
        assert int(free_kib) * 1024 >= expect["disk_free_min_bytes"], f"{path}: {free_kib} KiB free"
        assert 100 - int(percent_used.rstrip("%")) >= expect["disk_free_min_percent"], f"{path}: {percent_used} used"
    written = host.run("f=$(mktemp -p /var/lib) && dd if=/dev/zero of=$f bs=64k count=1 conv=fsync; rc=$?; rm -f $f; exit $rc")
    assert written.rc == 0, written.stderr


def test_interface_of_this_connection_is_up(host):
    address = host.check_output("echo $SSH_CONNECTION").split()[2]
    name = host.check_output("ip -o addr show to %s | awk 'NR == 1 {print $2}'", address)
    assert name, f"no interface holds {address}"
    assert host.file(f"/sys/class/net/{name}/carrier").content_string.strip() == "1"
    assert host.file(f"/sys/class/net/{name}/operstate").content_string.strip() in ("up", "unknown")


def test_clock_agrees_with_the_controller(host, expect):
    best = None
    for _attempt in range(3):
        sent = time.time()
        node = float(host.check_output("date -u +%s.%N"))
        received = time.time()
        # The node read its clock somewhere in between: wrong by half the round trip at most.
        skew_s, bound_s = node - (sent + received) / 2, (received - sent) / 2
        if best is None or bound_s < best[1]:
            best = (skew_s, bound_s)
    skew_s, bound_s = best
    limit_s = expect["clock_skew_max_ms"] / 1000
    assert abs(skew_s) - bound_s <= limit_s, f"{skew_s:.3f} s ± {bound_s:.3f} s, at most {limit_s:.3f} s"
