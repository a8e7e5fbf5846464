"""How much memory of each GPU is in use, and by whom: what must be nearly none before a server starts and after it ended."""

from __future__ import annotations

import re
import time

from ..core.scrub import scrub_text
from . import nvidia

QUERY = "--query-gpu=index,name,memory.total,memory.used,uuid"
APPS = "--query-compute-apps=pid,used_gpu_memory,process_name,gpu_uuid"


def parse(text):
    """Return ``[{"index", "name", "total_mib", "used_mib", "uuid"}]`` of :data:`QUERY`'s CSV output; raises ``nvidia.NvidiaError``.

    A text without the column ``uuid`` gives none.
    """
    gpus = []
    for row in nvidia.parse_csv(text, ("index", "name", "memory.total", "memory.used")):
        index = nvidia.count(row["index"])
        if index is None:
            raise nvidia.NvidiaError("nvidia-smi printed a GPU that cannot be read: %r" % row)
        total, used = nvidia.number(row["memory.total"]), nvidia.number(row["memory.used"])
        gpu = {"index": index, "name": row["name"], "total_mib": total, "used_mib": used}
        gpus.append(dict(gpu, uuid=nvidia.value_or_none(row["uuid"])) if "uuid" in row else gpu)
    return gpus


def read(tool):
    """Return the GPUs of this node as :func:`parse` does, [] where no ``nvidia-smi`` is; raises ``nvidia.NvidiaError``."""
    found = nvidia.find_tool(tool)
    if not found:
        return []
    code, stdout, stderr = nvidia.run(found, [QUERY, "--format=csv"])
    if code:
        raise nvidia.NvidiaError("nvidia-smi ended with %d: %s" % (code, (stderr or stdout).strip()[:300]))
    return parse(stdout)


def users(tool):
    """Return the pids that compute on a GPU, as the driver lists them; [] where it lists none or cannot say."""
    return [item["pid"] for item in holders(tool)]


def holders(tool):
    """Return ``[{"pid", "name", "used_mib", "uuid"}]``: the processes that hold memory of a GPU, as the driver lists them.

    [] where it lists none or cannot say. A process of another container may have no name.
    """
    found = nvidia.find_tool(tool)
    if not found:
        return []
    try:
        code, stdout, _stderr = nvidia.run(found, [APPS, "--format=csv"])
        rows = nvidia.parse_csv(stdout, ("pid",)) if code == 0 else []
    except nvidia.NvidiaError:
        return []
    return [
        {
            "pid": int(row["pid"]),
            "name": scrub_text(nvidia.value_or_none(row.get("process_name")) or "")[:80],
            "used_mib": nvidia.number(row.get("used_gpu_memory")),
            "uuid": nvidia.value_or_none(row.get("gpu_uuid")),
        }
        for row in rows
        if re.fullmatch("[0-9]+", row["pid"])
    ]


def busy(gpus, idle_mib):
    """Return the sentences for GPUs that use more than ``idle_mib`` MiB; one whose use is unknown counts as busy."""
    return [
        "GPU %d uses %s MiB of %s" % (gpu["index"], _digits(gpu["used_mib"]), _digits(gpu["total_mib"]))
        for gpu in gpus
        if gpu["used_mib"] is None or gpu["used_mib"] > idle_mib
    ]


def _digits(value):
    return "an unknown number of" if value is None else "%d" % value


def wait_until_free(tool, idle_mib, timeout_s, sleep=time.sleep, clock=time.monotonic):
    """Wait until no GPU is :func:`busy`; return ``(gpus, sentences of those that still are)``.

    A driver frees a process's memory some seconds after its end. Raises ``nvidia.NvidiaError``.
    """
    deadline = clock() + timeout_s
    while True:
        gpus = read(tool)
        left = busy(gpus, idle_mib)
        if not left or clock() >= deadline:
            return gpus, left
        sleep(1)
