"""What the kernel log means: every rule, and lines that look bad but are not."""

from __future__ import annotations

import pytest
from ansible.module_utils.plumbline.health.checks.kernel_log import MEANING, findings
from ansible.module_utils.plumbline.health.evidence import kernel_events
from health_nodes import node, statuses

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
    ("xid", "failed", "NVRM: Xid (PCI:0001:00:00 GPU-I:05 GPU-CI:00): 94, pid=1, Contained: SM (0x1)"),
    ("io_error", "failed", "nvme nvme1: Disabling device after reset failure: -19"),
    ("io_error", "failed", "nvme nvme1: Removing after probe failure status: -5"),
    ("filesystem", "failed", "XFS (nvme0n1p1): Filesystem has been shut down due to log error (0x2)."),
    ("mce", "failed", "[Hardware Error]: Deferred error, no action required."),
    ("mce", "failed", "Memory failure: 0x1e3b2c4: recovery action for dirty LRU page: Recovered"),
    ("mce_corrected", "degraded", "[Hardware Error]: Corrected error, no action required."),
    ("mce_unclear", "degraded", "{1}[Hardware Error]:   device_id: 0000:20:03.1"),
    ("pcie", "failed", "pcieport 0000:00:02.0: AER: Uncorrected (Fatal) error received: id=0010"),
    ("pcie", "failed", "pcieport 0000:89:02.0: DPC: containment event, status:0x1f01 source:0x0000"),
    ("pcie_corrected", "degraded", "pcieport 0000:00:02.0: AER: Corrected error received: 0000:01:00.0"),
    ("gpu_lost", "failed", "NVRM: GPU at 0000:01:00.0 has fallen off the bus."),
    ("gpu_init", "failed", "NVRM: GPU 0000:04:00.0: RmInitAdapter failed! (0x62:0x40:2192)"),
    ("gpu_reset", "failed", "NVRM: nvAssertOkFailedNoLog: Assertion failed: Reset required [NV_ERR_RESET_REQUIRED] (0x00000062)"),
    ("sxid", "failed", "nvidia-nvswitch1: SXid (PCI:0000:06:00.0): 20034, Fatal, Link 48 LTSSM Fault Up"),
    ("sxid_nonfatal", "degraded", "nvidia-nvswitch3: SXid (PCI:0000:04:00.0): 22013, Non-fatal, Link 44 Minion Link DLREQ interrupt"),
    ("nic", "failed", "mlx5_core 0000:0d:00.0: poll_health:801:(pid 0): device's health compromised - reached miss count"),
    ("nic_recovered", "degraded", "mlx5_core 0000:65:00.0 eth0: NETDEV WATCHDOG: CPU: 5: transmit queue 0 timed out 5032 ms"),
    ("mce", "failed", "SError Interrupt on CPU12, code 0x00000000be000011 -- SError"),
    ("hung_task", "degraded", "INFO: task kworker/u64:3:1234 blocked in I/O wait for more than 122 seconds."),
    ("kernel_bug", "failed", "Internal error: synchronous external abort: 0000000096000410 [#1] SMP"),
    ("kernel_bug", "failed", "BUG: kernel NULL pointer dereference, address: 0000000000000008"),
]


def found_in(*texts):
    """Return the findings in a log of these lines."""
    return findings(kernel_events.parse([{"text": text, "at_s": None} for text in texts]))


def hits(text):
    """Return {rule: status} of the rules that found something in one line."""
    return {item["rule"]: item["status"] for item in found_in(text) if item["count"]}


def test_every_rule_leaves_its_mark():
    # Or a check that never ran would look like one that passed.
    found = found_in("EXT4-fs error (device sda1): iget: checksum invalid", "blk_update_request: I/O error, dev fd0, sector 0")
    assert [item["rule"] for item in found] == [*kernel_events.RULES, "xid"] and set(MEANING) == set(kernel_events.RULES)
    by_rule = {item["rule"]: item for item in found}
    assert by_rule["filesystem"]["count"] == 1 and "checksum invalid" in by_rule["filesystem"]["last"]
    assert by_rule["io_error"]["count"] == 0 and by_rule["io_error"]["status"] == "healthy"


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
        "Machine check exception polling timer started.",
        "pcieport 0000:00:01.0: AER: enabled with IRQ 34",
        "NVRM: GPU at PCI:0000:9b:00: GPU-00000000-aaaa-bbbb-cccc-000000000001",
        "nvidia-nvswitch3: using MSI",
        "mlx5_core 0000:13:00.0: Port module event: module 0, Cable plugged",
    ],
)
def test_good_news_is_not(text):
    assert hits(text) == {}


def test_a_fatal_xid_is_not_hidden_by_a_later_harmless_one():
    texts = ["NVRM: Xid (PCI:0001:00:00): 79, gone", "NVRM: Xid (PCI:0001:00:00): 31, fault"]
    found = found_in(*texts)[-1]
    assert (found["rule"], found["status"], found["count"]) == ("xid", "failed", 1)
    assert ": 79," in found["last"]


def test_a_message_of_several_lines_is_told_once_with_its_details():
    block = ["{1}[Hardware Error]: event severity: fatal", "nvme nvme0: pci function", "{1}[Hardware Error]:   section_type: PCIe error"]
    by_rule = {item["rule"]: item for item in found_in(*block)}
    assert by_rule["mce"]["count"] == 1 and by_rule["mce"]["last"].endswith("event severity: fatal; section_type: PCIe error")


def test_xids_lost_with_the_ring_buffer_are_incomplete(root):
    evidence = node(root)
    evidence["kernel_log"].update(source="ring buffer", complete=False)
    assert statuses(evidence) == {"kernel_log": "incomplete"}
