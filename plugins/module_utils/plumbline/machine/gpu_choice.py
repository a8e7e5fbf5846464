"""Which of a node's GPUs it may use: the variable ``plumbline_gpus``, read, found on the node, and handed on to programs.

A choice is a list of indexes as ``nvidia-smi`` counts them, or of UUIDs; none is all GPUs. CUDA by itself counts by speed, so an index
goes with ``CUDA_DEVICE_ORDER=PCI_BUS_ID`` (CUDA C++ Programming Guide, "CUDA Environment Variables").
"""

from __future__ import annotations

import re

from . import nvidia

VARIABLE = "plumbline_gpus"
EXPECTED = "a list of indexes as nvidia-smi counts them ([0, 1]), or of UUIDs as `nvidia-smi -L` prints them"
QUERY = "--query-gpu=index,uuid,pci.bus_id"
_UUID = re.compile(r"GPU-[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.I)


class WrongChoice(ValueError):
    """The variable's value cannot be meant, or names a GPU that is not there; the text is a sentence."""


def read(value):
    """Return the choice as a list of texts, ``[]`` for all GPUs; raise :class:`WrongChoice`.

    A text with commas, as ``-e plumbline_gpus=0,1`` gives, is a list.
    """
    if value is None or value == "":
        return []
    items = value.split(",") if isinstance(value, str) else [value] if isinstance(value, int) else value
    if not isinstance(items, (list, tuple)):
        raise WrongChoice("%s is %r, expected %s" % (VARIABLE, value, EXPECTED))
    found = [_item(item, value) for item in items]
    twice = sorted({item for item in found if found.count(item) > 1})
    if twice:
        raise WrongChoice("%s is %r: %s is named twice, expected each GPU once" % (VARIABLE, value, ", ".join(twice)))
    if len({item.isdigit() for item in found}) > 1:
        raise WrongChoice("%s is %r: indexes and UUIDs do not go together, expected %s" % (VARIABLE, value, EXPECTED))
    return found


def _item(item, value):
    text = "" if isinstance(item, bool) else str(item).strip()
    if re.fullmatch("[0-9]{1,4}", text):
        return str(int(text))
    if _UUID.fullmatch(text):
        return "GPU-" + text[4:].lower()
    raise WrongChoice("%s is %r: %r is no GPU, expected %s" % (VARIABLE, value, item, EXPECTED))


def listed(tool):
    """Return ``[{"index", "uuid", "bus_id"}]`` of all GPUs of this node; raises ``nvidia.NvidiaError``."""
    code, stdout, stderr = nvidia.run(nvidia.find_tool(tool), [QUERY, "--format=csv"], only=())
    if code:
        raise nvidia.NvidiaError("nvidia-smi ended with %d: %s" % (code, (stderr or stdout).strip()[:300]))
    rows = nvidia.parse_csv(stdout, ("index", "uuid", "pci.bus_id"))
    return [
        {"index": nvidia.count(row["index"]), "uuid": row["uuid"].strip(), "bus_id": nvidia.normal_bus_id(row["pci.bus_id"])}
        for row in rows
    ]


def found_among(choice, gpus):
    """Return those of ``gpus`` (:func:`listed`) that the ``choice`` (:func:`read`) names, in its order; raise :class:`WrongChoice`."""
    by_name = {}
    for gpu in gpus:
        by_name.update({str(gpu["index"]): gpu, "GPU-" + gpu["uuid"][4:].lower(): gpu})
    missing = [item for item in choice if item not in by_name]
    if missing:
        there = ", ".join("%s (%s)" % (gpu["index"], gpu["uuid"]) for gpu in gpus) or "none"
        raise WrongChoice("%s names %s, which this node has not; it has %s" % (VARIABLE, ", ".join(missing), there))
    return [by_name[item] for item in choice]


def look_only_at(value, tool=None):
    """Make every later call of ``nvidia-smi`` in this process see only the chosen GPUs; return them (:func:`listed`), ``[]`` for all.

    Raises :class:`WrongChoice`, and ``nvidia.NvidiaError`` where the driver does not tell which GPUs there are.
    """
    choice = read(value)
    chosen = found_among(choice, listed(tool)) if choice else []
    nvidia.ONLY.clear()
    nvidia.ONLY.update((gpu["uuid"], gpu["index"]) for gpu in chosen)
    return chosen


def environment(chosen):
    """Return what makes a program see only the ``chosen`` GPUs (:func:`look_only_at`), in their order; ``{}`` for all.

    By index: older vLLM reads ``CUDA_VISIBLE_DEVICES`` as numbers, and fails at a UUID.
    """
    if not chosen:
        return {}
    return {"CUDA_DEVICE_ORDER": "PCI_BUS_ID", "CUDA_VISIBLE_DEVICES": ",".join(str(gpu["index"]) for gpu in chosen)}


def of_module(module):
    """Return :func:`look_only_at` of a module's arguments ``gpus`` and ``nvidia_smi``; a choice that is wrong here fails the module."""
    try:
        return look_only_at(module.params["gpus"], module.params.get("nvidia_smi"))
    except WrongChoice as error:
        module.fail_json(msg=str(error))
    except nvidia.NvidiaError as error:
        module.fail_json(msg="%s is %r, but which GPUs are here cannot be seen: %s" % (VARIABLE, module.params["gpus"], error))
