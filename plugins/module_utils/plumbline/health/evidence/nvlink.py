"""NVLink: what ``nvidia-smi nvlink -s`` and ``-e`` print.

Both print a block for each GPU: a line that names it, then a line for each link (``-s``), or each link's counters (``-e``).
The tool prints nothing at all, with exit code 0, where it sees no link (a real H200 in pass-through: the capture
``nvidia-smi.nvlink_s.txt``).
"""

from __future__ import annotations

import re

from ...machine import nvidia

GPU = re.compile(r"^GPU (\d+):.*?(?:\(UUID: ([\w-]+)\))?\s*$")
RATE = re.compile(r"^\s+Link (\d+):\s*(?:(\d+(?:\.\d+)?) GB/s|<inactive>)\s*$")
COUNTER = re.compile(r"^\s+Link (\d+):\s*([A-Za-z][A-Za-z ]*?Errors?):\s*(\S+)\s*$")
ALL_INACTIVE = "all links are inactive"


def collect(tool, timeout_s=60):
    """Return ``{"status", "errors", "said"}``: parsed rates and counters, ``said`` why one of them is missing."""
    seen = {"status": None, "errors": None, "said": []}
    for key, flag, parser in (("status", "-s", parse_status), ("errors", "-e", parse_errors)):
        try:
            code, stdout, stderr = nvidia.run(tool, ["nvlink", flag], timeout_s)
        except nvidia.NvidiaError as error:
            seen["said"].append(str(error))
            continue
        if code != 0:
            said = " ".join((stderr.strip() or stdout.strip() or "no message").split())[:200]
            seen["said"].append("nvidia-smi nvlink %s ended with %d: %s" % (flag, code, said))
            continue
        seen[key] = parser(stdout)
    return seen


def blocks(text):
    """Return ``[({"index", "uuid"}, [line, ...])]``: each GPU and the lines that follow its name, up to the next GPU's."""
    found = []
    for line in text.splitlines():
        head = GPU.match(line)
        if head:
            found.append(({"index": int(head.group(1)), "uuid": head.group(2)}, []))
        elif found:
            found[-1][1].append(line)
    return found


def parse_status(text):
    """Return ``[{"index", "uuid", "links": {link: GB/s}, "all_inactive"}]``; an inactive link has 0, an empty text is ``[]``."""
    gpus = []
    for gpu, lines in blocks(text):
        links = {int(rate.group(1)): float(rate.group(2) or 0) for rate in filter(None, map(RATE.match, lines))}
        gpus.append(dict(gpu, links=links, all_inactive=any(ALL_INACTIVE in line for line in lines)))
    return gpus


def parse_errors(text):
    """Return ``[{"index", "uuid", "counters": {link: {name: count or None}}}]``; an empty text is ``[]``."""
    gpus = []
    for gpu, lines in blocks(text):
        counters = {}
        for counter in filter(None, map(COUNTER.match, lines)):
            link, name, value = counter.groups()
            counters.setdefault(int(link), {})[name] = int(value) if value.isdigit() else None
        gpus.append(dict(gpu, counters=counters))
    return gpus


def of_gpu(parsed, gpu):
    """Return what one of the parsers read of ``gpu`` (``uuid``, ``index``), None where it read nothing; the uuid decides."""
    same_uuid = [item for item in parsed if item["uuid"] and item["uuid"] == gpu["uuid"]]
    same_index = [item for item in parsed if item["index"] == gpu["index"]]
    return (same_uuid or same_index or [None])[-1]
