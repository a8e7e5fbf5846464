"""What a node's health expects of its SKU: which keys there are, and which SKU a node is.

Checks read one flat mapping. The data are in sections (``roles/sku``): a key of ``gpu``, ``ib`` or ``nhc`` becomes
``<section>_<key>``, those of ``health`` stay as they are.
"""

from __future__ import annotations

from ..machine import sku

NUMBER = (int, float)

# Key: (type, meaning). A key that is null or absent is not judged, and its reason says so ("skipped").
KEYS = {
    "source": (str, "where the values come from"),
    "cpu_count": (int, "processors online, exactly"),
    "numa_node_count": (int, "NUMA nodes, exactly"),
    "cpu_count_min": (int, "processors online, at least"),
    "load_per_cpu_max": (NUMBER, "load average of the last minute per processor, at most (else degraded)"),
    "memory_total_min_bytes": (int, "memory, at least"),
    "memory_available_min_bytes": (int, "memory that a process may still take, at least"),
    "swap_max_bytes": (int, "swap space, at most (else degraded)"),
    "disk_free_min_bytes": (int, "free bytes below each path, at least"),
    "disk_free_min_percent": (NUMBER, "free space below each path, at least"),
    "inodes_free_min_percent": (NUMBER, "free inodes below each path, at least"),
    "disk_write_max_ms": (NUMBER, "write, sync and read back of 1 MiB, at most (else degraded)"),
    "nic_mtu_min_bytes": (int, "MTU of the interface that holds the node's address, at least"),
    "nic_speed_min_mbit_s": (int, "its speed, at least"),
    "nic_error_ratio_max": (NUMBER, "errors per packet since boot, at most (else degraded)"),
    "nic_drop_ratio_max": (NUMBER, "drops per packet since boot, at most (else degraded)"),
    "clock_skew_max_ms": (NUMBER, "difference to the controller's clock, at most"),
    "clock_sync_required": (bool, "the kernel's clock must be disciplined by NTP or PTP (else degraded)"),
    "huge_pages": (list, "modes of transparent huge pages that are right: always, madvise, never (else degraded)"),
    "cpu_governor": (str, "frequency governor of every processor (else degraded)"),
    "services_active": (list, "services that run where they are installed (else degraded)"),
    "services_inactive": (list, "services that do not run (else degraded)"),
    "kernel_log_shared": (bool, "the log is another machine's too (containers): findings are degraded at worst"),
    "optional": (list, "checks whose missing evidence is skipped, not incomplete"),
    "gpu_count": (int, "GPUs; 0: none are expected"),
    "gpu_product": (str, "what the name of every GPU contains"),
    "gpu_pci_domains": (list, "PCI domains of the GPUs, to name the one that is missing"),
    "gpu_numa_nodes": (dict, "NUMA node of each GPU, by its PCI domain"),
    "gpu_nic_domains": (dict, "PCI domain of the InfiniBand adapter that each GPU has for its own, by the GPU's"),
    "gpu_nic_paths": (list, "ways from a GPU to that adapter that are right, in the words of nvidia-smi topo -m (else degraded)"),
    "gpu_ecc_corrected_max": (int, "corrected ECC errors since the driver was loaded, at most"),
    "gpu_ecc_sram_corrected_max": (int, "corrected SRAM errors since the driver was loaded, at most"),
    "gpu_ecc_sram_uncorrected_max": (int, "uncorrected SRAM errors over a GPU's life, at most"),
    "gpu_persistence": (bool, "persistence mode must be on (else degraded)"),
    "gpu_pcie_gen": (int, "PCIe generation of each GPU's link, at least"),
    "gpu_pcie_width": (int, "lanes of each GPU's link, at least"),
    "gpu_nvlink_count": (int, "NVLinks of each GPU; 0: none, and none are looked for"),
    "gpu_nvlink_min_gbps": (NUMBER, "rate of each NVLink in GB/s, at least"),
    "gpu_fabric": (bool, "the fabric manager must have set up every GPU, and every pair of them has all NVLinks (topo -m)"),
    "ib_ports": (list, "InfiniBand devices that must be active, by name; empty: none, and none are looked for"),
    "ib_numa_nodes": (dict, "NUMA node of each InfiniBand adapter, by its PCI domain"),
    "ib_rate_min_gbit_s": (NUMBER, "their rate, at least"),
    "ib_flaps_max": (int, "links that a port may have lost since boot (else degraded)"),
    "ib_flaps_failed_min": (int, "lost links from which the port is failed"),
    "ib_write_min_gbit_s": (NUMBER, "what ib_write_bw writes through each port, at least: NHC's, and the one between nodes"),
    "ib_ethernet_ports": (dict, "Ethernet ports of InfiniBand-class adapters: least rate in Gbit/s by name"),
    "net_interfaces": (list, "network interfaces that must be there"),
    "nvme_count": (int, "NVMe disks, exactly"),
    "nhc_checks": (
        list,
        "checks that Azure NHC must have run, as its conf names them; empty: NHC does not apply;"
        " 'check_hw_ib *' stands for one check a port, 'check_hw_eth *' for one an interface",
    ),
    "nhc_nccl_allreduce_min_gbps": (NUMBER, "NHC's all-reduce bus bandwidth within the node, at least"),
    "nhc_h2d_min_gbps": (NUMBER, "NHC's copies from and to the host, GPU by GPU, at least"),
    "nhc_p2p_min_gbps": (NUMBER, "NHC's copies between each pair of GPUs, at least"),
}

