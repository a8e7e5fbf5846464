"""What a health fact keeps of the evidence: its numbers (``measured``) and what they depend on (``context``)."""

from __future__ import annotations

from .checks.kernel_log import findings
from .evidence import nvlink


def measured(evidence):
    """Return the numbers of the evidence, with the unit in the key; what could not be read is null.

    A node without a GPU has no GPU keys at all.
    """
    cpu, memory, nic, log = evidence["cpu"], evidence["memory"], evidence["nic"], evidence["kernel_log"]
    load = cpu["load"] or [None, None, None]
    skew, kernel = evidence["clock_skew"] or {}, evidence["kernel_clock"]
    disks = [seen for seen in evidence["disks"] if not seen["error"]]
    numbers = {
        "cpu_count": cpu["count"],
        "cpu_usable_count": cpu["usable"],
        "load_1m": load[0],
        "load_5m": load[1],
        "load_15m": load[2],
        "memory_total_bytes": memory["total"],
        "memory_available_bytes": memory["available"],
        "swap_total_bytes": memory["swap_total"],
        "disk_total_bytes": {seen["path"]: seen["total_bytes"] for seen in disks},
        "disk_free_bytes": {seen["path"]: seen["free_bytes"] for seen in disks},
        "disk_inodes_free_count": {seen["path"]: seen["inodes_free"] for seen in disks},
        "disk_write_ms": {seen["path"]: (seen["write"] or {}).get("ms") for seen in disks},
        "clock_skew_ms": skew.get("skew_ms"),
        "clock_skew_bound_ms": skew.get("bound_ms"),
        "clock_max_error_ms": kernel.get("max_error_ms"),
        "kernel_log_lines_count": log["events"]["lines_count"] if log["events"] else None,
        "hung_processes_count": len(evidence["hung"]["processes"]) if evidence["hung"] else None,
        "hung_kernel_threads_count": len(evidence["hung"]["kernel_threads"]) if evidence["hung"] else None,
    }
    if nic["interface"]:
        numbers["nic_mtu_bytes"] = nic["mtu"]
        numbers["nic_speed_mbit_s"] = nic["speed_mbit_s"]
        for counter in ("rx_errors", "tx_errors", "rx_dropped", "tx_dropped", "carrier_changes"):
            numbers["nic_%s_count" % counter] = nic[counter]
    if log["events"] is not None:
        found = findings(log["events"])
        numbers["kernel_log_findings_count"] = {item["rule"]: item["count"] for item in found}
        if evidence["gpu"]["smi"] is not None or found[-1]["xids"]:
            numbers["xids_count"] = {"%d" % n: sum(places.values()) for n, places in found[-1]["xids"].items()}
    numbers.update(gpu_measured(evidence["gpu"]))
    for address, links in nvlink_measured(evidence["gpu"]).items():
        numbers["gpus"][address].update(links)
    if evidence["ib"]:
        numbers["ib_ports"] = ib_measured(evidence["ib"])
    if evidence["devices"]["nvme"] is not None:
        numbers["nvme_count"] = len(evidence["devices"]["nvme"])
    if evidence["nhc"].get("text"):
        metrics = evidence["nhc"]["parsed"]["metrics"]
        numbers["nhc"] = dict(metrics, duration_s=evidence["nhc"]["duration_s"])
    return numbers


def context(evidence, chosen):
    """Return what the numbers depend on: the system, the SKU, the interface, the driver."""
    smi = evidence["gpu"]["smi"] or {}
    nic = evidence["nic"]
    return dict(
        evidence["system"],
        sku=chosen["sku"],
        sku_from=chosen["from"],
        nic={"interface": nic["interface"], "address": nic["address"], "found_by": nic["how"]},
        clock_synchronised=evidence["kernel_clock"].get("synchronised"),
        kernel_log_source=evidence["kernel_log"]["source"],
        driver=smi.get("driver"),
        cuda=smi.get("cuda"),
        gpu_products=sorted({gpu["product"] for gpu in smi.get("gpus", []) if gpu["product"]}),
        gpu_vbios=sorted({gpu["vbios"] for gpu in smi.get("gpus", []) if gpu["vbios"]}),
        ib_firmware=sorted({port["firmware"] for port in evidence["ib"] if port["firmware"]}),
        physical_host=physical_host(evidence),
        nhc={key: evidence["nhc"].get(key) for key in ("command", "log", "conf", "script", "version", "version_from")},
        topology=topology_context(evidence["topology"]),
        image=image_context(evidence["image"]["versions"]),
        settings=dict(evidence["host_settings"], gpu_direct=evidence["gpu_direct"]),
    )


