"""NUMA nodes, and who is at which of them, against the SKU; NVLink between all pairs of GPUs, and the way from a GPU to its adapter.

In a virtual machine the guest sees no PCIe switch: what is on one there is ``NODE`` in NVIDIA's words. So a SKU names the NUMA node of
each device, which the guest does see (Azure NHC's ``check_hw_topology`` compares the same), and a way across NUMA nodes only degrades.
"""

from __future__ import annotations

from ...core.fact import reason
from .bound import NO_EXPECTATION, NOT_TOLD

REPLACE = "replace the node: report it to Azure (fault code NHC2010), its devices are not where the size has them"
BY_HAND = "run nvidia-smi topo -m by hand; reboot if it stays so"
FABRIC = "systemctl status nvidia-fabricmanager, nvidia-smi nvlink -s; reset the GPUs, then reboot; replace the node if it comes back"
NIC_WAY = "look at numa_node of both in /sys/bus/pci/devices and at NCCL_TOPO_FILE, by which NCCL goes"


def check_topology(evidence, expect):
    """What the SKU says of the node's layout; a SKU that says nothing is shown how many NUMA nodes there are."""
    seen, gpu = evidence["topology"], evidence["gpu"]
    found = [_nodes(seen["numa_nodes"], expect.get("numa_node_count"))]
    if expect.get("gpu_numa_nodes"):
        at = {address: node for address, node in seen["gpus"].items() if address in gpu["presence"]["pci"]}
        found.append(_places("numa.gpus", at, expect["gpu_numa_nodes"], "no GPU on the PCI bus"))
    if expect.get("ib_numa_nodes"):
        found.append(_adapters(seen["adapters"], expect["ib_numa_nodes"]))
    gpus = gpu["smi"]["gpus"] if gpu["smi"] else []
    if expect.get("gpu_fabric") and expect.get("gpu_nvlink_count") and len(gpus) > 1:
        found.append(_pairs(seen, gpus, "NV%d" % expect["gpu_nvlink_count"]))
    if expect.get("gpu_nic_domains") and gpus:
        found.append(_ways(seen, gpus, expect))
    return found


def _nodes(online, wanted):
    check = "numa.nodes"
    threshold = NO_EXPECTATION if wanted is None else "%d NUMA nodes" % wanted
    if online is None:
        status = "skipped" if wanted is None else "incomplete"
        return reason(check, status, "not readable on this node", threshold, None if wanted is None else NOT_TOLD)
    text = "%d NUMA nodes" % len(online)
    if wanted is None:
        return reason(check, "skipped", text, threshold)
    good = len(online) == wanted
    return reason(check, "healthy" if good else "failed", text, threshold, None if good else REPLACE)


def _adapters(adapters, wanted):
    """InfiniBand adapters by their PCI address; one whose address is not known cannot be placed."""
    check = "numa.ib"
    lost = sorted(device for device, item in adapters.items() if item["address"] is None)
    if lost:
        return reason(check, "incomplete", "no PCI address of %s" % ", ".join(lost), _wanted(wanted), NOT_TOLD)
    at = {item["address"]: item["numa_node"] for item in adapters.values()}
    return _places(check, at, wanted, "no InfiniBand adapter")


def _places(check, at, wanted, nothing):
    """Compare ``{address: NUMA node}`` with the SKU's ``{PCI domain: NUMA node}``; an address that it does not name is not judged."""
    judged = {address: node for address, node in sorted(at.items()) if _domain(address) in wanted}
    if not judged:
        return reason(check, "skipped", nothing if not at else "none that the SKU names", _wanted(wanted))
    wrong = ["%s at %d" % (address, node) for address, node in judged.items() if node not in (None, wanted[_domain(address)])]
    blind = [address for address, node in judged.items() if node is None]
    if wrong:
        return reason(check, "failed", ", ".join(wrong), _wanted(wanted), REPLACE)
    if blind:
        return reason(check, "incomplete", "the kernel does not tell that of %s" % ", ".join(blind), _wanted(wanted), NOT_TOLD)
    return reason(check, "healthy", "%d where they belong" % len(judged), _wanted(wanted))


def _wanted(wanted):
    by_node = {}
    for domain, node in wanted.items():
        by_node.setdefault(node, []).append(domain)
    return "; ".join("NUMA node %s: %s" % (node, ", ".join(domains)) for node, domains in sorted(by_node.items()))


def _domain(address):
    return address.partition(":")[0]


def _pairs(seen, gpus, wanted):
    """Every pair of GPUs is connected by all NVLinks: so it is behind NVSwitches, whichever two they are."""
    check, threshold = "gpu.topology", "%s between all pairs" % wanted
    names = ["GPU%d" % gpu["index"] for gpu in gpus]
    if seen["matrix"] is None or [name for name in names if name not in seen["matrix"]]:
        text = seen["said"] or "nvidia-smi topo -m does not name %s" % ", ".join(
            name for name in names if name not in (seen["matrix"] or {})
        )
        return reason(check, "incomplete", text, threshold, BY_HAND)
    told = {(one, two): seen["matrix"][one][two] for one in names for two in names if one != two}
    wrong = ["%s-%s %s" % (one, two, cell) for (one, two), cell in told.items() if cell not in (None, wanted)]
    blind = ["%s-%s" % pair for pair, cell in told.items() if cell is None]
    if wrong:
        return reason(check, "failed", _few(wrong), threshold, FABRIC)
    if blind:
        return reason(check, "incomplete", "not readable: %s" % _few(blind), threshold, BY_HAND)
    return reason(check, "healthy", "%s between all %d pairs" % (wanted, len(told) // 2), threshold)


def _ways(seen, gpus, expect):
    """The way from each GPU to the adapter that the SKU gives it, in the words of NVIDIA's legend."""
    check, wanted = "gpu.nic_path", expect.get("gpu_nic_paths") or []
    threshold = "%s to its own adapter" % ", ".join(wanted)
    device = {_domain(item["address"]): name for name, item in seen["adapters"].items() if item["address"]}
    matrix, told = seen["matrix"] or {}, {}
    for gpu in gpus:
        row, nic = "GPU%d" % gpu["index"], device.get(expect["gpu_nic_domains"].get(_domain(gpu["bus_id"])))
        if nic and nic in matrix.get(row, {}):
            told["%s-%s" % (row, nic)] = matrix[row][nic]
    if not told:
        text = "nvidia-smi topo -m shows no way from a GPU to its adapter" if seen["matrix"] else seen["said"] or "not asked"
        return reason(check, "skipped", text, threshold)
    wrong = ["%s %s" % (pair, cell or "not readable") for pair, cell in told.items() if cell not in wanted]
    if wrong:
        return reason(check, "degraded", _few(wrong), threshold, NIC_WAY)
    return reason(check, "healthy", "%s on %d GPUs" % (", ".join(sorted(set(told.values()))), len(told)), threshold)


def _few(texts, most=8):
    return ", ".join(texts[:most]) + (" and %d more" % (len(texts) - most) if len(texts) > most else "")
