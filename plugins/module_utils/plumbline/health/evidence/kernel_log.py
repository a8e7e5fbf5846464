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
# The kernel's first message; a few may stand before it (microcode, "Booting Linux on physical CPU"), and journald's own.
FIRST_MESSAGE = "Linux version "
FIRST_LINES = 10
# What journald says of itself where it could not read all that the kernel wrote (journald-kmsg.c). "N callbacks suppressed"
# is something else: the kernel did not write those.
MISSED = re.compile(r"^(?:systemd-journald\[\d+\]: )?(?:Missed (\d+) kernel messages|/dev/kmsg buffer overrun, some messages lost)")
DAMAGED_FILE = re.compile(
    r"(?:is truncated|is corrupt\w*|uncleanly shut down)[^\n]*ignoring|Bad message|Failed to (?:iterate|get journal fields)", re.I
)


def as_evidence(lines, source, complete, error=None, lost=None):
    """Return ``{"source", "lines", "events", "error", "complete", "lost"}``; ``events`` is what :func:`kernel_events.parse` read.

    ``lines`` are ``{"text", "at_s"}`` (seconds, on the clock named by ``source``). Where the log could not be read, ``lines``
    and ``events`` are None and ``error`` says why. ``complete`` tells whether it is all that the kernel wrote since boot;
    where it is not, ``lost`` says which part is missing, if that is known.
    """
    events = None if lines is None else kernel_events.parse(lines)
    return {"source": source, "lines": lines, "events": events, "error": error, "complete": complete, "lost": lost}


def collect(root="/", timeout_s=60):
    """Return the kernel log since boot, as :func:`as_evidence`.

    The journal is read where systemd runs: as JSON, because its text depends on locale and time format. Elsewhere, and where
    the journal lacks a part, the kernel's ring buffer. Either may have lost its beginning: where both have, what each has is
    judged, and ``complete`` is False.
    """
    tool = shutil.which("journalctl")
    tried, journal, lost = [], [], None
    if tool and os.path.isdir(os.path.join(root, "run/systemd/system")):
        try:
            journal, lost = read_journal(tool, timeout_s)
        except (OSError, subprocess.TimeoutExpired, ValueError) as error:
            tried.append("journalctl: %s" % error)
    if journal and not lost:
        return as_evidence(journal, "journal", True)
    ring = []
    try:
        ring = parse_ring(read_ring())
        tried += [] if ring else ["klogctl: the ring buffer is empty"]
    except OSError as error:
        tried.append("klogctl: %s" % (error.strerror or error))
    if _begins(ring):
        return as_evidence(ring, "ring buffer", True)
    if not journal:
        return as_evidence(ring, "ring buffer", False) if ring else as_evidence(None, None, False, "; ".join(tried))
    known = {text for line in journal for text in line["text"].split("\n")}
    more = [line for line in ring if line["text"] not in known]
    return as_evidence(journal + more, "journal and ring buffer" if more else "journal", False, lost=lost)


def read_journal(tool, timeout_s):
    """Return the kernel's lines of this boot's journal, and a text that says what they lack, or None.

    journald's own messages (``_TRANSPORT=driver``) are asked for too: only they tell of kernel messages that it missed.
    Raises OSError, TimeoutExpired, and ValueError where the journal cannot be read at all.
    """
    done = subprocess.run(
        [
            tool,
            "-b",
            "-o",
            "json",
            "--no-pager",
            "--all",
            "--output-fields=MESSAGE,PRIORITY",
            "_TRANSPORT=kernel",
            "+",
            "_TRANSPORT=driver",
        ],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=timeout_s,
        check=False,
    )
    text, said = done.stdout.decode(errors="replace"), done.stderr.decode(errors="replace").strip()
    lines = parse_journal(text)
    if not lines:
        raise ValueError(said or "no kernel message")
    return lines, journal_lacks(text, lines, said, done.returncode)


def journal_lacks(text, lines, said="", status=0):
    """Return which part of this boot the journal lacks, in words, or None; ``said`` is what journalctl wrote to its stderr."""
    lacks = []
    if not _begins(lines):
        lacks.append("the beginning of the journal is lost (no %r), and with it what XIDs it had" % FIRST_MESSAGE.strip())
    missed = [found for found in (MISSED.match(line["text"]) for line in lines) if found]
    if missed:
        count = sum(int(found.group(1)[:9]) for found in missed if found.group(1))
        lacks.append("journald missed %s kernel messages" % (count or "an unknown number of"))
    damaged = sum(1 for line in lines if line.get("damaged"))
    if damaged:
        lacks.append("%d lines of journalctl's answer cannot be read" % damaged)
    if not text.endswith("\n"):
        lacks.append("journalctl's answer is cut")
    if status or DAMAGED_FILE.search(said):
        lacks.append("journalctl could not read all of it (%s)" % (" ".join(said.split())[:200] or "status %d" % status))
    return "; ".join(lacks) or None


def _begins(lines):
    return any(FIRST_MESSAGE in line["text"] for line in lines[:FIRST_LINES])


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
        match = re.match(r"<\d+>(?:\[\s*(\d+\.\d+)\](?:\[[^\]]*\])? ?)?(.*)", raw) or re.match(
            r"\[\s*(\d+\.\d+)\](?:\[\s*[CT]\d+\])? ?(.*)", raw
        )
        body = match.group(2) if match else raw
        if match and match.group(1):
            at_s = float(match.group(1))
        if body.strip():
            lines.append({"text": body.rstrip(), "at_s": at_s})
    return lines


def parse_journal(text):
    """Parse ``journalctl -o json``: one object a line. Raises ValueError where no line is one.

    MESSAGE is a string, a list of bytes where it is no UTF-8, a list of strings where the field came several times, or null
    where it was too long to print. A line that is no object (the last one of a text that was cut) is kept as its raw text and
    marked ``damaged``, because it may tell of an XID.
    """
    lines, read = [], 0
    for raw in text.split("\n"):
        if not raw.strip():
            continue
        try:
            entry = json.loads(raw)
        except (ValueError, RecursionError):
            entry = None
        if not isinstance(entry, dict):
            lines.append({"text": raw.strip(), "at_s": None, "damaged": True})
            continue
        read += 1
        message = _message(entry.get("MESSAGE"))
        if message:
            lines.append({"text": message, "at_s": _seconds(entry.get("__REALTIME_TIMESTAMP"))})
    if lines and not read:
        raise ValueError("journalctl answered something else than JSON: %s" % lines[0]["text"][:200])
    return lines


def _message(value):
    """Return MESSAGE as text."""
    if isinstance(value, list):
        if all(isinstance(item, int) and 0 <= item < 256 for item in value):
            return bytes(value).decode(errors="replace")
        return "\n".join(str(item) for item in value)
    return "" if value is None else str(value)


def _seconds(microseconds):
    """Return a time of the journal in seconds, or None where it is no number."""
    try:
        return int(microseconds) / 1e6
    except (TypeError, ValueError, OverflowError):
        return None
