"""The kernel log of a node: read it, and parse it once."""

from __future__ import annotations

import ctypes
import json
import os
import re
import shutil
import subprocess

from . import kernel_events

SYSLOG_ACTION_READ_ALL = 3
SYSLOG_ACTION_SIZE_BUFFER = 10


def as_evidence(lines, source, complete, error=None):
    """Return ``{"source", "lines", "events", "error", "complete"}``, where ``events`` is what :func:`kernel_events.parse` read.

    ``lines`` are ``{"text", "at_s"}`` (seconds, on the clock named by ``source``). Where the log could not be read, ``lines``
    and ``events`` are None and ``error`` says why. ``complete`` tells whether the boot's beginning is still in it.
    """
    events = None if lines is None else kernel_events.parse(lines)
    return {"source": source, "lines": lines, "events": events, "error": error, "complete": complete}


def collect(root="/", timeout_s=60):
    """Return the kernel log since boot, as :func:`as_evidence`.

    The journal is read where systemd
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
                return as_evidence(lines, "journal", True)
            tried.append("journalctl: %s" % (done.stderr.decode(errors="replace").strip() or "no kernel message"))
        except (OSError, subprocess.TimeoutExpired, ValueError) as error:
            tried.append("journalctl: %s" % error)
    try:
        lines = parse_ring(read_ring())
    except OSError as error:
        tried.append("klogctl: %s" % (error.strerror or error))
        return as_evidence(None, None, False, "; ".join(tried))
    if not lines:
        tried.append("klogctl: the ring buffer is empty")
        return as_evidence(None, None, False, "; ".join(tried))
    complete = any("Linux version " in line["text"] for line in lines[:3])
    return as_evidence(lines, "ring buffer", complete)


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
