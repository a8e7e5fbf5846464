"""What each XID asks for: NVIDIA's catalogue, as far as a tenant of a virtual machine can do it.

The immediate action of NVIDIA's "Analyzing Xid Errors with the Xid Catalog" (docs.nvidia.com/deploy/xid-errors): RESET_GPU is
``reset_gpu``, RESTART_BM and RESTART_VM are ``reboot``; RESTART_APP and IGNORE ask nothing of the node and stand in no table
here. Fault codes are Azure's. Azure NHC fails a node for 56 to 58, 65, 68, 69, 73, 80, 81 and 92 as well, and Azure has a fault
code for 94, though the catalogue has them as unused or as the application's; they fail here too, because Azure takes such a
node back.
"""

from __future__ import annotations

import re

CLASSES = ("none", "reset_gpu", "reboot", "replace")

# Number: (class, fault code), of those that fail a node whatever their text says.
FATAL = {
    46: ("reset_gpu", "NHC2001"),  # the GPU stopped processing
    48: ("reset_gpu", "NHC2014"),  # double-bit ECC error
    54: ("replace", "NHC2001"),  # auxiliary power is not connected (CHECK_MECHANICALS)
    56: ("reboot", "NHC2001"), 57: ("reboot", "NHC2001"), 58: ("reboot", "NHC2001"),
    61: ("reset_gpu", "NHC2001"), 62: ("reset_gpu", "NHC2001"),  # the internal micro-controller stopped
    64: ("replace", "NHC2007"),  # a row could not be remapped
    65: ("reboot", "NHC2001"), 68: ("reset_gpu", "NHC2001"), 69: ("reset_gpu", "NHC2001"), 73: ("reboot", "NHC2001"),
    74: ("reset_gpu", "NHC2016"),  # NVLink up to generation 4
    79: ("reboot", "NHC2013"),  # off the bus
    80: ("reset_gpu", "NHC2001"), 81: ("reboot", "NHC2001"),
    92: ("replace", "NHC2019"),  # many single-bit ECC errors
    94: ("reset_gpu", "NHC2012"), 95: ("reset_gpu", "NHC2011"),  # memory error, contained and not
    109: ("reset_gpu", "NHC2001"), 110: ("reset_gpu", "NHC2001"),  # context switch timeout, security fault
    119: ("reset_gpu", "NHC2001"), 120: ("reset_gpu", "NHC2001"),  # the GPU's firmware (GSP) does not answer
    136: ("reset_gpu", "NHC2016"),  # link training failed
    140: ("reset_gpu", "NHC2019"),  # unrecovered ECC error
    143: ("reset_gpu", "NHC2001"),  # the GPU could not be initialised
    151: ("reboot", "NHC2001"),  # key rotation (RESTART_VM)
    155: ("reset_gpu", "NHC2016"),  # NVLink, defined by software
    156: ("reset_gpu", "NHC2001"),  # a resource was retired; a reset makes it so
    158: ("reset_gpu", "NHC2001"),  # fatal timeout
    167: ("reboot", "NHC2020"),  # fatal timeout of PCIe; the catalogue names no action yet
    169: ("reset_gpu", "NHC2001"),  # an internal micro-controller (SEC2) stopped; no action named yet
    171: ("reset_gpu", "NHC2019"), 172: ("reset_gpu", "NHC2019"),  # beside 48: the error was in DRAM, in SRAM
}  # fmt: skip
# NVLink 5: the driver writes Fatal or Nonfatal behind the unit, and what is fatal takes a reset.
BY_SEVERITY = range(144, 151)
NVLINK_FATAL = ("reset_gpu", "NHC2016")
FATAL_WORD = re.compile(r"(?<!non-)(?<!non)(?<!non )\bfatal\b", re.IGNORECASE)
# An XID that this project does not know as fatal, in a text that says it is.
OTHER = ("reboot", "NHC2001")

RECOVERY_ACTION = 154
# What the driver wants done with the GPU, as said in an XID 154, and as a class.
ACTIONS = {
    "nothing": "none", "GPU reset": "reset_gpu", "drain P2P": "reset_gpu", "drain and reset": "reset_gpu", "node reboot": "reboot",
    "an action that cannot be read": "reboot",
}  # fmt: skip
ACTION_CODE = "NHC2001"
# The numbers of the driver's interface (nvmlDeviceGpuRecoveryAction_t), for a text without words.
ACTION_NUMBERS = ("nothing", "GPU reset", "node reboot", "drain P2P", "drain and reset")

