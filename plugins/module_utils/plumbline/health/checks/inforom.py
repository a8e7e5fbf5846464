"""The InfoROM of every GPU, the board's own memory: no warning of it, and a checksum that is right where the driver tells it.

``nvidia-smi`` warns of it in a plain call only, with exit code 14. Newer drivers also compute its checksum on demand (``man nvidia-smi``:
``valid``, ``invalid`` or ``N/A``), which is the only way to learn it for a GPU of which nothing was warned.
"""

from __future__ import annotations

from ...core.fact import reason
from ...machine import nvidia_messages as messages

REPLACE = "reboot; where it is still said, replace the node: the InfoROM is the board's own memory (fault code NHC2008)"
BY_HAND = "run nvidia-smi by hand and read its last lines"
QUERY = "run nvidia-smi --query-gpu=pci.bus_id,inforom.checksum_validation --format=csv by hand"
THRESHOLD = "nvidia-smi warns of nothing, and every checksum is valid"


def check_inforom(gpu):
    """Return the reason on the InfoROMs of the GPUs that answered."""
    said = gpu["smi"].get("messages") or []
    asked = gpu.get("inforom") or {"told": {}, "said": None}
    shown = [item["bus_id"] for item in gpu["smi"]["gpus"]]
    words = {address: messages.bare(asked["told"].get(address)) for address in shown}
    texts = [line for line in said if messages.state_of(line) == messages.INFOROM]
    texts += ["the checksum of %s is invalid" % address for address in shown if words[address] == "invalid"]
    if texts:
        return reason("gpu.inforom", "failed", "; ".join(texts)[:400], THRESHOLD, REPLACE)
    # The plain call did not come back although the other one did, or its exit code is not known.
    silent = [line for line in said if messages.state_of(line) is None and ("did not answer" in line or "an internal error" in line)]
    silent += [asked["said"]] if asked["said"] else []
    if silent:
        return reason("gpu.inforom", "incomplete", "; ".join(silent)[:400], THRESHOLD, BY_HAND)
    return _by_checksum(words)


def _by_checksum(words):
    """Where nothing was warned of: what the checksums say. A driver that tells none of them leaves the warnings, and there were none."""
    valid = [address for address, word in words.items() if word == "valid"]
    untold = [address for address, word in words.items() if messages.is_absent(word)]
    odd = ["%s of %s" % (word, address) for address, word in words.items() if address not in valid + untold]
    if odd:
        return reason("gpu.inforom", "incomplete", "not readable: %s" % ", ".join(odd), THRESHOLD, QUERY)
    if valid and untold:
        text = "valid on %d GPUs, not told of %s" % (len(valid), ", ".join(untold))
        return reason("gpu.inforom", "incomplete", text, THRESHOLD, QUERY)
    text = "valid on %d GPUs" % len(valid) if valid else "no warning; the driver tells no checksums"
    return reason("gpu.inforom", "healthy", text, THRESHOLD)
