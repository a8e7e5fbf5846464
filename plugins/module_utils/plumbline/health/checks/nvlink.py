"""The NVLinks of every GPU: all there, each at its rate, none with errors.

Azure NHC passes an empty answer of ``nvidia-smi nvlink``; here it is ``incomplete`` wherever the SKU has links. Where no SKU
says how many there are, the GPUs of a node are compared with each other: a card without NVLink, or without a bridge, has none
and is ``skipped``; one GPU of a board whose others have links is not.
"""

from __future__ import annotations

import re

from ...core.fact import reason
from ..evidence import nvlink
from .bound import NO_EXPECTATION

# GPUs that reach each other through NVSwitches of their board, so that a link that is down is a fault, bridge or not: SXM of
# A100 and later, by the names that nvidia-smi gives them ("H100 80GB HBM3" is an SXM; PCIe and NVL cards say so).
SWITCHED = re.compile(r"SXM[3-9]|HBM3|\bH[128]00\b|\bH20\b|\bG?B[123]00\b|\bHGX\b", re.IGNORECASE)
BRIDGED = re.compile(r"\bPCIe\b|\bNVL\b", re.IGNORECASE)
# The same link is printed with its coding or without: 26.562 or 25 GB/s, 53.125 or 50. A degraded one shows 1.0 or 1.562.
CODING = 0.94
# Effective and symbol errors are those after correction: a healthy link has 1e-15 and less (15e-255 is printed for none).
BER_MAX = 1e-6
BY_HAND = "run nvidia-smi nvlink %s by hand; reboot if it stays so"
FABRIC = "systemctl status nvidia-fabricmanager; then reboot"
REPLACE = "reset the GPU, then reboot; replace the node if it comes back (fault code NHC2016)"


def check_nvlink(evidence, expect):
    """Every GPU has all its links, each at full rate, and none counts errors."""
    gpu = evidence["gpu"]
    if gpu["smi"] is None:
        return []  # the check "gpu" says so
    gpus, seen = gpu["smi"]["gpus"], gpu.get("nvlink") or {"status": None, "errors": None, "said": []}
    links, rate = expect.get("gpu_nvlink_count"), expect.get("gpu_nvlink_min_gbps")
    if links == 0:
        return [reason("gpu.nvlink", "skipped", "not looked at", "no NVLink on this SKU")]
    counted = any(item["counters"] for item in seen["errors"] or [])
    if links is None and not seen["status"] and not counted:
        text = "; ".join(seen["said"]) or "nvidia-smi nvlink -s printed nothing"
        return [reason("gpu.nvlink", "skipped", text, NO_EXPECTATION)]
    table = [Links(item, seen["status"] or [], seen["errors"] or []) for item in gpus]
    if links is None and not any(item.active for item in table):
        nothing = _without_links(table)
        if nothing:
            return [nothing]
    return [_links(table, seen, links, rate, expect), _errors(table, seen, links)]


class Links:
    """The links of one GPU, and what kind of GPU it is."""

    def __init__(self, gpu, blocks, errors):
        item, counted = nvlink.of_gpu(blocks, gpu), nvlink.of_gpu(errors, gpu)
        self.bus, self.gpu = gpu["bus_id"], gpu
        # Links that have counters are there, whatever the status tells.
        self.counted = sorted(counted["counters"]) if counted else []
        self.product = gpu["product"] or ""
        self.rates = item["links"] if item else {}
        self.unreadable = item["unreadable"] if item else []
        self.active = {link: rate for link, rate in self.rates.items() if rate}
        self.all_inactive = bool(item and item["all_inactive"])
        self.no_nvlink = bool(item and item["no_nvlink"]) and not self.rates
        self.silent = not (self.rates or self.unreadable or self.all_inactive or self.no_nvlink)
        # Its name alone, as older drivers print it for a GPU without NVLink: no answer where its links have counters.
        self.named_only = bool(item and item["empty"]) and not self.counted
        # The block that an answer which was cut ends in.
        self.last = item is not None and item is blocks[-1]

    @property
    def switched(self):
        """Return whether the GPU is one of a board with NVSwitches, as far as its name and the driver tell."""
        if BRIDGED.search(self.product):
            return False
        return bool(SWITCHED.search(self.product)) or self.gpu["fabric_state"] is not None

    @property
    def in_mig_mode(self):
        """Return whether the GPU is cut into instances, which turns its links off (NVIDIA's fabric manager guide)."""
        return self.gpu["mig"] == "Enabled"


