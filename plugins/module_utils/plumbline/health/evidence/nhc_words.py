"""Which of NHC's ERROR lines are about NHC itself, and not about the node.

``die`` is its only way to say that something is wrong: a bad GPU, its own timeout, a command that is not installed and a mistake in its
conf come in the same form. Sources: LBNL NHC 1.4.3 (``nhc``, ``lbnl_cmd.nhc``, ``lbnl_ps.nhc``, ``lbnl_net.nhc``), Azure's
``customTests``, and what bash, sudo, timeout and the dynamic linker print for a command that is not there.
"""

from __future__ import annotations

import re

# What an error is about, when it is not about the node.
SETUP = "setup"  # NHCNA: Azure's own word for it
MISSING = "missing"  # a check, a command or a library of it is not installed
STOPPED = "stopped"  # the check was ended before it had an answer
CONF = "conf"  # a mistake in the conf
UNREAD = "unread"  # it compared without numbers, or against its own numbers
DRIVER = "driver"  # it follows from a driver that is not loaded

_STOPPED = re.compile(
    r'^(?:Script timed out(?: while executing "(?P<check>.*)")?\.?|Terminated by signal SIG[A-Z]+\.?|'
    r"Watchdog timer unable to terminate hung NHC process \d+\.?)$"
)
# An exit code of bash: 126 cannot be executed, 127 not found.
_MISSING = re.compile(
    r"^Check .+ returned 12[67]$|\b12[67](?: \(expected \d+\))? returned by \"|\berror code 12[67]\b|"
    r"not found or not runnable|\bcommand not found\b"
)
# 124 is timeout's, 128 + n a signal that somebody sent. A crash (134, 136, 139) is the check's own and may be the node's.
_ENDED = re.compile(r"^Check .+ returned (?:124|129|130|137|142|143)$|\bTIMEOUT after \d+s for \"")
_CONF = re.compile(r"\bSyntax error:|Option -\S+ requires an argument|Invalid option:|\bexceeds NHC timeout\b|No match criteria supplied")

# The commands without which a check still knows what it says.
_HELPERS = ("netstat", "logger", "sudo", "curl")
_NOT_A_PROGRAM = ("/sys/", "/proc/", "/dev/")
_LACKING = (
    re.compile(r"\b(?:line )?\d+: (\S+): (?:command )?not found$"),
    re.compile(r"\bline \d+: (/\S+): (?:No such file or directory|Permission denied|cannot execute.*)$"),
    re.compile(r"^sudo: (\S+): command not found$"),
    re.compile(r"failed to run command .(\S+?).: (?:No such file or directory|Permission denied|Exec format error)"),
    re.compile(r"execution of .(\S+?).: (?:No such file or directory|Permission denied)"),
    re.compile(r"(\S+): error while loading shared libraries: "),
    re.compile(r"(\S+) was unable to find the specified executable file"),
)

_DRIVER = re.compile(
    r"NVIDIA driver not loaded|couldn't communicate with the NVIDIA driver|NVML shared library could not be found|"
    r"Failed to initialize NVML: (?:Driver/library version mismatch|Driver Not Loaded|Unknown Error)|nvml error: driver not loaded",
    re.IGNORECASE,
)
# Checks that count or ask GPUs through nvidia-smi: without a driver they count the lines of its complaint.
_ASK_THE_DRIVER = ("check_gpu_count", "check_gpu_bw", "check_gpu_ecc", "check_nvlink_status", "check_nccl_allreduce", "check_ib_bw_gdr")

_PASSED_WITHOUT = re.compile(r"\bpassed, +GB/s|\bIB BW= *Gbps")
# value, limit; the finding is that the value is below it.
_BELOW = (
    re.compile(r"Bandwidth (?P<value>-?\d+(?:\.\d+)?)? ?is less than (?P<limit>\d+(?:\.\d+)?)?"),
    re.compile(r"expected >=? ?(?P<limit>\d+(?:\.\d+)?)? ?(?:GB/s|Gbps), but measured (?P<value>-?\d+(?:\.\d+)?)? ?(?:GB/s|Gbps)"),
)


def stopped(text):
    """Return the check that was running when NHC was ended, ``""`` when the message names none, None for any other message."""
    match = _STOPPED.match(text)
    return (match.group("check") or "") if match else None


def lacking(line):
    """Return what a line of bash, sudo, timeout or the linker says about a program that could not be run, or None."""
    for pattern in _LACKING:
        match = pattern.search(line)
        if match and match.group(1) not in _HELPERS and not match.group(1).startswith(_NOT_A_PROGRAM):
            return " ".join(line.split())
    return None


def driver(line):
    """Return a line that says that the NVIDIA driver is not loaded or does not match its library, else None."""
    return " ".join(line.split()) if _DRIVER.search(line) else None


def passed_without_number(text):
    """Tell whether a SUCCESS line lacks the number that it is about: its comparison had nothing to compare."""
    return _PASSED_WITHOUT.search(text) is not None


def below(text):
    """Return whether the value that an error names is below its limit; None where it names no limit.

    False also where the value is missing: NHC compares with ``bc``, and what ``bc`` cannot read counts as less.
    """
    for pattern in _BELOW:
        match = pattern.search(text)
        if match:
            value, limit = match.group("value"), match.group("limit")
            return value is not None and limit is not None and float(value) < float(limit)
    return None


def about(entry, broken, no_driver):
    """Return what an ERROR is about when it is not about the node, else None.

    ``broken`` is what was said of a command that its check lacked, ``no_driver`` what was said of the driver. A value that was measured
    and is below its limit stands, whatever else was missing.
    """
    text, low = entry["text"], below(entry["text"])
    if _MISSING.search(text):
        return MISSING
    if _ENDED.search(text):
        return STOPPED
    if _CONF.search(text):
        return CONF
    if entry["fault"] == "NHCNA":
        return SETUP
    if low is False:
        return UNREAD
    if low is None and broken:
        return MISSING
    if low is None and no_driver and entry["check"].split()[0] in _ASK_THE_DRIVER:
        return DRIVER
    return None
