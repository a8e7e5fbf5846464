"""Which devices of a node are measured: its GPUs, the instances of a GPU in MIG mode, or without a GPU its processors."""

from __future__ import annotations

import os
import re

from ..machine import nvidia

QUERY = ("index", "uuid", "name", "pci.bus_id", "mig.mode.current")
# NVIDIA MIG User Guide, "Device names": `nvidia-smi -L` lists the instances below their GPU.
_GPU_LINE = re.compile(r"^GPU \d+: .*\(UUID: (GPU-[0-9a-fA-F-]+)\)")
_MIG_LINE = re.compile(r"^\s+MIG (\S+)\s+Device\s+\d+: \(UUID: (MIG-[^)]+)\)")


def gpus(tool):
    """Return ``[{"index", "uuid", "model", "bus_id", "mig"}]`` of this node's GPUs, of which only those that were chosen.

    Raises ``nvidia.NvidiaError``. A driver that does not know MIG has none.
    """
    for names in (QUERY, QUERY[:-1]):
        code, stdout, stderr = nvidia.run(nvidia.find_tool(tool), ["--query-gpu=" + ",".join(names), "--format=csv"])
        if code == 0 or "is not a valid field" not in stdout + stderr:
            break
    # 14: the InfoROM of a GPU is corrupted, which node_health judges; the rows are there.
    if code not in (0, 14):
        raise nvidia.NvidiaError("nvidia-smi --query-gpu ended with %d: %s" % (code, (stderr or stdout).strip()[:300]))
    return [
        {
            "index": nvidia.count(row["index"]),
            "uuid": row["uuid"].strip(),
            "model": row["name"].strip(),
            "bus_id": nvidia.normal_bus_id(row["pci.bus_id"]),
            "mig": (row.get("mig.mode.current") or "").strip() == "Enabled",
        }
        for row in nvidia.parse_csv(stdout, QUERY[:-1])
        if not nvidia.ONLY or row["uuid"].strip() in nvidia.ONLY
    ]


def instances(text):
    """Return ``{UUID of a GPU: [(profile, UUID of the instance)]}`` of what ``nvidia-smi -L`` prints."""
    found, current = {}, None
    for line in text.splitlines():
        gpu, instance = _GPU_LINE.match(line), _MIG_LINE.match(line)
        if gpu:
            current = gpu.group(1)
        elif instance and current:
            found.setdefault(current, []).append(instance.groups())
    return found


def cpus_beside(bus_id, root="/"):
    """Return the processors beside a PCI device, as the kernel lists them (``0-47,96-143``); [] where it does not say."""
    try:
        with open(os.path.join(root, "sys/bus/pci/devices", bus_id, "local_cpulist"), encoding="ascii") as text:
            return cpu_list(text.read().strip())
    except (OSError, ValueError):
        return []


def cpu_list(text):
    """Return ``0-2,5`` as ``[0, 1, 2, 5]``; raises ValueError."""
    found = []
    for part in filter(None, text.split(",")):
        first, _dash, last = part.partition("-")
        found += range(int(first), int(last or first) + 1)
    return found


def of_node(tool):
    """Return ``(devices, GPUs in MIG mode without an instance)``; a device is what the worker gets, and what it is called.

    Keys: ``kind`` (``cuda``), ``index`` and ``uuid`` of the GPU, ``model``, ``bus_id``, ``mig`` (the profile, or None), ``visible`` (what
    makes CUDA see this one alone), ``cpus``. Raises ``nvidia.NvidiaError``.
    """
    found, empty, listing = [], [], None
    for gpu in gpus(tool):
        base = dict(gpu, kind="cuda", cpus=cpus_beside(gpu["bus_id"]))
        if not gpu["mig"]:
            found.append(dict(base, mig=None, visible=gpu["uuid"]))
            continue
        if listing is None:
            listing = instances(nvidia.run(nvidia.find_tool(tool), ["-L"], only=())[1])
        parts = listing.get(gpu["uuid"]) or []
        found += [dict(base, mig=profile, visible=uuid, uuid=uuid) for profile, uuid in parts]
        empty += [] if parts else [gpu["index"]]
    return found, empty


def processors():
    """Return the one device of a node without a GPU: the processors that this process may use, a thread for each."""
    return {"kind": "cpu", "index": 0, "threads": len(os.sched_getaffinity(0)), "visible": "", "cpus": []}


def label(device):
    """Return how a device is called in sentences."""
    if device["kind"] == "cpu":
        return "processors"
    return "GPU %d" % device["index"] + (" %s %s" % (device["mig"], device["uuid"]) if device["mig"] else "")
