"""The kernel log: read it, and find the lines that speak of a broken node."""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import subprocess

# XIDs after which the GPU must be reset or the node replaced. Azure NHC's list (azurehpc-health-checks, check_gpu_xid)
# and the three that it lacks: 94 contained and 95 uncontained memory error, 140 unrecovered ECC error
# (NVIDIA, "XID Errors"). Others, such as 13, 31, 43 and 45, are mostly an application's own fault.
FATAL_XIDS = frozenset([48, 56, 57, 58, 62, 63, 64, 65, 68, 69, 73, 74, 79, 80, 81, 92, 119, 120] + [94, 95, 140])
XID = re.compile(r"NVRM: Xid \(PCI:([0-9a-fA-F:.]+)\): (\d+)")

# (name, status of a finding, pattern, remedy); the patterns are the kernel's own messages.
RULES = (
    (
        "oom",
        "degraded",
        re.compile(r"Out of memory: Kill(?:ed)? process|Memory cgroup out of memory: Kill(?:ed)? process"),
        "find what took the memory (journalctl -k) and stop it, or use a node with more",
    ),
    (
        "io_error",
        "failed",
        # Not fd0 and sr0: the kernel probes a drive without a medium on every virtual machine.
        re.compile(
            r"I/O error, dev (?!fd\d|sr\d)\S+|Buffer I/O error on dev (?!fd\d|sr\d)|critical medium error"
            r"|nvme\d*:? .*(?:timeout, (?:aborting|reset)|controller is down)",
            re.IGNORECASE,
        ),
        "replace the node: its disk does not answer as it should",
    ),
    (
        "filesystem",
        "failed",
        re.compile(
            r"EXT4-fs error|EXT4-fs \([^)]*\): Remounting filesystem read-only|XFS \([^)]*\): .*[Cc]orrupt"
            r"|BTRFS (?:error|critical)"
        ),
        "check the file system (fsck) after a reboot; replace the node if it comes back",
    ),
    (
        "mce",
        "failed",
        re.compile(r"\[Hardware Error\](?!.*[Cc]orrected error)|Machine [Cc]heck Exception|EDAC MC\d+: \d+ UE"),
        "replace the node: the processor or its memory reported a hardware error",
    ),
    (
        "mce_corrected",
        "degraded",
        re.compile(r"\[Hardware Error\].*[Cc]orrected error|Machine check events logged|EDAC MC\d+: \d+ CE"),
        "watch it: corrected hardware errors often come before uncorrected ones",
    ),
    (
        "hung_task",
        "degraded",
        re.compile(r"INFO: task .+ blocked for more than \d+ seconds|BUG: soft lockup|hard LOCKUP|rcu.*detected stall"),
        "look for what the task waits on (disk, network file system, driver); reboot if it does not end",
    ),
    (
        "kernel_bug",
        "failed",
        re.compile(r"kernel BUG at|BUG: unable to handle|Oops: |general protection fault, |Kernel panic"),
        "reboot the node and keep the trace (journalctl -k -b -1)",
    ),
)

SYSLOG_ACTION_READ_ALL = 3
SYSLOG_ACTION_SIZE_BUFFER = 10