FALLBACK = "generic"
PREFIXES = {"health": "", "gpu": "gpu_", "ib": "ib_", "nhc": "nhc_"}


def _flat(entry):
    """Yield ``(section, key, flat key, value)`` for the sections that health reads."""
    for section, prefix in PREFIXES.items():
        for key, value in (entry.get(section) or {}).items():
            # Where values come from is for who reads the data; one is kept.
            if key != "source" or section == "health":
                yield section, key, prefix + key, value


def _section_of(flat):
    """Return the section in which a flat key stands."""
    return next((section for section, prefix in PREFIXES.items() if prefix and flat.startswith(prefix)), "health")


def expectations(entry):
    """Return the flat mapping that the checks read, from an entry ``{section: {key: value}}``.

    ``topology_file`` is the one key of another section: what NCCL is told there (``nccl.env.NCCL_TOPO_FILE``) has to be on the node.
    """
    found = {flat: value for _section, _key, flat, value in _flat(entry)}
    topology_file = ((entry.get("nccl") or {}).get("env") or {}).get("NCCL_TOPO_FILE")
    if topology_file:
        found["topology_file"] = topology_file
    ports = list(found.get("ib_ethernet_ports") or {}) + list(found.get("ib_ports") or [])
    each = {
        "check_hw_ib *": ["check_hw_ib %s:1" % port for port in ports],
        "check_hw_eth *": ["check_hw_eth %s" % name for name in found.get("net_interfaces") or []],
    }
    if found.get("nhc_checks"):
        found["nhc_checks"] = [one for check in found["nhc_checks"] for one in each.get(check, [check])]
    return found


def problems(name, entry):
    """Return what is wrong with the expectations in the entry of SKU ``name``, as sentences."""
    if not isinstance(entry, dict):
        return ["sku %s: expected {section: {key: value}}, got %s" % (name, type(entry).__name__)]
    found = [
        "sku %s: unknown section %r, expected one of %s" % (name, each, ", ".join(sku.SECTIONS))
        for each in entry
        if each not in sku.SECTIONS
    ]
    for section, key, flat, value in _flat(entry):
        where = "%s.%s" % (section, key)
        if flat not in KEYS or _section_of(flat) != section:
            keys = sorted(known[len(PREFIXES[section]) :] for known in KEYS if _section_of(known) == section)
            found.append("sku %s: unknown key %r, expected one of %s" % (name, where, ", ".join(keys)))
            continue
        wanted = KEYS[flat][0]
        right = value is None or (isinstance(value, wanted) and (wanted is bool or not isinstance(value, bool)))
        if not right:
            names = wanted.__name__ if isinstance(wanted, type) else "number"
            found.append("sku %s: %s is %r, expected %s or null" % (name, where, value, names))
    return found


def choose(wanted, skus, azure):
    """Choose the SKU; return ``{"sku", "from", "expect", "known", "seen"}``.

    ``wanted`` is a name or ``auto``, ``skus`` the table of :func:`sku.table`; ``azure`` is what :func:`evidence.azure_vm_size` saw
    (only read for ``auto``). An SKU that is not known is judged by ``generic``, and ``known`` is False: incomplete, never a pass.
    """
    generic = expectations(skus.get(FALLBACK) or {})
    if sku.plain(wanted) != sku.AUTO:
        name, origin = wanted, "sku_name"
    elif not azure["azure"]:
        name, origin = FALLBACK, "auto: not an Azure machine"
    elif azure["vm_size"] is None:
        return {
            "sku": None,
            "from": "auto: Azure",
            "expect": generic,
            "known": False,
            "seen": "an Azure machine whose metadata service did not say its size: %s" % azure["error"],
        }
    else:
        name, origin = azure["vm_size"], "auto: Azure instance metadata"
    known, entry = sku.find(skus, name)
    if known is None:
        seen = "%s (%s), for which there are no expected values" % (name, origin)
        return {"sku": name, "from": origin, "expect": generic, "known": False, "seen": seen}
    return {
        "sku": known,
        "from": origin,
        "expect": expectations(entry),
        "known": True,
        "seen": "%s (%s)" % (known, origin),
    }
