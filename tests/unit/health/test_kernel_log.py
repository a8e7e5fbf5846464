"""The kernel log: both formats, every rule, and lines that look bad but are not."""

from __future__ import annotations

import json

import pytest
from ansible.module_utils.plumbline.health import kernel_log as log

RING = """\
<5>[    0.000000] Linux version 6.8.0-1025-azure (buildd@lcy02) #30-Ubuntu SMP
<6>[    1.000000][    T1] mce: CPU supports 32 MCE banks
<3>[    2.500000] blk_update_request: I/O error, dev fd0, sector 0 op 0x0:(READ)
<6>[    3.250000] EXT4-fs (sda1): mounted filesystem with ordered data mode.
<4>[   12.000001] EXT4-fs error (device sda1): ext4_lookup:1857: inode #131: comm bash: iget: checksum invalid
"""

BAD = [
    ("oom", "degraded", "Out of memory: Killed process 4711 (python3) total-vm:9000kB, anon-rss:8000kB"),
    ("oom", "degraded", "Memory cgroup out of memory: Killed process 12 (ray::IDLE) total-vm:1kB"),
    ("io_error", "failed", "I/O error, dev sda, sector 2048 op 0x0:(READ) flags 0x0 phys_seg 1 prio class 2"),
    ("io_error", "failed", "Buffer I/O error on dev nvme0n1p1, logical block 0, async page read"),
    ("io_error", "failed", "nvme nvme3: I/O 17 QID 4 timeout, aborting"),
    ("filesystem", "failed", "EXT4-fs (sda1): Remounting filesystem read-only"),
    ("filesystem", "failed", "XFS (sdb1): Metadata corruption detected at xfs_agf_verify"),
    ("mce", "failed", "mce: [Hardware Error]: CPU 12: Machine Check: 0 Bank 7: be00000000800400"),
    ("mce_corrected", "degraded", "{1}[Hardware Error]: event severity: corrected, Corrected error"),
    ("hung_task", "degraded", "INFO: task jbd2/sda1-8:1234 blocked for more than 120 seconds."),
    ("hung_task", "degraded", "watchdog: BUG: soft lockup - CPU#3 stuck for 26s! [nvidia-smi:9]"),
    ("kernel_bug", "failed", "BUG: unable to handle page fault for address: ffffffffc0a00000"),
    ("xid", "failed", "NVRM: Xid (PCI:0001:00:00): 79, pid=1234, GPU has fallen off the bus."),
    ("xid", "failed", "NVRM: Xid (PCI:0008:00:00): 94, pid='<unknown>', Contained: Device memory error"),
    ("xid", "failed", "NVRM: Xid (PCI:0008:00:00): 95, Uncontained: FBHUB error"),
    ("xid", "failed", "NVRM: Xid (PCI:0008:00:00): 140, unrecovered ECC"),
    ("xid", "degraded", "NVRM: Xid (PCI:0001:00:00): 31, pid=99, name=python3, MMU Fault"),
]


def hits(text):
    """Return {rule: status} of the rules that found something in one line."""
    return {item["rule"]: item["status"] for item in log.find([{"text": text, "at_s": None}]) if item["count"]}


@pytest.mark.parametrize(("rule", "status", "text"), BAD)
def test_bad_news_is_found_once(rule, status, text):
    assert hits(text) == {rule: status}


@pytest.mark.parametrize(
    "text",
    [
        "mce: CPU supports 32 MCE banks",
        "blk_update_request: I/O error, dev fd0, sector 0 op 0x0:(READ)",
        "Buffer I/O error on dev sr0, logical block 0",
        "EXT4-fs (sda1): mounted filesystem with ordered data mode. Opts: errors=remount-ro",
        "NVRM: loading NVIDIA UNIX x86_64 Kernel Module  580.159.04",
        "nvme nvme0: 32/0/0 default/read/poll queues",
        "EDAC MC0: Giving out device to module skx_edac",
    ],
)
def test_good_news_is_not(text):
    assert hits(text) == {}


def test_ring_buffer():
    lines = log.parse_ring(RING)
    assert len(lines) == 5
    assert lines[1] == {"text": "mce: CPU supports 32 MCE banks", "at_s": 1.0}
    assert lines[4]["at_s"] == 12.000001
    found = {item["rule"]: item for item in log.find(lines)}
    assert found["filesystem"]["count"] == 1 and "checksum invalid" in found["filesystem"]["last"]
    assert found["io_error"]["count"] == 0 and found["io_error"]["status"] == "healthy"
    # Every rule leaves its mark, or a check that never ran would look like one that passed.
    assert [item["rule"] for item in log.find(lines)] == [rule[0] for rule in log.RULES] + ["xid"]


def test_a_fatal_xid_is_not_hidden_by_a_later_harmless_one():
    texts = ["NVRM: Xid (PCI:0001:00:00): 79, gone", "NVRM: Xid (PCI:0001:00:00): 31, fault"]
    found = log.find([{"text": text, "at_s": None} for text in texts])[-1]
    assert (found["rule"], found["status"], found["count"]) == ("xid", "failed", 1)
    assert ": 79," in found["last"]


def test_journal():
    entries = [
        {"MESSAGE": "Linux version 6.8", "__REALTIME_TIMESTAMP": "1763960000000000", "PRIORITY": "5"},
        {"MESSAGE": list(b"I/O error, dev sdb, sector 1 \xff"), "__REALTIME_TIMESTAMP": "1763960001500000"},
        {"MESSAGE": None, "__REALTIME_TIMESTAMP": "1763960002000000"},
    ]
    lines = log.parse_journal("".join(json.dumps(entry) + "\n" for entry in entries))
    assert [line["at_s"] for line in lines] == [1763960000.0, 1763960001.5]
    assert {item["rule"] for item in log.find(lines) if item["count"]} == {"io_error"}
    with pytest.raises(ValueError):
        log.parse_journal("-- No entries --\n")


def test_unreadable_log_says_why(monkeypatch):
    def refuse():
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(log, "read_ring", refuse)
    monkeypatch.setattr(log.shutil, "which", lambda name: None)
    seen = log.collect()
    assert seen["lines"] is None and seen["error"] == "klogctl: Operation not permitted"
