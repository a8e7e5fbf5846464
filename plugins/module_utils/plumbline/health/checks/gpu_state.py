"""What ``nvidia-smi`` says of GPUs in words: lost, without values, in need of a reset. Nothing is said where nothing is wrong.

It prints such words beside its document, or in place of the values of a GPU that it still lists.
"""

from __future__ import annotations

from ...core.fact import reason
from ...machine import nvidia_messages as messages

# Values that a GPU which works always has; some that are missing with an error tell of the GPU, one may be a sensor's.
VITAL = (
    "product_name",
    "uuid",
    "current_ecc",
    "gpu_temp",
    "sm_clock",
    "gpu_util",
    "clocks_event_reasons",
    "clocks_throttle_reasons",
    "used",
)
VITAL_MISSING = 3
REBOOT = "reboot the node (a lost GPU stays lost until then; dmesg | grep -i xid says why); replace the node if it comes back"
RESET_OR_REBOOT = "nvidia-smi --gpu-reset -i <address> with nothing running on it, or reboot; replace the node if it comes back"


def check_state(smi):
    """Return reasons for GPUs that are lost, answer with errors, or need a reset."""
    said = smi.get("messages") or []
    by_state = {}
    for line in said:
        by_state.setdefault(messages.state_of(line), []).append(line)
    return [item for item in (_lost(smi, by_state), _needs_reset(smi, by_state)) if item]


def _lost(smi, by_state):
    """GPUs that cannot be reached, by a message or by what stands in place of their values."""
    texts = [line for state in (messages.LOST, messages.POWER, messages.INTERRUPT) for line in by_state.get(state, [])]
    for item in smi["gpus"]:
        for words, tags in sorted(item["unreadable"].items()):
            state = messages.state_of(words)
            vital = len(set(tags) & set(VITAL))
            if state == messages.LOST or (state is None and vital >= VITAL_MISSING):
                texts.append("%s says %r in place of %d values" % (item["bus_id"], words, len(tags)))
    if not texts:
        return None
    return reason("gpu", "failed", "; ".join(texts)[:600], "every GPU answers with its values", REBOOT)


def _needs_reset(smi, by_state):
    """A message that a GPU requires reset, where the GPU is not among those that say so themselves."""
    lines = by_state.get(messages.RESET, [])
    told = any(messages.state_of(words) == messages.RESET for item in smi["gpus"] for words in item["unreadable"])
    asked = any(item["recovery_action"] not in (None, "None") for item in smi["gpus"])
    if not lines or told or asked:
        return None
    return reason("gpu.recovery_action", "failed", "asks for: Reset (%s)" % "; ".join(lines)[:400], "None", RESET_OR_REBOOT)