def _without_links(table):
    """Return the reason for a node without an active link on any GPU; None where the answer does not tell."""
    if any((item.silent and not item.named_only) or item.unreadable for item in table):
        return None
    texts = {
        "no NVLink" if item.no_nvlink else "no link told" if item.silent else "all links inactive (no bridge, or nothing at its other end)"
        for item in table
    }
    down = [item for item in table if item.switched and not item.no_nvlink and not item.in_mig_mode]
    if len(down) > 1:
        # A single GPU of such a board is a virtual machine's only one. Several are of one board, so their links should be up.
        names = ", ".join(item.bus for item in down)
        remedy = "where the board has NVSwitches: %s; where it has none, set gpu_nvlink_count to 0 for this SKU" % FABRIC
        return reason(
            "gpu.nvlink", "incomplete", "%s have all links inactive, or tell none" % names, "links between GPUs of one board", remedy
        )
    return reason("gpu.nvlink", "skipped", "%s on %d GPUs" % ("; ".join(sorted(texts)), len(table)), NO_EXPECTATION)


def _remedy(table, expect, flag):
    """Return what to do about an answer that lacks GPUs: the fabric manager is asked for only where there is one."""
    return FABRIC if expect.get("gpu_fabric") or any(item.gpu["fabric_state"] is not None for item in table) else BY_HAND % flag


def _links(table, seen, links, rate, expect):
    threshold = "%s links a GPU%s" % (
        links if links is not None else "all",
        " at >= %g GB/s" % rate if rate is not None else " at the same rate",
    )
    if not seen["status"]:
        why = "; ".join(seen["said"]) or "nvidia-smi nvlink -s printed nothing (exit code 0)"
        return reason("gpu.nvlink", "incomplete", why, threshold, _remedy(table, expect, "-s"))
    products = {item.product for item in table}
    tops = {name: max([value for item in table if item.product == name for value in item.active.values()], default=0) for name in products}
    found = {"failed": [], "incomplete": [], "degraded": []}
    for item in table:
        for status, text in _of_one(item, table, links, rate, tops[item.product]):
            found[status].append("%s %s" % (item.bus, text))
    for status in ("failed", "incomplete", "degraded"):
        if found[status]:
            remedy = REPLACE if status == "failed" else _remedy(table, expect, "-s")
            if status == "degraded":
                remedy = (
                    "look at the bridge between the cards, or at MIG mode (nvidia-smi -mig 0); set gpu_nvlink_count where it is meant so"
                )
            return reason("gpu.nvlink", status, "; ".join(found[status]), threshold, remedy)
    counts = sorted({len(item.active) for item in table if not item.no_nvlink})
    top = max(tops.values())
    return reason("gpu.nvlink", "healthy", "%s links on %d GPUs, %g GB/s" % ("/".join(map(str, counts)), len(table), top), threshold)


def _of_one(item, table, links, rate, top):
    """Return ``[(status, text)]`` of what is wrong with one GPU's links."""
    if item.silent:
        return [("incomplete", "is not in what nvidia-smi nvlink -s says")]
    if item.all_inactive:
        return _all_inactive(item, links)
    if item.no_nvlink:
        return [] if links is None else [("failed", "says that it has no NVLink")]
    found = []
    if item.unreadable:
        found.append(("incomplete", "has links whose state cannot be read: %s" % _numbers(item.unreadable)))
    found += _missing(item, table, links)
    down = [link for link, value in sorted(item.rates.items()) if not value]
    if down and (links is not None or _is_fault(item, table)):
        fault = links is not None or item.switched or "SXM" in item.product
        found.append(("failed" if fault else "degraded", "has links inactive: %s" % _numbers(down)))
    floor = rate * CODING if rate is not None else 0
    slow = ["%d at %g GB/s" % pair for pair in sorted(item.active.items()) if pair[1] < floor or pair[1] < top * 0.999]
    if slow:
        found.append(("failed", "has slow links: %s" % ", ".join(slow)))
    return found


