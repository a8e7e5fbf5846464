"""NVLink: what ``nvidia-smi nvlink -s`` and ``-e`` print, and the checks on it.

The tool prints nothing at all, with exit code 0, where it sees no link (a real H200 in pass-through: the capture
``nvidia-smi.nvlink_s.txt``). Azure NHC passes that; here it is ``incomplete`` wherever the SKU has links.
"""

from __future__ import annotations

import re

from ..core.fact import reason
from ..machine import nvidia

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


def parse_status(text):
    """Return ``[{"index", "uuid", "links": {link: GB/s}}]``; an inactive link has 0, an empty text is ``[]``."""
    gpus = []
    for line in text.splitlines():
        head, rate = GPU.match(line), RATE.match(line)
        if head:
            gpus.append({"index": int(head.group(1)), "uuid": head.group(2), "links": {}, "all_inactive": False})
        elif rate and gpus:
            gpus[-1]["links"][int(rate.group(1))] = float(rate.group(2) or 0)
        elif ALL_INACTIVE in line and gpus:
            gpus[-1]["all_inactive"] = True
    return gpus


def parse_errors(text):
    """Return ``[{"index", "uuid", "counters": {link: {name: count or None}}}]``; an empty text is ``[]``."""
    gpus = []
    for line in text.splitlines():
        head, counter = GPU.match(line), COUNTER.match(line)
        if head:
            gpus.append({"index": int(head.group(1)), "uuid": head.group(2), "counters": {}})
        elif counter and gpus:
            value = int(counter.group(3)) if counter.group(3).isdigit() else None
            gpus[-1]["counters"].setdefault(int(counter.group(1)), {})[counter.group(2)] = value
    return gpus


def check_nvlink(evidence, expect):
    """Every GPU has all its links, each at full rate, and none counts errors."""
    gpu = evidence["gpu"]
    if gpu["smi"] is None:
        return []  # the check "gpu" says so
    gpus, seen = gpu["smi"]["gpus"], gpu.get("nvlink") or {"status": None, "errors": None, "said": []}
    links, rate = expect.get("gpu_nvlink_count"), expect.get("gpu_nvlink_min_gbps")
    if links == 0:
        return [reason("gpu.nvlink", "skipped", "not looked at", "no NVLink on this SKU")]
    if links is None and not seen["status"]:
        text = "; ".join(seen["said"]) or "nvidia-smi nvlink -s printed nothing"
        return [reason("gpu.nvlink", "skipped", text, "no expected value for this SKU")]
    return [_links(gpus, seen, links, rate), _errors(gpus, seen)]


def _links(gpus, seen, links, rate):
    threshold = "%s links a GPU%s" % (
        links if links is not None else "all",
        " at >= %g GB/s" % rate if rate is not None else " at the same rate",
    )
    if not seen["status"]:
        why = "; ".join(seen["said"]) or "nvidia-smi nvlink -s printed nothing (exit code 0)"
        return reason("gpu.nvlink", "incomplete", why, threshold, "systemctl status nvidia-fabricmanager; then reboot")
    by_uuid = {item["uuid"]: item for item in seen["status"] if item["uuid"]}
    by_index = {item["index"]: item for item in seen["status"]}
    bad, silent = [], []
    top = max([value for item in seen["status"] for value in item["links"].values()] or [0])
    floor = rate if rate is not None else top
    for gpu in gpus:
        item = by_uuid.get(gpu["uuid"]) or by_index.get(gpu["index"])
        if item is None or not (item["links"] or item["all_inactive"]):
            silent.append(gpu["bus_id"])
            continue
        wanted = range(links) if links is not None else sorted(item["links"])
        down = [link for link in wanted if not item["links"].get(link)]
        slow = ["%d at %g GB/s" % (link, value) for link, value in sorted(item["links"].items()) if 0 < value < floor * 0.999]
        if item["all_inactive"]:
            bad.append("%s has all links inactive" % gpu["bus_id"])
        elif down:
            bad.append("%s has links inactive: %s" % (gpu["bus_id"], ", ".join(map(str, down))))
        if slow:
            bad.append("%s has slow links: %s" % (gpu["bus_id"], ", ".join(slow)))
    if bad:
        remedy = "reset the GPU, then reboot; replace the node if it comes back (fault code NHC2016)"
        return reason("gpu.nvlink", "failed", "; ".join(bad), threshold, remedy)
    if silent:
        text = "nvidia-smi nvlink -s says nothing of %s" % ", ".join(silent)
        return reason("gpu.nvlink", "incomplete", text, threshold, "systemctl status nvidia-fabricmanager; then reboot")
    counts = sorted({len(item["links"]) for item in seen["status"]})
    return reason("gpu.nvlink", "healthy", "%s links on %d GPUs, %g GB/s" % ("/".join(map(str, counts)), len(gpus), top), threshold)


def _errors(gpus, seen):
    threshold = "0 errors on every link"
    if not seen["errors"]:
        why = "; ".join(seen["said"]) or "nvidia-smi nvlink -e printed nothing (exit code 0)"
        return reason("gpu.nvlink_errors", "incomplete", why, threshold, "run nvidia-smi nvlink -e by hand")
    by_uuid = {item["uuid"]: item for item in seen["errors"] if item["uuid"]}
    by_index = {item["index"]: item for item in seen["errors"]}
    bad, silent = [], []
    for gpu in gpus:
        item = by_uuid.get(gpu["uuid"]) or by_index.get(gpu["index"])
        if item is None or not item["counters"]:
            silent.append(gpu["bus_id"])
            continue
        for link, counters in sorted(item["counters"].items()):
            bad += ["%s link %d: %d %s" % (gpu["bus_id"], link, n, name) for name, n in sorted(counters.items()) if n]
    if bad:
        text = "; ".join(bad[:6]) + ("; and %d more" % (len(bad) - 6) if len(bad) > 6 else "")
        remedy = "watch whether they grow (nvidia-smi nvlink -e); if so reset the GPU, then replace the node (NHC2016)"
        return reason("gpu.nvlink_errors", "degraded", text, threshold, remedy)
    if silent:
        return reason("gpu.nvlink_errors", "incomplete", "no counters of %s" % ", ".join(silent), threshold, "run it by hand")
    return reason("gpu.nvlink_errors", "healthy", "no error on %d GPUs" % len(gpus), threshold)


def measured(gpu):
    """Return ``{bus id: {...}}`` of the links: how many are active, their slowest rate in GB/s, and their errors."""
    numbers = {}
    seen = gpu.get("nvlink") or {}
    for item in (gpu["smi"] or {}).get("gpus", []):
        rates = next((s["links"] for s in seen.get("status") or [] if s["uuid"] == item["uuid"] or s["index"] == item["index"]), None)
        counters = next((s["counters"] for s in seen.get("errors") or [] if s["uuid"] == item["uuid"] or s["index"] == item["index"]), None)
        numbers[item["bus_id"]] = {
            "nvlink_active_count": sum(1 for value in rates.values() if value) if rates else None,
            "nvlink_min_gbps": min(rates.values()) if rates else None,
            "nvlink_errors_count": sum(n for link in counters.values() for n in link.values() if n) if counters else None,
        }
    return numbers
