"""The NVLinks of every GPU: all there, each at its rate, none with errors.

Azure NHC passes an empty answer of ``nvidia-smi nvlink``; here it is ``incomplete`` wherever the SKU has links.
"""

from __future__ import annotations

from ...core.fact import reason
from ..evidence import nvlink
from .bound import NO_EXPECTATION


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
        return [reason("gpu.nvlink", "skipped", text, NO_EXPECTATION)]
    return [_links(gpus, seen, links, rate), _errors(gpus, seen)]


def _links(gpus, seen, links, rate):
    threshold = "%s links a GPU%s" % (
        links if links is not None else "all",
        " at >= %g GB/s" % rate if rate is not None else " at the same rate",
    )
    if not seen["status"]:
        why = "; ".join(seen["said"]) or "nvidia-smi nvlink -s printed nothing (exit code 0)"
        return reason("gpu.nvlink", "incomplete", why, threshold, "systemctl status nvidia-fabricmanager; then reboot")
    bad, silent = [], []
    top = max([value for item in seen["status"] for value in item["links"].values()] or [0])
    floor = rate if rate is not None else top
    for gpu in gpus:
        item = nvlink.of_gpu(seen["status"], gpu)
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
    bad, silent = [], []
    for gpu in gpus:
        item = nvlink.of_gpu(seen["errors"], gpu)
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
