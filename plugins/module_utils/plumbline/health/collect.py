"""The whole evidence of one node, subject by subject."""

from __future__ import annotations

from ..machine import nvidia
from .evidence import (
    azure,
    clock,
    cpu,
    devices,
    disk,
    gpu_direct,
    host,
    hung,
    image,
    infiniband,
    kernel_devices,
    kernel_log,
    memory,
    nic,
    nvlink,
    pci_acs,
    services,
    system,
    topology,
)


def collect(paths, address, clock_samples, probe_disk, tool=None, timeout_s=60, root="/", expect=None):
    """Read the whole evidence of this node; ``probe_disk`` False leaves the write probe out (check mode).

    ``root`` is where ``/proc``, ``/sys``, ``/etc``, ``/opt`` and ``/var/lib/hyperv`` are read below. ``expect`` (``expect.expectations``)
    names the services and the topology file that are looked for. NHC's part is added by the module, under ``nhc``.
    """
    expect = expect or {}
    named = (expect.get("services_active") or []) + (expect.get("services_inactive") or [])
    found = nvidia.presence(tool, root)
    gpu = {"presence": found, "smi": None, "error": None, "nvlink": None}
    if nvidia.is_present(found):
        try:
            gpu["smi"] = nvidia.query_xml(found["tool"], timeout_s)
            gpu["nvlink"] = nvlink.collect(found["tool"], timeout_s)
            gpu["inforom"] = nvidia.inforom_checksums(found["tool"], timeout_s)
        except nvidia.NvidiaError as error:
            gpu["error"] = str(error)
    log = kernel_log.collect(root, timeout_s)
    _leave_out_events(log["events"], found["others"])  # one kernel log for all who share the machine
    return {
        "system": system.system(root),
        "cpu": cpu.cpu(root),
        "memory": memory.memory(root),
        "disks": [disk.disk(path, probe_disk) for path in paths],
        "read_only_mounts": disk.read_only_mounts(root),
        "nic": nic.nic(address, root),
        "kernel_clock": clock.kernel_clock(),
        "clock_skew": clock.clock_skew(clock_samples),
        "kernel_log": log,
        "gpu": gpu,
        "ib": infiniband.collect(root),
        "devices": devices.devices(root),
        "gpu_direct": gpu_direct.gpu_direct(root),
        "topology": topology.collect(_matrix_tool(gpu, expect), found["pci"], timeout_s, root),
        "pci_acs": pci_acs.pci_acs(root),
        "host_settings": host.host(root),
        "hung": hung.hung(root),
        "services": services.services(named, root, timeout_s),
        "image": image.image(root, expect.get("topology_file")),
        "host": azure.host_values(root),
        "nhc": {"skipped": ("not asked for", None)},
    }


def _matrix_tool(gpu, expect):
    """Return the ``nvidia-smi`` that is asked for its matrix, None where the SKU says nothing of it, or the driver does not answer."""
    asks = expect.get("gpu_nic_domains") or (expect.get("gpu_fabric") and expect.get("gpu_nvlink_count"))
    return gpu["presence"]["tool"] if asks and gpu["smi"] else None


def leave_out_other_gpus(evidence, bus_ids):
    """Take out of :func:`collect`'s evidence what is of GPUs that the node may not use; ``bus_ids`` are those of the ones that it may.

    The driver was only asked for these. What the bus has more, and what the kernel log says of it by its address, goes here.
    """
    presence = evidence["gpu"]["presence"]
    others = [address for address in presence["pci"] if address not in bus_ids]
    presence["pci"] = [address for address in presence["pci"] if address in bus_ids]
    _leave_out_events(evidence["kernel_log"]["events"], others)


def _leave_out_events(events, others):
    """Take out of the kernel log's events what it says of the GPUs at the addresses ``others``."""
    places = {_place(address) for address in others}
    if not events or not places:
        return
    events["xids"] = [xid for xid in events["xids"] if _place(kernel_devices.address(xid["place"])) not in places]
    for rule in events["rules"]:
        texts = events["rules"][rule]
        events["rules"][rule] = [text for text in texts if not rule.startswith("gpu") or _place(kernel_devices.address(text)) not in places]


def _place(address):
    """Return a PCI address without its function, its domain in four digits, as both the bus and the kernel log may be read."""
    if not address:
        return None
    domain, _, rest = address.partition(".")[0].partition(":")
    return "%04x:%s" % (int(domain, 16), rest)