def collect(root="/", timeout_s=60):
    """Return ``{"source", "lines", "error", "complete"}`` of the kernel log since boot.

    ``lines`` are ``{"text", "at_s"}`` (seconds, on the clock named by ``source``). The journal is read where systemd
    runs: as JSON, because its text depends on locale and time format. Elsewhere the kernel's ring buffer, which
    may have lost its beginning: ``complete`` is then False.
    """
    tool = shutil.which("journalctl")
    tried = []
    if tool and os.path.isdir(os.path.join(root, "run/systemd/system")):
        try:
            done = subprocess.run(
                [tool, "-k", "-b", "-o", "json", "--no-pager", "--output-fields=MESSAGE,PRIORITY"],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=timeout_s,
                check=False,
            )
            lines = parse_journal(done.stdout.decode(errors="replace"))
            if done.returncode == 0 and lines:
                return {"source": "journal", "lines": lines, "error": None, "complete": True}
            tried.append("journalctl: %s" % (done.stderr.decode(errors="replace").strip() or "no kernel message"))
        except (OSError, subprocess.TimeoutExpired, ValueError) as error:
            tried.append("journalctl: %s" % error)
    try:
        lines = parse_ring(read_ring())
    except OSError as error:
        tried.append("klogctl: %s" % (error.strerror or error))
        return {"source": None, "lines": None, "error": "; ".join(tried), "complete": False}
    if not lines:
        tried.append("klogctl: the ring buffer is empty")
        return {"source": None, "lines": None, "error": "; ".join(tried), "complete": False}
    complete = any("Linux version " in line["text"] for line in lines[:3])
    return {"source": "ring buffer", "lines": lines, "error": None, "complete": complete}


def read_ring():
    """Return the kernel's ring buffer as text (syslog(2), as dmesg reads it); raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    size = libc.klogctl(SYSLOG_ACTION_SIZE_BUFFER, None, 0)
    if size < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    buffer = ctypes.create_string_buffer(size)
    used = libc.klogctl(SYSLOG_ACTION_READ_ALL, buffer, size)
    if used < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return buffer.raw[:used].decode(errors="replace")


def parse_ring(text):
    """Parse ``<6>[   12.345678] text``, the format of syslog(2); a line of its own keeps the time of the one before."""
    lines = []
    at_s = None
    for raw in text.splitlines():
        match = re.match(r"<\d+>(?:\[\s*(\d+\.\d+)\](?:\[[^\]]*\])? ?)?(.*)", raw)
        body = match.group(2) if match else raw
        if match and match.group(1):
            at_s = float(match.group(1))
        if body.strip():
            lines.append({"text": body.rstrip(), "at_s": at_s})
    return lines


def parse_journal(text):
    """Parse ``journalctl -o json``: one object a line. Raises ValueError on anything else.

    MESSAGE is a string, or a list of bytes where it is no UTF-8, or null where it was too long to print.
    """
    lines = []
    for raw in text.splitlines():
        if not raw.strip():
            continue
        entry = json.loads(raw)
        message = entry.get("MESSAGE")
        if isinstance(message, list):
            message = bytes(message).decode(errors="replace")
        if message:
            at_us = entry.get("__REALTIME_TIMESTAMP")
            lines.append({"text": message, "at_s": int(at_us) / 1e6 if at_us else None})
    return lines


def find(lines):
    """Return ``[{"rule", "status", "count", "last", "remedy"}]``, one for each rule and one for XIDs, in that order.

    A rule that found nothing is in the list with count 0, so that its check leaves a reason too.
    """
    found = []
    for name, status, pattern, remedy in RULES:
        hits = [line["text"] for line in lines if pattern.search(line["text"])]
        found.append(_finding(name, status, hits, remedy))
    matches = [(XID.search(line["text"]), line["text"]) for line in lines]
    xids = [(int(match.group(2)), match.group(1), text) for match, text in matches if match]
    fatal = [text for number, _place, text in xids if number in FATAL_XIDS]
    other = [text for number, _place, text in xids if number not in FATAL_XIDS]
    if fatal:
        remedy = "reset the GPU or reboot; replace the node and report it to Azure if the XID comes back"
        found.append(_finding("xid", "failed", fatal, remedy))
    else:
        found.append(_finding("xid", "degraded", other, "look whether the application on that GPU crashed at that time"))
    places = {}
    for number, place, _text in xids:
        if not fatal or number in FATAL_XIDS:
            places.setdefault(number, []).append(place.lower())
    found[-1]["xids"] = {number: {place: seen.count(place) for place in sorted(set(seen))} for number, seen in sorted(places.items())}
    return found


def _finding(name, status, hits, remedy):
    last = " ".join(hits[-1].split())[:200] if hits else None
    return {"rule": name, "status": status if hits else "healthy", "count": len(hits), "last": last, "remedy": remedy}
