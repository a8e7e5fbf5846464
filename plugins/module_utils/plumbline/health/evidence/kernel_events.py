"""What the kernel log says of broken hardware: its lines in, events out.

The patterns are the kernel's own messages, those of XIDs the NVIDIA driver's. What an event means for the node is decided
elsewhere (``checks.kernel_log``).
"""

from __future__ import annotations

import re

XID = re.compile(r"NVRM: Xid \(PCI:([0-9a-fA-F:.]+)\): (\d+)")

# Pattern by rule; a line may fall under several.
RULES = {
    "oom": re.compile(r"Out of memory: Kill(?:ed)? process|Memory cgroup out of memory: Kill(?:ed)? process"),
    # Not fd0 and sr0: the kernel probes a drive without a medium on every virtual machine.
    "io_error": re.compile(
        r"I/O error, dev (?!fd\d|sr\d)\S+|Buffer I/O error on dev (?!fd\d|sr\d)|critical medium error"
        r"|nvme\d*:? .*(?:timeout, (?:aborting|reset)|controller is down)",
        re.IGNORECASE,
    ),
    "filesystem": re.compile(
        r"EXT4-fs error|EXT4-fs \([^)]*\): Remounting filesystem read-only|XFS \([^)]*\): .*[Cc]orrupt"
        r"|BTRFS (?:error|critical)"
    ),
    "mce": re.compile(r"\[Hardware Error\](?!.*[Cc]orrected error)|Machine [Cc]heck Exception|EDAC MC\d+: \d+ UE"),
    "mce_corrected": re.compile(r"\[Hardware Error\].*[Cc]orrected error|Machine check events logged|EDAC MC\d+: \d+ CE"),
    "hung_task": re.compile(r"INFO: task .+ blocked for more than \d+ seconds|BUG: soft lockup|hard LOCKUP|rcu.*detected stall"),
    "kernel_bug": re.compile(r"kernel BUG at|BUG: unable to handle|Oops: |general protection fault, |Kernel panic"),
}


def parse(lines):
    """Parse the lines of the kernel log, each ``{"text", "at_s"}``.

    Returns ``lines_count``, ``rules`` (``{rule: [text, ...]}`` for every rule, also those without a line) and ``xids``
    (``[{"number", "place", "text"}]``, the place a PCI address in lower case), all in the order of the log.
    """
    events = {"lines_count": len(lines), "rules": {rule: [] for rule in RULES}, "xids": []}
    for line in lines:
        text = line["text"]
        for rule, pattern in RULES.items():
            if pattern.search(text):
                events["rules"][rule].append(text)
        xid = XID.search(text)
        if xid:
            events["xids"].append({"number": int(xid.group(2)), "place": xid.group(1).lower(), "text": text})
    return events