# What to do about those that fail nothing; about any other one, look at the application.
AFTER = {
    63: "a failing row of memory was remapped; reset the GPU when convenient, so that it takes effect",
    121: "the link to the CPU (C2C) had an error; reset the GPU when convenient",
    137: "a GPU at the other end of an NVLink faulted; look for its own XID",
    154: "the driver asks for nothing any more",
    157: "NVIDIA asks for no action; report the GPU if it comes back",
}
APPLICATION = "look whether the application on that GPU crashed at that time"
NONFATAL_LINK = "the driver calls this NVLink error non-fatal; watch gpu.nvlink_errors"
UNREADABLE = "read its line in the kernel log (journalctl -k): its number is garbled"


def recovery_action(text):
    """Return what an XID 154 asks for, one of :data:`ACTIONS`: by its words, and by its number where it has none."""
    wanted = text[text.rfind(" to ") + 1 :] if " to " in text else ""
    found = re.match(r"to\s+(?:0x([0-9a-f]+))?\s*(?:\(([^)]*)\)?)?", wanted, re.IGNORECASE)
    number, words = (found.group(1), (found.group(2) or "").lower()) if found else (None, "")
    for word, action in (("none", "nothing"), ("reboot", "node reboot"), ("restart", "node reboot")):
        if word in words:
            return action
    if "drain" in words:
        return "drain and reset" if "reset" in words else "drain P2P"
    if "reset" in words or "flr" in words:
        return "GPU reset"
    if not words and number and int(number[:4], 16) < len(ACTION_NUMBERS):
        return ACTION_NUMBERS[int(number[:4], 16)]
    return "an action that cannot be read"


def fatal(xids):
    """Return those of the events that fail a node; an XID 154 has ``action`` (one of :data:`ACTIONS`) and ``decides`` too.

    Of the 154s of one GPU only the last counts: the driver replaces what it asked for. It decides what is to be done with
    that GPU unless another fatal XID came after it.
    """
    found, last = [], {}
    for event in xids:
        address = event["place"].split(" ")[0]
        if event["number"] == RECOVERY_ACTION:
            event = dict(event, action=recovery_action(event["text"]), decides=True)
            found = [other for other in found if other is not last.get(address)]
            last[address] = event
            if event["action"] != "nothing":
                found.append(event)
        elif event["number"] in FATAL or (event["number"] in BY_SEVERITY and FATAL_WORD.search(event["text"])):
            found.append(event)
            if address in last:
                last[address]["decides"] = False
    return found


def remedy(others):
    """Return what to do about events of which none fails the node."""
    told = []
    for number in sorted({event["number"] for event in others}):
        text = UNREADABLE if number == 0 else NONFATAL_LINK if number in BY_SEVERITY else AFTER.get(number, APPLICATION)
        told += [text] if text not in told else []
    return "; ".join(told)


def in_words(events):
    """Return events as a text that :func:`classify` reads: ``XID 79 at 0001:00:00 (2 times), XID 154 at ... [GPU reset]``."""
    places, actions = {}, {}
    for event in events:
        at = places.setdefault(event["number"], {})
        at[event["place"]] = at.get(event["place"], 0) + 1
        if "action" in event:
            actions[event["place"]] = event["action"] + ("" if event["decides"] else ", but more came after it")
    parts = []
    for number, at in sorted(places.items()):
        said = [
            place
            + (" (%d times)" % count if count > 1 else "")
            + (" [%s]" % actions[place] if number == RECOVERY_ACTION and place in actions else "")
            for place, count in sorted(at.items())
        ]
        name = "XID %d" % number if number else "an XID without a readable number"
        parts.append("%s at %s" % (name, ", ".join(said)))
    return ", ".join(parts)


def classify(seen):
    """Return ``(class, fault code)`` of what :func:`in_words` returned: of each GPU what it takes, of the GPUs the worst.

    An XID 154 that came last decides between reset and reboot; the fault code stays that of the XID before it.
    """
    gpus = {}
    for number, places in re.findall(r"\bXID (\d+)\b(.*?)(?=, XID \d|$)", seen.split("; the last: ")[0], re.DOTALL):
        for place, action in re.findall(r"([0-9a-f:.]+:[0-9a-f:.]+)[^,\[]*(?:\[([^\]]*)\])?", places) or [("", "")]:
            gpu = gpus.setdefault(place, {"found": [], "action": None})
            if int(number) == RECOVERY_ACTION:
                gpu["action"] = action
            else:
                gpu["found"].append(NVLINK_FATAL if int(number) in BY_SEVERITY else FATAL.get(int(number), OTHER))
    return _worst([_of_one(gpu) for gpu in gpus.values()]) or OTHER


def _worst(found):
    return max(found, key=lambda pair: CLASSES.index(pair[0]), default=None)


def _of_one(gpu):
    worst = _worst(gpu["found"])
    if gpu["action"] is None:
        return worst
    asked, _comma, after = gpu["action"].partition(",")
    kind = ACTIONS.get(asked, OTHER[0])
    if worst is None:
        return kind, ACTION_CODE
    if worst[0] == "replace" or after:
        return _worst([worst, (kind, ACTION_CODE)])
    return kind, worst[1]
