"""Hardware errors in the kernel log: each message as a whole, with the severity that the kernel gives it.

A message takes several lines, and other subsystems write between them. Grammars, from the kernel's sources: GHES and BERT
(``drivers/acpi/apei/ghes.c``, ``drivers/firmware/efi/cper.c``), machine checks (``arch/x86/kernel/cpu/mce``,
``drivers/edac/mce_amd.c``), EDAC (``drivers/edac/edac_mc.c``), AER (``drivers/pci/pcie/aer.c``, ``err.c``) and hot-plug
(``drivers/pci/hotplug/pciehp_ctrl.c``).
"""

from __future__ import annotations

import re

MARKED = re.compile(r"(?:\{(\d+)\})?\[Hardware Error\]: ?(.*)")
# What begins a message where no number {n} tells messages apart.
BEGINS = re.compile(
    r"Machine check events logged|CPU \d+: Machine Check|Corrected error,|Deferred error,|Uncorrected, software|System Fatal error"
    r"|Hardware error from APEI|event severity:"
)
EVENT_SEVERITY = re.compile(r"event severity: (\w+)|^\s*severity: (?:\d+, )?(\w+)")
SECTION_SEVERITY = re.compile(r"Error \d+, type: (\w+)|section: \d+, severity: (?:\d+, )?(\w+)")
SEVERITIES = {"corrected": "_corrected", "info": "_corrected", "informational": "_corrected", "recoverable": "", "fatal": ""}
DECODED = re.compile(r"MC\d+_STATUS\[([^\]]*)\]")
STATUS = re.compile(
    r"(?:Machine Check(?: Exception| Event)?: (?:0x)?[0-9a-f]+ Bank \d+|MC\d+_STATUS\[[^\]]*\]): (?:0x)?([0-9a-f]{16})\b", re.I
)
# Bits of MCi_STATUS: uncorrected (Intel SDM 3B, "Machine-check architecture"), and AMD's deferred (poisoned, not yet consumed).
UNCORRECTED, DEFERRED = 1 << 61, 1 << 44
BAD_WORDS = re.compile(
    r"System Fatal error|Uncorrected, software|Deferred error|Processor context corrupt|Uncorrected hardware memory error"
)
GOOD_WORDS = re.compile(r"Corrected error|Machine check events logged|corrected by h/w")
EDAC = re.compile(r"EDAC (?:MC\d+|DEVICE\d*|PCI\d*): (?:\d+ )?(UE|CE)\b")
UNMARKED_BAD = re.compile(
    r"Memory failure: 0x|MCE: Killing |mce: Uncorrected hardware|Fatal (?:local )?machine check|Machine check exception(?! polling)"
    r"|reset reason.*uncorrected error|SError Interrupt on CPU",
    re.I,
)
FAILING_PAGE = re.compile(r"Memory failure: (0x[0-9a-f]+)", re.I)

AER = re.compile(r"AER: (?:Multiple )?(Correct\w+|Uncorrect\w+(?: \((?:Non-)?Fatal\))?) error (?:message )?received", re.I)
BUS_ERROR = re.compile(r"(?:PCIe|CXL) Bus Error: severity=(Correct\w+|Uncorrect\w+(?: \((?:Non-)?Fatal\))?)", re.I)
CONTAINED = re.compile(r"DPC: (?:containment event|ERR_FATAL detected)")
RECOVERY = re.compile(r"no error_detected callback|device recovery (?:successful|failed)|device reset failed")
LOST_LINK = re.compile(r"PCIe link lost")
SLOT = re.compile(r"pciehp: Slot\(([^)]*)\): (Link Down|Card not present|Link Up|Card present|Powering off|Button press)(?!/)")


def read(texts):
    """Return ``[(rule, text)]``: the hardware errors in lines of the log."""
    return _machine(texts) + _pcie(texts)


