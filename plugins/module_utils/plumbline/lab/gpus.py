"""The machine's GPUs and the lab's shares of them: which GPU is which device file, and which node gets which."""

from __future__ import annotations

import glob
import os
import re

from ..machine import nvidia
from . import host as lab_host
from . import plan as lab

# A line of `nvidia-smi -L`; those of MIG devices are indented.
LINE = re.compile(r"^GPU (\d+): (.+?) \(UUID: (\S+)\)", re.M)
WITHOUT = "or -e lab_gpus=none for nodes without GPUs, whose vLLM is for CPU"
# Which of a GPU machine's device files each node gets; /dev/nvidia<minor> is the node's own.
NEEDED = ("/dev/nvidiactl", "/dev/nvidia-uvm")
SHARED = (
    *NEEDED, "/dev/nvidia-uvm-tools", "/dev/nvidia-modeset", "/dev/nvidia-nvlink", "/dev/nvidia-nvswitch*", "/dev/nvidia-nvswitchctl",
    "/dev/nvidia-caps", "/dev/nvidia-caps-imex-channels", "/dev/gdrdrv", "/dev/infiniband",
)  # fmt: skip
# What makes the driver's library make /dev/nvidia-uvm: nothing has used CUDA since the machine started.
FIRST_USE = "import ctypes; raise SystemExit(ctypes.CDLL('libcuda.so.1').cuInit(0))"


def parse_list(text):
    """Return ``[{index, name, uuid}]`` of ``nvidia-smi -L``."""
    return [{"index": int(index), "name": name, "uuid": uuid} for index, name, uuid in LINE.findall(text)]


def parse_described(text):
    """Return ``{uuid: (PCI address, minor number)}`` of ``nvidia-smi -q -x``; the number is None where it has none."""
    found = {}
    for part in re.split(r"<gpu id=", text)[1:]:
        address = re.match(r'"([^"]*)"', part)
        uuid, minor = re.search(r"<uuid>(.*?)</uuid>", part), re.search(r"<minor_number>(\d+)</minor_number>", part)
        if address and uuid:
            found[uuid.group(1)] = (nvidia.normal_bus_id(address.group(1)), int(minor.group(1)) if minor else None)
    return found


def joined(listed, described, numbers):
    """Return the GPUs with ``index``, ``name``, ``uuid``, ``bus_id`` and ``minor``; raise :class:`LabError` where one has no device file.

    ``listed`` is :func:`parse_list`'s, ``described`` :func:`parse_described`'s, ``numbers`` ``nvidia.minors``', which comes first.
    """
    found = []
    for gpu in listed:
        address, minor = described.get(gpu["uuid"], (None, None))
        minor = numbers.get(address, minor)
        if minor is None:
            raise lab.LabError(
                "GPU %d (%s, PCI address %s) has no minor number in `nvidia-smi -q -x`, nor in %s, which has %s: reload the driver, %s"
                % (gpu["index"], gpu["uuid"], address or "unknown", nvidia.INFORMATION, numbers or "nothing", WITHOUT)
            )
        found.append(dict(gpu, bus_id=address, minor=minor))
    return found


def of_machine():
    """Return the machine's GPUs (see :func:`joined`), [] without a working ``nvidia-smi -L``."""
    try:
        done = lab_host.call("nvidia-smi", "-L", check=False)
    except lab_host.HostError:
        return []
    listed = parse_list(done.stdout) if done.returncode == 0 else []
    if not listed:
        return []
    try:
        return joined(listed, parse_described(lab_host.call("nvidia-smi", "-q", "-x", check=False).stdout), nvidia.minors())
    except (nvidia.NvidiaError, lab_host.HostError) as error:
        raise lab.LabError("nvidia-smi -L lists %d GPUs, but %s: mend that, %s" % (len(listed), error, WITHOUT)) from error


def wanted(asked, present):
    """Return how many of ``present`` GPUs the lab uses; ``asked`` is lab_gpus. Raises :class:`LabError`."""
    asked = str(asked).strip().lower()
    if asked in ("none", "0"):
        return 0
    if asked == "auto":
        return present
    if not asked.isdigit():
        raise lab.LabError("lab_gpus is %r: expected auto, none, or how many of this machine's %d GPUs" % (asked, present))
    if int(asked) > present:
        raise lab.LabError("lab_gpus is %s, but `nvidia-smi -L` lists %d GPUs on this machine: expected at most that" % (asked, present))
    return int(asked)


def shares(gpus, nodes):
    """Return the nodes' GPUs, as even as it goes, the first nodes one more; neighbours stay together.

    Raises :class:`LabError` where a node would have none: a node of a GPU lab that cannot serve is nobody's wish.
    """
    if len(gpus) < nodes:
        raise lab.LabError(
            "lab_nodes is %d, but there are only %d GPUs to share: expected at least one each. Set -e lab_nodes=%d, %s"
            % (nodes, len(gpus), len(gpus), WITHOUT)
        )
    each, more = divmod(len(gpus), nodes)
    starts = [index * each + min(index, more) for index in range(nodes + 1)]
    return [gpus[start:end] for start, end in zip(starts, starts[1:])]  # noqa: B905 - Python 3.9 has no strict


def device_files(numbers):
    """Return the device files and folders of a node with GPUs of these minor numbers; raise :class:`HostError` for one that is missing.

    As root the driver's library makes missing ones itself. A node must not be able to (it would see all GPUs), so the machine has to.
    """
    needed = [*NEEDED, *("/dev/nvidia%d" % number for number in numbers)]
    words = ""
    if not all(os.path.exists(path) for path in needed):
        done = lab_host.call("python3", "-c", FIRST_USE, check=False)
        words = " (cuInit ended with %d: %s)" % (done.returncode, lab_host.last_words(done, 2) or "nothing said")
    absent = [path for path in needed if not os.path.exists(path)]
    if absent:
        raise lab_host.HostError(
            "this machine has no %s%s: run a CUDA program or nvidia-modprobe -u -c 0 once" % (", ".join(absent), words)
        )
    found = [path for pattern in SHARED for path in sorted(glob.glob(pattern))] + needed[len(NEEDED) :]
    return sorted(set(found))
