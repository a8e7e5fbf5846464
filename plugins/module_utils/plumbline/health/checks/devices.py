"""The devices that a SKU has: network interfaces by name and NVMe disks by number."""

from __future__ import annotations

from ...core.fact import reason


def check_devices(evidence, expect):
    """Network interfaces by name and NVMe disks by number, as NHC's ``check_hw_eth`` and ``check_nvme_count``."""
    seen, found = evidence["devices"], []
    wanted = expect.get("net_interfaces")
    if wanted:
        threshold = ", ".join(wanted)
        if seen["interfaces"] is None:
            found.append(reason("net.interfaces", "incomplete", "/sys/class/net is not readable", threshold, "look at ip link"))
        else:
            missing = [name for name in wanted if name not in seen["interfaces"]]
            text = "missing: %s" % ", ".join(missing) if missing else "%d there" % len(wanted)
            remedy = "docker0 comes with Docker; ib* with their IB port (ib.state); eth* with the virtual machine's NICs"
            status = "failed" if missing else "healthy"
            found.append(reason("net.interfaces", status, text, threshold, remedy if missing else None))
    count = expect.get("nvme_count")
    if count is not None:
        threshold = "%d NVMe disks" % count
        if seen["nvme"] is None:
            found.append(reason("nvme.count", "incomplete", "/sys/block is not readable", threshold, "look at lsblk"))
        else:
            good = len(seen["nvme"]) == count
            text = "%d: %s" % (len(seen["nvme"]), ", ".join(seen["nvme"]) or "none")
            remedy = None if good else "reboot; if it stays so, replace the node: report it to Azure (fault code NHC2023)"
            found.append(reason("nvme.count", "healthy" if good else "failed", text, threshold, remedy))
    return found
