"""What ``nvidia-smi`` says in words, beside or in place of its values: which words mean what, and what each takes.

Sources: the return values in ``man nvidia-smi``, NVML's ``nvmlReturn_t`` with its texts (nvmlErrorString), and what operators
published. The tool prints a message for a GPU that it cannot reach before, after or in place of a row or an XML element,
often with exit code 0.
"""

from __future__ import annotations

import re

# In place of a value: this GPU, driver or virtual machine has no such thing.
ABSENT = ("", "n/a", "not supported", "not available", "none available", "requested functionality has been deprecated")
# In place of a value: it could not be read. "GPU requires reset" and "GPU is lost" tell why, see STATES.
UNREADABLE = ("unknown error", "err!", "err", "error", "unknown", "insufficient permissions", "no permission", "timeout", "not found")

# What a message or a value says of a GPU, first match wins: a lost GPU asks for a reboot, whatever else is said of it.
LOST, RESET, INFOROM, POWER, INTERRUPT = "lost", "reset", "inforom", "power", "interrupt"
STATES = (
    (LOST, re.compile(r"gpu is lost|fallen off the bus|unable to determine the device handle|gpu[^.\n]{0,40} not accessible", re.I)),
    (RESET, re.compile(r"(?:requires?|needs)(?: a)? reset|reset (?:is )?required", re.I)),
    (INFOROM, re.compile(r"info\s?rom is corrupt", re.I)),
    (POWER, re.compile(r"power cables? (?:is|are)? ?not (?:properly )?attached|external power", re.I)),
    (INTERRUPT, re.compile(r"interrupt issue", re.I)),
)
# Exit codes that tell of a GPU's state: man nvidia-smi, "RETURN VALUE"; 16 is NVML_ERROR_RESET_REQUIRED.
EXIT_CODES = {
    8: "a device's external power cables are not attached",
    10: "the kernel detected an interrupt issue with a GPU",
    14: "infoROM is corrupted",
    15: "a GPU has fallen off the bus or is otherwise inaccessible",
    16: "a GPU requires reset",
}
ADDRESS = re.compile(r"\b(?:GPU)?\s?([0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7])\b", re.I)

# Why there is no answer at all: words of the error, and what to do. The first that fits is said.
NO_ANSWER = (
    (
        r"gpu is lost|fallen off the bus|unable to determine the device handle|unknown error",
        "reboot the node (a lost GPU stays lost until then; dmesg | grep -i xid says why); replace the node if it comes back",
    ),
    (
        r"version mismatch",
        "reboot, or unload and load the nvidia modules with nothing running: the loaded module is not of the version of the "
        "installed library (cat /proc/driver/nvidia/version; an unattended upgrade does this)",
    ),
    (
        r"communicate with the nvidia driver|driver is not loaded|driver not loaded",
        "load the driver (modprobe nvidia; dkms status; dmesg | grep NVRM says why it does not load), or reboot into the kernel "
        "that it was built for",
    ),
    (
        r"no devices were found|no supported devices",
        "the driver runs and found no GPU: dmesg | grep NVRM says why; reboot; replace the node if it stays so",
    ),
    (
        r"did not answer within",
        "the driver hangs: look for processes in state D and XIDs (ps, dmesg), then reboot; replace the node if it comes back",
    ),
    (r"libnvidia-ml|library (?:was )?not found", "install the driver's library (libnvidia-ml.so), of the version of the loaded module"),
    (r"insufficient permissions|permission denied", "run as root (become: true), and give a container its /dev/nvidia* devices"),
    (r"is not installed|did not start", "install the driver with its tools, or name nvidia-smi's path"),
    (r"requires? (?:a )?reset|reset required", "nvidia-smi --gpu-reset -i <address> with nothing running on it, or reboot"),
    (r"printed|cut", "run nvidia-smi -q -x by hand: its answer cannot be read; reboot if it stays so; replace the node"),
)
ANY_ANSWER = "install or reload the driver (dmesg | grep NVRM); reboot; replace the node"


def bare(text):
    """Return a value without the brackets that the CSV output puts around words, in lower case."""
    return (text or "").strip().strip("[]").strip().lower()


def state_of(text):
    """Return which of :data:`STATES` a text tells of; None for none."""
    return next((state for state, words in STATES if words.search(text or "")), None)


def is_absent(text):
    """Return whether the driver says that there is no such value here."""
    return bare(text) in ABSENT


def is_unreadable(text):
    """Return whether the driver says that it could not read the value."""
    return bare(text) in UNREADABLE or state_of(text) in (LOST, RESET)


def addresses(text):
    """Return the PCI addresses that a message names, as it writes them."""
    return ADDRESS.findall(text or "")


def remedy_of(error):
    """Return what to do where ``nvidia-smi`` gave no answer, by the words of its error."""
    return next((remedy for words, remedy in NO_ANSWER if re.search(words, error or "", re.I)), ANY_ANSWER)