def _all_inactive(item, links):
    text = "has all links inactive"
    if item.in_mig_mode:
        return [] if links is None else [("degraded", text + ", as MIG mode makes them")]
    if links is None and not item.switched and "SXM" not in item.product:
        return [("degraded", text + ", others of this node have links: a card without a bridge, or one whose bridge is lost")]
    return [("failed", text)]


def _missing(item, table, links):
    """Links that are not told at all: an answer that was cut lacks the last ones of its last GPU."""
    told = set(item.rates) | set(item.unreadable)
    alike = [other for other in table if other.product == item.product]
    wanted = range(links) if links is not None else sorted(set(item.counted).union(*(other.rates for other in alike)))
    missing = [link for link in wanted if link not in told]
    if not missing:
        return []
    tail = item.last and min(missing) > max(told, default=-1)
    if tail:
        return [("incomplete", "ends the answer without its links %s: it was cut" % _numbers(missing))]
    if links is None:
        return [("incomplete", "does not tell its links %s, which others have" % _numbers(missing))]
    return [("failed", "has links inactive: %s" % _numbers(missing))]


def _is_fault(item, table):
    """Return whether inactive links are one where no SKU says so: on a switched board always, else where others have more."""
    most = max(len(other.active) for other in table if other.product == item.product)
    return item.switched or len(item.active) < most


def _numbers(links):
    return ", ".join(map(str, links))


def _errors(table, seen, links):
    threshold = "0 errors on every link"
    if not seen["errors"]:
        why = "; ".join(seen["said"]) or "nvidia-smi nvlink -e printed nothing (exit code 0)"
        return reason("gpu.nvlink_errors", "incomplete", why, threshold, "run nvidia-smi nvlink -e by hand")
    items = [(item, nvlink.of_gpu(seen["errors"], item.gpu)) for item in table]
    owed = [(item, read) for item, read in items if not (item.no_nvlink or item.all_inactive or (read and read["no_nvlink"] and not links))]
    if not owed:
        return reason("gpu.nvlink_errors", "skipped", "no GPU with an active link", threshold)
    bad = [text for item, read in owed if read for text in _counted(item.bus, read)]
    if bad:
        text = "; ".join(bad[:6]) + ("; and %d more" % (len(bad) - 6) if len(bad) > 6 else "")
        remedy = "watch whether they grow (nvidia-smi nvlink -e); if so reset the GPU, then replace the node (NHC2016)"
        return reason("gpu.nvlink_errors", "degraded", text, threshold, remedy)
    names = {name for _item, read in owed if read for counters in read["counters"].values() for name in counters}
    lacking = [text for item, read in owed for text in _lacking(item, read, names, links)]
    if lacking:
        text = "; ".join(lacking[:6]) + ("; and %d more" % (len(lacking) - 6) if len(lacking) > 6 else "")
        return reason("gpu.nvlink_errors", "incomplete", text, threshold, "run nvidia-smi nvlink -e by hand: it may have been cut")
    return reason("gpu.nvlink_errors", "healthy", "no error on %d GPUs" % len(owed), threshold)


def _counted(bus, read):
    """Return what a GPU's links counted, and error rates above :data:`BER_MAX`."""
    found = []
    for link, counters in sorted(read["counters"].items()):
        found += ["%s link %d: %d %s" % (bus, link, n, name) for name, n in sorted(counters.items()) if n]
    for link, rates in sorted(read["rates"].items()):
        found += ["%s link %d: %s %g" % (bus, link, name, value) for name, value in sorted(rates.items()) if (value or 0) > BER_MAX]
    return found


def _lacking(item, read, names, links):
    """Return which links of a GPU, and which of a link's counters, were not told or not as numbers."""
    if read is None or not read["counters"]:
        return ["no counters of %s" % item.bus]
    wanted = sorted(item.active) or (range(links) if links is not None else sorted(read["counters"]))
    missing = [link for link in wanted if link not in read["counters"]]
    found = ["no counters of %s for links %s" % (item.bus, _numbers(missing))] if missing else []
    for link, counters in sorted(read["counters"].items()):
        gone = sorted(name for name in names if counters.get(name) is None)
        if gone:
            found.append("%s link %d does not tell its %s" % (item.bus, link, ", ".join(gone)))
    return found
