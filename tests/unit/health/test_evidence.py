"""Reading a node's evidence: recorded /proc and /sys, real disks, real clocks."""

from __future__ import annotations

import os
import subprocess

import pytest
from ansible.module_utils.plumbline.health import evidence

ND96_MEMINFO = "MemTotal:       1979209072 kB\nMemAvailable:   1950000000 kB\nSwapTotal:             0 kB\nHugePages_Total:       0\n"


def write(root, path, text):
    """Write one recorded file."""
    place = root / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text)


def test_memory_and_cpu(tmp_path):
    write(tmp_path, "proc/meminfo", ND96_MEMINFO)
    write(tmp_path, "proc/loadavg", "0.25 0.50 0.75 1/900 1234\n")
    write(tmp_path, "sys/devices/system/cpu/online", "0-94\n")
    assert evidence.memory(str(tmp_path)) == {
        "total": 1979209072 * 1024,
        "available": 1950000000 * 1024,
        "swap_total": 0,
    }
    seen = evidence.cpu(str(tmp_path))
    assert (seen["count"], seen["load"]) == (95, [0.25, 0.5, 0.75])
    assert evidence.count_list("0-3,8,10-11") == 7
    assert evidence.memory(str(tmp_path / "nothing"))["total"] is None


def test_read_only_file_system_is_told_from_a_read_only_mount(tmp_path):
    lines = [
        "22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw,discard",
        "30 22 8:1 /opt /opt/vllm ro,relatime - ext4 /dev/sda1 rw,discard",
        "31 22 8:17 / /mnt/my\\040disk ro,relatime shared:2 - ext4 /dev/sdb1 ro",
        "32 22 7:0 / /snap/core ro,nodev - squashfs /dev/loop0 ro",
    ]
    write(tmp_path, "proc/self/mountinfo", "\n".join(lines) + "\n")
    assert evidence.read_only_mounts(str(tmp_path)) == ["/mnt/my disk"]
    assert evidence.read_only_mounts(str(tmp_path / "nothing")) is None


def test_disk_writes_and_leaves_nothing(tmp_path):
    seen = evidence.disk(str(tmp_path / "not" / "there"))
    assert seen["place"] == str(tmp_path)
    assert seen["free_bytes"] > 0 and seen["write"]["error"] is None and seen["write"]["ms"] > 0
    assert list(tmp_path.iterdir()) == []
    assert evidence.disk(str(tmp_path), probe=False)["write"] is None


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_full_and_read_only_disks_are_seen(tmp_path):
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=3m", "tmpfs", str(tmp_path)], check=False).returncode:
        pytest.skip("this machine does not allow mounting a tmpfs")
    try:
        assert evidence.disk(str(tmp_path))["write"]["error"] is None
        (tmp_path / "filler").write_bytes(b"x" * (3 << 20))
        full = evidence.disk(str(tmp_path))
        assert "ENOSPC" in full["write"]["error"] and full["free_bytes"] == 0
        assert [item.name for item in tmp_path.iterdir()] == ["filler"]
        subprocess.run(["mount", "-o", "remount,ro", str(tmp_path)], check=True)
        locked = evidence.disk(str(tmp_path))
        assert locked["read_only"] and "EROFS" in locked["write"]["error"]
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


@pytest.mark.parametrize(
    ("address", "ssh", "default", "found"),
    [
        ("10.0.0.4", None, "eth0", ("eth1", "10.0.0.4", "inventory address")),
        ("20.1.2.3", "9.9.9.9 5 10.0.0.5 22", "eth1", ("eth0", "10.0.0.5", "address of the SSH connection")),
        ("20.1.2.3", None, "eth1", ("eth1", "10.0.0.4", "default route")),
        ("127.0.0.1", None, None, ("lo", "127.0.0.1", "inventory address (loopback)")),
        ("20.1.2.3", None, None, (None, None, "not found")),
        (None, None, None, (None, None, "not found")),
    ],
)
def test_interface_is_found(address, ssh, default, found):
    own = {"127.0.0.1": "lo", "10.0.0.5": "eth0", "10.0.0.4": "eth1"}
    assert evidence.find_interface(address, own, ssh, default) == found


def test_loopback_of_this_machine_is_read():
    assert evidence.ipv4_addresses()["127.0.0.1"] == "lo"
    seen = evidence.nic("127.0.0.1")
    assert seen["interface"] and seen["mtu"] > 0 and seen["rx_packets"] is not None


def test_default_route_and_ipv6(tmp_path):
    route = "Iface\tDestination\tGateway\tFlags\tRefCnt\tUse\tMetric\tMask\tMTU\tWindow\tIRTT\n"
    route += "eth1\t0000620A\t00000000\t0001\t0\t0\t0\t0000FFFF\t0\t0\t0\neth0\t00000000\t0100000A\t0003\t0\t0\t100\t00000000\t0\t0\t0\n"
    write(tmp_path, "proc/net/route", route)
    write(tmp_path, "proc/net/if_inet6", "fe80000000000000022248fffe000001 02 40 20 80     eth0\n")
    assert evidence.default_interface(str(tmp_path)) == "eth0"
    assert evidence.ipv6_addresses(str(tmp_path)) == {"fe80::222:48ff:fe00:1": "eth0"}


def test_skew_takes_the_shortest_round_trip():
    samples = [
        {"sent": 100.0, "node": 107.0, "received": 104.0},
        {"sent": 200.0, "node": 205.01, "received": 200.02},
        {"sent": 300.0, "node": 305.0, "received": 299.0},  # the controller's clock went back: worthless
    ]
    assert evidence.clock_skew(samples) == {"skew_ms": 5000.0, "bound_ms": 10.0, "samples": 3}
    assert evidence.clock_skew([]) is None
    assert evidence.clock_skew(samples[2:]) is None


def test_kernel_clock_is_read():
    seen = evidence.kernel_clock()
    assert seen["error"] or (isinstance(seen["synchronised"], bool) and seen["max_error_ms"] >= 0)


def test_metadata_is_asked_only_on_azure(tmp_path, monkeypatch):
    def refuse(*_arguments):
        raise AssertionError("the metadata service was asked elsewhere")

    monkeypatch.setattr(evidence.urllib.request, "build_opener", refuse)
    write(tmp_path, "sys/class/dmi/id/chassis_asset_tag", "No Asset Tag\n")
    assert evidence.azure_vm_size(str(tmp_path)) == {"azure": False, "vm_size": None, "error": None}


def test_metadata_on_azure(tmp_path, monkeypatch):
    class Answer:
        def __enter__(self):
            return self

        def __exit__(self, *_error):
            return None

        def read(self, _limit):
            return b"Standard_ND96isr_H100_v5"

    class Opener:
        answers = [Answer(), OSError("timed out")]

        def open(self, request, timeout):
            assert request.get_header("Metadata") == "true" and timeout > 0
            answer = self.answers.pop(0)
            if isinstance(answer, OSError):
                raise answer
            return answer

    opener = Opener()
    monkeypatch.setattr(evidence.urllib.request, "build_opener", lambda *_handlers: opener)
    write(tmp_path, "sys/class/dmi/id/chassis_asset_tag", evidence.AZURE_ASSET_TAG + "\n")
    assert evidence.azure_vm_size(str(tmp_path))["vm_size"] == "Standard_ND96isr_H100_v5"
    assert evidence.azure_vm_size(str(tmp_path)) == {"azure": True, "vm_size": None, "error": "timed out"}
