"""What the drivers of GPUs, NVSwitches and network adapters say of a dead or sick device in the kernel log.

XIDs are read by ``kernel_events``; here is what stands beside or without them. Formats: NVIDIA's open kernel modules (``NVRM:``
and ``nvidia-nvswitch``), the Fabric Manager User Guide (SXids), the kernel's ``mlx5_core`` (``health.c``, ``cmd.c``).
"""

from __future__ import annotations

import re

# With a domain or a function, so that the time of day in front of a line is no address.
ADDRESS = re.compile(r"\b(?:[0-9a-f]{4,8}:[0-9a-f]{2}:[0-9a-f]{2}(?:\.[0-9a-f])?|[0-9a-f]{2}:[0-9a-f]{2}\.[0-9a-f])\b", re.I)
BY_NVIDIA = re.compile(r"NVRM:|\bnvidia\b", re.I)
GPU_MESSAGE = re.compile(r"NVRM: The NVIDIA GPU ")
OFF_THE_BUS = re.compile(r"fallen off the bus|lost from the bus|NV_ERR_GPU_IS_LOST|Unable to change power state .*device inaccessible")
NOT_STARTED = re.compile(r"RmInitAdapter failed|rm_init_adapter failed|requiring os reboot")
NOT_PROBED = re.compile(r"NVIDIA probe routine failed|\bnvidia\b.*probe .*failed with error|None of the NVIDIA devices were")
OTHER_DRIVER = re.compile(r"not supported by|requires use of the|does not include the required|Legacy drivers")
RESET_NEEDED = re.compile(r"NV_ERR_RESET_REQUIRED|marked for reset|needs? to be reset|likely in a bad state")

SXID = re.compile(r"nvidia-nvswitch(\d+):.*?\bSXid \(([^)]*)\): ([0-9]+),?\s*(.*)", re.I)
FATAL_SXID = re.compile(r"^Fatal\b", re.I)
NONFATAL_SXID = re.compile(r"^Non-?fatal\b", re.I)
SEVERITY_SXID = re.compile(r"^Severity ([0-9]+)", re.I)

ADAPTER = re.compile(r"\b(?:mlx[45]_core|mlx5_ib|mana|bnxt_en|efa)\b")
HEALTH_ISSUE = re.compile(r"Health issue observed, .*severity\((\d)\)", re.I)
# What the adapter's firmware says is wrong with it; 0 is nothing, 0x10 a high temperature. Newer drivers say it below a health issue, whose
# severity counts then.
SYNDROME = re.compile(r"\bsynd 0x0*([0-9a-f]+):", re.I)
HOT = 0x10
WORST_WARNING = 4  # of the adapter's health severities, 0 (emergency) to 7 (debug): from here on nothing is broken
DEAD_ADAPTER = re.compile(
    r"device's health compromised|unrecoverable hardware error|firmware internal error|Health issue observed|FW is unable to respond"
    r"|Fatal error \d+ detected|health recovery (?:failed|flow aborted)|catastrophic|Internal error detected"
    r"|initializing state, aborting|pre-initializing state|probe .*failed with error|device inaccessible|irisc not responding"
    r"|(?:cmd|wait_func|command|HWC|admin).*\b(?:timeout|timed out)",
    re.I,
)
SICK_ADAPTER = re.compile(
    r"[TR]X timeout|after timeout|Port module event\[error\]|high temperature|insufficient power on the PCIe slot", re.I
)
WATCHDOG = re.compile(r"NETDEV WATCHDOG")
RECOVERED_ADAPTER = re.compile(r"health re\w+ succ", re.I)  # "revovery succeded" in older kernels


def read(texts, xids):
    """Return ``[(rule, text)]``: the sick devices in lines of the log; ``xids`` are the XIDs that were read from them."""
    return _gpus(texts, xids) + _switches(texts) + _adapters(texts)


def address(text):
    """Return the PCI address in a text as ``0000:b3:00``, or None."""
    found = ADDRESS.search(text)
    if not found:
        return None
    place = found.group(0).lower().partition(".")[0]
    return place if place.count(":") > 1 else "0000:" + place