def image_context(seen):
    """Return what the image's own list says: its version, and its components' by their names there; null where it does not tell."""
    told = seen["components"] is not None
    return {"file": seen["path"] if told else None, "version": seen["image"], "components": seen["components"]}


def topology_context(seen):
    """Return the NUMA nodes, and who is at which of them by PCI address; null where the kernel does not tell."""
    at = dict(seen["gpus"], **{item["address"]: item["numa_node"] for item in seen["adapters"].values() if item["address"]})
    return {"numa_nodes": seen["numa_nodes"], "devices": dict(sorted(at.items()))}


def physical_host(evidence):
    """Return the name of the machine below this virtual one, from the KVP pool or NHC's log; None where neither tells."""
    told = evidence["host"].get("PhysicalHostName")
    if not told and evidence["nhc"].get("text"):
        told = evidence["nhc"]["parsed"]["physical_host"]
    return told or None


def gpu_measured(gpu):
    """Return ``gpu_count`` and per-GPU numbers by PCI address; nothing at all without an answer of the driver."""
    if gpu["smi"] is None:
        return {}
    keys = (
        ("sm_mhz", "sm_mhz"),
        ("sm_max_mhz", "sm_max_mhz"),
        ("memory_mhz", "memory_mhz"),
        ("temperature_c", "temperature_c"),
        ("power_w", "power_w"),
        ("memory_total_mib", "memory_total_mib"),
        ("memory_used_mib", "memory_used_mib"),
        ("ecc_volatile_corrected_count", "ecc_volatile_corrected"),
        ("ecc_volatile_uncorrected_count", "ecc_volatile_uncorrected"),
        ("ecc_aggregate_uncorrected_count", "ecc_aggregate_uncorrected"),
        ("ecc_sram_uncorrected_ever_count", "ecc_sram_uncorrected_ever"),
        ("remap_uncorrected_count", "remap_uncorrected"),
        ("pcie_gen", "pcie_gen"),
        ("pcie_width", "pcie_width"),
    )
    gpus = {}
    for item in gpu["smi"]["gpus"]:
        numbers = {name: item[key] for name, key in keys}
        numbers["throttle_us"] = item["throttle_us"]
        gpus[item["bus_id"]] = numbers
    return {"gpu_count": len(gpus), "gpus": gpus}


def nvlink_measured(gpu):
    """Return ``{bus id: {...}}`` of the links: how many are active, their slowest rate in GB/s, and their errors."""
    numbers = {}
    seen = gpu.get("nvlink") or {}
    for item in (gpu["smi"] or {}).get("gpus", []):
        rates = (nvlink.of_gpu(seen.get("status") or [], item) or {}).get("links")
        counters = (nvlink.of_gpu(seen.get("errors") or [], item) or {}).get("counters")
        numbers[item["bus_id"]] = {
            "nvlink_active_count": sum(1 for value in rates.values() if value) if rates else None,
            "nvlink_min_gbps": min(rates.values()) if rates else None,
            "nvlink_errors_count": sum(n for link in counters.values() for n in link.values() if n) if counters else None,
        }
    return numbers


def ib_measured(ports):
    """Return ``{port: {...}}``: the rate in Gbit/s and the counters of lost links."""
    return {
        port["name"]: {
            "rate_gbit_s": port["rate_gbit_s"],
            "link_downed_count": port["link_downed"],
            "carrier_changes_count": port["carrier_changes"],
        }
        for port in ports
    }