def _machine(texts):
    """Processor, memory and what the firmware reports: ``mce``, ``mce_corrected``, ``mce_unclear``."""
    messages, open_ones, pages = [], {}, set()
    for text in texts:
        marked = MARKED.search(text)
        if marked:
            number, body = marked.group(1), marked.group(2)
            begins = "Hardware error from APEI" in body if number else BEGINS.search(body)
            if begins or number not in open_ones:
                open_ones[number] = {"first": text, "bodies": []}
                messages.append(open_ones[number])
            open_ones[number]["bodies"].append(body)
            continue
        page = FAILING_PAGE.search(text)
        if page and page.group(1) in pages:
            continue
        pages.update(page.groups() if page else ())
        if EDAC.search(text) or STATUS.search(text) or UNMARKED_BAD.search(text):
            messages.append({"first": text, "bodies": [text]})
    return [("mce" + _suffix(message["bodies"]), _shown(message)) for message in messages]


def _shown(message):
    return "; ".join([message["first"], *(body.strip() for body in message["bodies"][1:])])


def _suffix(bodies):
    """Return what the severity of one message adds to the rule's name: nothing, ``_corrected`` or ``_unclear``."""
    for pattern in (EVENT_SEVERITY, SECTION_SEVERITY):
        words = [next(word for word in found.groups() if word) for found in map(pattern.search, bodies) if found]
        known = [SEVERITIES[word.lower()] for word in words if word.lower() in SEVERITIES]
        if known:
            return min(known)
    found = [bad for bad in map(_is_bad, bodies) if bad is not None]
    if not found:
        return "_unclear"
    return "" if any(found) else "_corrected"


def _is_bad(body):
    """Tell whether one line of a machine check says uncorrected (True), corrected (False), or neither (None)."""
    status = STATUS.search(body)
    if status:
        return bool(int(status.group(1), 16) & (UNCORRECTED | DEFERRED))
    decoded = DECODED.search(body)
    if decoded:
        flags = decoded.group(1).split("|")
        return True if {"UE", "UC", "Deferred", "PCC"} & set(flags) else False if "CE" in flags else None
    edac = EDAC.search(body)
    if edac:
        return edac.group(1) == "UE"
    if BAD_WORDS.search(body) or UNMARKED_BAD.search(body):
        return True
    return False if GOOD_WORDS.search(body) else None


def _pcie(texts):
    """Errors of PCIe links: ``pcie`` where the link or a device behind it is lost, ``pcie_corrected`` for the others."""
    errors, slots, found = [], {}, []
    for text in texts:
        _aer(errors, text)
        slot = SLOT.search(text)
        if slot:
            _hot_plug(slots.setdefault(slot.group(1), {"down": None, "up": True, "asked": False}), slot.group(2), text)
        if LOST_LINK.search(text):
            found.append(("pcie", text))
    for error in errors:
        lost = error["severity"] == "fatal" and not error["recovered"] or error["severity"] == "nonfatal" and error["failed"]
        found.append(("pcie" if lost else "pcie_corrected", "; ".join(error["texts"])))
    found += [("pcie_corrected" if slot["up"] else "pcie", slot["down"]) for slot in slots.values() if slot["down"]]
    return found


def _aer(errors, text):
    """Add a line to the messages of AER: one that begins a message, one more of the last, or how its recovery ended."""
    begins, told = AER.search(text), BUS_ERROR.search(text)
    if begins or told:
        severity = _aer_severity((begins or told).group(1).lower())
        if begins or not errors or errors[-1]["severity"] != severity:
            errors.append({"severity": severity, "texts": [text], "recovered": False, "failed": False, "no_callback": False})
        else:
            errors[-1]["texts"].append(text)
    elif CONTAINED.search(text) and not (errors and errors[-1]["severity"] == "fatal"):
        errors.append({"severity": "fatal", "texts": [text], "recovered": False, "failed": False, "no_callback": False})
    elif RECOVERY.search(text):
        last = next((error for error in reversed(errors) if error["severity"] != "corrected"), {})
        if "no error_detected callback" in text:
            last["no_callback"] = True
        elif "successful" in text:
            last["recovered"] = True
        else:
            # Without a callback the kernel did not even try, and after a non-fatal error the device goes on.
            last["failed"] = not last.get("no_callback")


def _aer_severity(words):
    if words.startswith("correct"):
        return "corrected"
    return "fatal" if "(fatal)" in words else "nonfatal"


def _hot_plug(slot, what, text):
    if what in ("Powering off", "Button press"):
        slot["asked"] = True
    elif what in ("Link Up", "Card present"):
        slot.update(up=True, asked=False)
    elif not slot["asked"]:
        slot.update(up=False, down=text)
