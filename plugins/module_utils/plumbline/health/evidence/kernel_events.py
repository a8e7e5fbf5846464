"""What the kernel log says of broken hardware: its lines in, events out.

The patterns are the kernel's own messages, those of XIDs the NVIDIA driver's. Messages of several lines are put together in
``kernel_hardware`` and ``kernel_devices``. What an event means for the node is decided elsewhere (``checks.kernel_log``).
"""

from __future__ import annotations

import re

from . import kernel_devices, kernel_hardware

# ``Xid (PCI:0000:9b:00): 79, ...``, without the word PCI in old drivers, with ``GPU-I:05 GPU-CI:00`` on a GPU in MIG mode.
XID = re.compile(r"NVRM:.*?(?<![A-Za-z])Xid\s*\(([^()]{0,80})\)\s*:\s*([0-9]{1,6})?")
MIG_INSTANCE = re.compile(r"GPU-C?I:\d+")
UNREADABLE_XID = 0  # the number of an XID whose number is garbled; the driver has none of that number

# What one line says by itself, by rule; a line may fall under several.
LINES = {
    "oom": re.compile(r"Out of memory(?: \([^)]*\))?: Kill(?:ed)? process|Memory cgroup out of memory(?: \([^)]*\))?: Kill(?:ed)? process"),
    # Not fd0 and sr0: the kernel probes a drive without a medium on every virtual machine.
    "io_error": re.compile(
        r"I/O error, dev (?!fd\d|sr\d)\S+|Buffer I/O error on dev(?:ice)? (?!fd\d|sr\d)|critical medium error"
        r"|nvme\d*:? .*(?:timeout, (?:aborting|reset|disable)|controller is down|Disabling device after reset failure"
        r"|Removing after probe failure|Device not ready; aborting|Identify Controller failed|device inaccessible"
        r"|probe .*failed with error)|md/raid\S*: ?Disk failure on",
        re.IGNORECASE,
    ),
    "filesystem": re.compile(
        r"EXT4-fs error|EXT4-fs \([^)]*\): Remounting filesystem read-only|Aborting journal on device"
        r"|XFS \([^)]*\): .*(?:[Cc]orrupt|[Ss]hutting down filesystem|has been shut down|log I/O error)"
        r"|BTRFS:? (?:error|critical)|BTRFS: .*forced readonly"
    ),
    "hung_task": re.compile(
        r"INFO: task .+ blocked (?:in I/O wait )?for more than \d+ seconds|BUG: soft lockup|hard LOCKUP|rcu.*detected stall"
        r"|BUG: workqueue lockup"
    ),
    "kernel_bug": re.compile(
        r"kernel BUG at|BUG: unable to handle|BUG: kernel NULL pointer|Unable to handle kernel |BUG: Bad page state|Oops: "
        r"|Internal error: .*\[#\d+\]|general protection fault, |Kernel panic"
    ),
}
# Every rule, in the order in which it is told.
RULES = (
    "oom", "io_error", "filesystem", "mce", "mce_corrected", "mce_unclear", "pcie", "pcie_corrected",
    "gpu_lost", "gpu_init", "gpu_driver", "gpu_reset", "sxid", "sxid_nonfatal", "nic", "nic_recovered",
    "hung_task", "kernel_bug",
)  # fmt: skip


def parse(lines):
    """Parse the lines of the kernel log, each ``{"text", "at_s"}``.

    Returns ``lines_count``, ``rules`` (``{rule: [text, ...]}`` for every rule, also those without a message) and ``xids``
    (``[{"number", "place", "text"}]``, the place a PCI address in lower case, with the MIG instance where there is one), all
    in the order of the log. A message of several lines counts once, its lines joined by ``; ``.
    """
    texts = [text for line in lines for text in line["text"].split("\n") if text.strip()]
    events = {"lines_count": len(lines), "rules": {rule: [] for rule in RULES}, "xids": []}
    for text in texts:
        for rule, pattern in LINES.items():
            if pattern.search(text):
                events["rules"][rule].append(text)
        xid = XID.search(text)
        if xid:
            events["xids"].append({"number": int(xid.group(2) or UNREADABLE_XID), "place": _place(xid.group(1)), "text": text})
    for rule, text in kernel_hardware.read(texts) + kernel_devices.read(texts, events["xids"]):
        events["rules"][rule].append(text)
    return events


def _place(said):
    """Return the place of an XID from what stands in its parentheses."""
    address = re.sub(r"^PCI:", "", said.strip()).split(" ")[0].lower()
    return " ".join([address or "an unknown place", *MIG_INSTANCE.findall(said)])