def _gpus(texts, xids):
    """``gpu_lost``, ``gpu_init``, ``gpu_driver``, ``gpu_reset``: a GPU that is gone, not started, or waits for a reset."""
    told = {address(xid["place"]) for xid in xids if xid["number"] == 79}
    lost, failed, unprobed, others, resets = {}, {}, [], [], []
    for text in _gpu_messages(texts):
        place = address(text)
        if OFF_THE_BUS.search(text):
            lost.setdefault(place, text)
        elif GPU_MESSAGE.search(text) and OTHER_DRIVER.search(text):
            others.append(text)
        elif NOT_STARTED.search(text):
            failed.setdefault(place, text)
        elif NOT_PROBED.search(text):
            unprobed.append(text)
        elif RESET_NEEDED.search(text):
            resets.append(text)
    if len(lost) > 1 or told:
        lost.pop(None, None)  # said without an address, of one that is named elsewhere
    found = [("gpu_lost", text) for place, text in lost.items() if place not in told]
    found += [("gpu_init", text) for place, text in failed.items() if place not in lost]
    found += [("gpu_driver", text) for text in others]
    if not (lost or told or failed or others):
        found += [("gpu_init", text) for text in unprobed[:1]]
    return found + [("gpu_reset", text) for text in resets]


def _gpu_messages(texts):
    """Yield what the NVIDIA driver wrote, XIDs left out; its messages of several lines as one text.

    ``The NVIDIA GPU <address>`` goes on in the driver's next lines, which do not repeat the address.
    """
    begun = None
    for text in texts:
        if not BY_NVIDIA.search(text) or re.search(r"\bS?Xid\b", text):
            continue
        goes_on = begun is not None and "NVRM:" in text and not ADDRESS.search(text) and not NOT_PROBED.search(text)
        if goes_on and begun.count("\n") < 4:
            begun += "\n" + text.strip()
            continue
        if begun is not None:
            yield begun
            begun = None
        if GPU_MESSAGE.search(text):
            begun = text
        else:
            yield text
    if begun is not None:
        yield begun


def _switches(texts):
    """``sxid`` and ``sxid_nonfatal``: errors of NVSwitches, by the driver's own word; lines of details are not counted again."""
    seen, details = {}, {}
    for text in texts:
        found = SXID.search(text)
        if not found:
            continue
        key = (found.group(1), found.group(2), found.group(3))
        severity = SEVERITY_SXID.search(found.group(4))
        if FATAL_SXID.search(found.group(4)) or NONFATAL_SXID.search(found.group(4)):
            rule = "sxid" if FATAL_SXID.search(found.group(4)) else "sxid_nonfatal"
            seen.setdefault(key, []).append((rule, text))
        elif severity:
            details[key] = ("sxid" if severity.group(1) != "0" else "sxid_nonfatal", text)
        else:
            details.setdefault(key, ("sxid_nonfatal", text))
    found = [event for events in seen.values() for event in events]
    return found + [event for key, event in details.items() if key not in seen]


def _adapters(texts):
    """``nic`` for an adapter that died and did not come back, ``nic_recovered`` for one that did, or that only complained."""
    dead, found, told = {}, [], set()  # told: adapters with a health issue, whose severity says it all
    for text in texts:
        if not ADAPTER.search(text):
            if WATCHDOG.search(text):
                found.append(("nic_recovered", text))
            continue
        place = address(text)
        issue, syndrome = HEALTH_ISSUE.search(text), SYNDROME.search(text)
        if issue:
            told.add(place)
        if syndrome:
            code = 0 if place in told else int(syndrome.group(1), 16)
            if code == HOT:
                found.append(("nic_recovered", text))
            elif code:
                dead.setdefault(place, []).append(text)
        elif RECOVERED_ADAPTER.search(text):
            found += [("nic_recovered", line) for line in dead.pop(place, [])[-1:]]
        elif SICK_ADAPTER.search(text) or WATCHDOG.search(text) or (issue and int(issue.group(1)) >= WORST_WARNING):
            found.append(("nic_recovered", text))
        elif DEAD_ADAPTER.search(text):
            dead.setdefault(place, []).append(text)
    return found + [("nic", line) for lines in dead.values() for line in lines]
