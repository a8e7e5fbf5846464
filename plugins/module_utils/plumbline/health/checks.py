"""The checks of a node's health: evidence and expectations in, reasons out.

A check is a function ``(evidence, expect) -> [reason, ...]`` in :data:`CHECKS`; it measures nothing, so a test
can replay any node. Evidence comes from ``health_evidence``, ``health_kernel_log``, ``health_nvlink``, ``health_ib``, ``health_azure``,
``nhc_run`` and ``nvidia``,
expectations (per SKU) from ``roles/node_health/vars/main/skus.yml``; keys in ``health_expect``. To add one: collect the
evidence in :func:`collect`, write the function, list it in :data:`CHECKS`, give each SKU its threshold.
"""

from __future__ import annotations

from ..core.fact import reason
from ..machine import nvidia
from . import azure as health_azure
from . import evidence as health_evidence
from . import infiniband as health_ib
from . import kernel_log as health_kernel_log
from . import nhc_log as nhc
from . import nvlink as health_nvlink
from .azure import check_devices
from .gpu import check_gpu, gpu_measured
from .infiniband import check_ib
from .nvlink import check_nvlink

NO_EXPECTATION = "no expected value for this SKU"


def collect(paths, address, clock_samples, probe_disk, tool=None, timeout_s=60, root="/"):
    """Read the whole evidence of this node; ``probe_disk`` False leaves the write probe out (check mode).

    ``root`` is where ``/proc``, ``/sys``, ``/etc`` and ``/var/lib/hyperv`` are read below. NHC's part is added by the
    module, under ``nhc``.
    """
    found = nvidia.presence(tool, root)
    gpu = {"presence": found, "smi": None, "error": None, "nvlink": None}
    if nvidia.is_present(found):
        try:
            gpu["smi"] = nvidia.query_xml(found["tool"], timeout_s)
            gpu["nvlink"] = health_nvlink.collect(found["tool"], timeout_s)
        except nvidia.NvidiaError as error:
            gpu["error"] = str(error)
    return {
        "system": health_evidence.system(root),
        "cpu": health_evidence.cpu(root),
        "memory": health_evidence.memory(root),
        "disks": [health_evidence.disk(path, probe_disk) for path in paths],
        "read_only_mounts": health_evidence.read_only_mounts(root),
        "nic": health_evidence.nic(address, root),
        "kernel_clock": health_evidence.kernel_clock(),
        "clock_skew": health_evidence.clock_skew(clock_samples),
        "kernel_log": health_kernel_log.collect(root, timeout_s),
        "gpu": gpu,
        "ib": health_ib.collect(root),
        "devices": health_azure.devices(root),
        "host": health_azure.host_values(root),
        "nhc": {"skipped": ("not asked for", None)},
    }


def size(count):
    """Return bytes for a person: ``1.5 GiB``."""
    for unit, factor in (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20)):
        if abs(count) >= factor:
            return "%.1f %s" % (count / factor, unit)
    return "%d bytes" % count


def bound(check, value, limit, at_least, say, remedy, bad="failed", where=None):
    """Compare one number with its limit and return the reason.

    ``say`` turns a number into words, ``where`` names the path or interface it was seen at. No number is
    ``incomplete``, no limit ``skipped``: neither is a pass.
    """
    prefix = "%s: " % where if where else ""
    sign = ">=" if at_least else "<="
    threshold = NO_EXPECTATION if limit is None else "%s %s" % (sign, say(limit))
    if value is None:
        return reason(check, "incomplete", prefix + "not readable on this node", threshold, "run the check as root")
    if limit is None:
        return reason(check, "skipped", prefix + say(value), threshold)
    good = value >= limit if at_least else value <= limit
    return reason(check, "healthy" if good else bad, prefix + say(value), threshold, None if good else remedy)


def check_cpu(evidence, expect):
    """Processors online against the expected count, and the load they carry."""
    seen = evidence["cpu"]
    exact = expect.get("cpu_count")
    if exact is None:
        count = bound(
            "cpu.count",
            seen["count"],
            expect.get("cpu_count_min"),
            True,
            "{} online".format,
            "look for processors taken offline (lscpu), or use a larger size",
        )
    elif seen["count"] is None:
        count = reason("cpu.count", "incomplete", "the list of online processors is not readable", "%d online" % exact)
    else:
        good = seen["count"] == exact
        count = reason(
            "cpu.count",
            "healthy" if good else "failed",
            "%d online" % seen["count"],
            "%d online" % exact,
            None if good else "look for processors taken offline (lscpu); otherwise replace the node",
        )
    per_cpu = seen["load"][0] / seen["count"] if seen["load"] and seen["count"] else None
    load = bound(
        "cpu.load",
        per_cpu,
        expect.get("load_per_cpu_max"),
        False,
        "{:.2f} per processor over a minute".format,
        "stop what else runs there: it will spoil the measurements",
        "degraded",
    )
    return [count, load]


def check_memory(evidence, expect):
    """Memory that is there, that is free, and swap, which stalls a server that touches it."""
    seen = evidence["memory"]
    found = [
        bound(
            "memory.total",
            seen["total"],
            expect.get("memory_total_min_bytes"),
            True,
            size,
            "replace the node: a memory module is missing or disabled",
        ),
        bound(
            "memory.available",
            seen["available"],
            expect.get("memory_available_min_bytes"),
            True,
            size,
            "stop what holds the memory (ps --sort=-rss)",
        ),
    ]
    if expect.get("swap_max_bytes") is not None:
        found.append(bound("memory.swap", seen["swap_total"], expect["swap_max_bytes"], False, size, "swapoff -a", "degraded"))
    return found


def check_disk(evidence, expect):
    """Space, inodes, read-only state and a real write below each path."""
    found = []
    for seen in evidence["disks"]:
        path = seen["path"]
        where = path if seen["place"] == path else "%s (not there yet: judged at %s)" % (path, seen["place"])
        if seen["error"]:
            found.append(reason("disk.free", "incomplete", "%s: %s" % (where, seen["error"]), None, "look at the mount (findmnt)"))
            continue
        found.append(_disk_space(where, seen, expect))
        if seen["inodes_total"]:
            percent = 100.0 * seen["inodes_free"] / seen["inodes_total"]
            found.append(
                bound(
                    "disk.inodes",
                    percent,
                    expect.get("inodes_free_min_percent"),
                    True,
                    "{:.1f} % of inodes free".format,
                    "remove small files there, or make the file system anew with more inodes",
                    where=where,
                )
            )
        if seen["read_only"]:
            found.append(
                reason(
                    "disk.write",
                    "failed",
                    "%s is mounted read-only" % where,
                    "writable",
                    "look for the error in the kernel log, then fsck and remount, or replace the node",
                )
            )
        elif seen["write"] is None:
            found.append(reason("check_mode", "skipped", "%s: no file is written in check mode" % where, None))
        elif (seen["write"]["error"] or "").endswith(("(EACCES)", "(EPERM)")):
            text = "%s: 1 MiB could not be written: %s" % (where, seen["write"]["error"])
            # No right to write says nothing about the disk.
            found.append(reason("disk.write", "incomplete", text, "a synced write succeeds", "run as root (become: true)"))
        elif seen["write"]["error"]:
            found.append(
                reason(
                    "disk.write",
                    "failed",
                    "%s: 1 MiB could not be written: %s" % (where, seen["write"]["error"]),
                    "a synced write succeeds",
                    "free space there, or mend or replace the disk",
                )
            )
        else:
            found.append(
                bound(
                    "disk.write",
                    seen["write"]["ms"],
                    expect.get("disk_write_max_ms"),
                    False,
                    "1 MiB written, synced and read back in {:.1f} ms".format,
                    "look at the disk's load (iostat -x) and its errors in the kernel log",
                    "degraded",
                    where,
                )
            )
    mounts = evidence["read_only_mounts"]
    if mounts is None:
        found.append(reason("disk.read_only", "incomplete", "the mount table is not readable", "no disk read-only"))
    else:
        seen = "read-only: %s" % ", ".join(mounts) if mounts else "every disk file system is mounted writable"
        remedy = "a kernel that met errors remounts so: look into the kernel log" if mounts else None
        found.append(reason("disk.read_only", "degraded" if mounts else "healthy", seen, "no disk read-only", remedy))
    return found


def _disk_space(where, seen, expect):
    """Both limits in one reason: a full disk is one finding, not two."""
    minimum, percent = expect.get("disk_free_min_bytes"), expect.get("disk_free_min_percent")
    free_percent = 100.0 * seen["free_bytes"] / seen["total_bytes"] if seen["total_bytes"] else 0.0
    text = "%s: %s (%.1f %%) free" % (where, size(seen["free_bytes"]), free_percent)
    limits = []
    if minimum is not None:
        limits.append(size(minimum))
    if percent is not None:
        limits.append("%g %%" % percent)
    if not limits:
        return reason("disk.free", "skipped", text, NO_EXPECTATION)
    bad = (minimum is not None and seen["free_bytes"] < minimum) or (percent is not None and free_percent < percent)
    return reason(
        "disk.free",
        "failed" if bad else "healthy",
        text,
        ">= %s" % " and ".join(limits),
        "free space there (du -xh --max-depth=1), or mount a larger disk" if bad else None,
    )


def check_nic(evidence, expect):
    """The interface that holds the node's address: up, with carrier, fast enough, without errors."""
    seen = evidence["nic"]
    name = seen["interface"]
    if name is None:
        text = "no interface holds %s, took this SSH connection or has the default route" % (seen["wanted"] or "an address")
        return [reason("nic.state", "incomplete", text, "one interface, up", "set ansible_host to an address of the node")]
    found = []
    # Drivers that do not follow the link report "unknown" (lo does): then the carrier decides.
    up = seen["operstate"] in ("up", "unknown") and seen["carrier"] == 1
    if seen["operstate"] is None or (up is False and seen["carrier"] is None and seen["operstate"] != "down"):
        found.append(reason("nic.state", "incomplete", "%s: its state is not readable in /sys/class/net" % name, "up, carrier"))
    else:
        text = "%s (%s, by %s) is %s, carrier %s" % (
            name,
            seen["address"] or "no address",
            seen["how"],
            seen["operstate"],
            seen["carrier"],
        )
        found.append(
            reason(
                "nic.state",
                "healthy" if up else "failed",
                text,
                "up, carrier 1",
                None if up else "ip link show %s; then the cable, port or virtual network" % name,
            )
        )
    found.append(
        bound(
            "nic.mtu",
            seen["mtu"],
            expect.get("nic_mtu_min_bytes"),
            True,
            "MTU {}".format,
            "ip link set %s mtu …, or correct the virtual network" % name,
            where=name,
        )
    )
    if seen["speed_mbit_s"] is None and expect.get("nic_speed_min_mbit_s") is None:
        found.append(reason("nic.speed", "skipped", "%s: the driver does not report a speed" % name, NO_EXPECTATION))
    else:
        found.append(
            bound(
                "nic.speed",
                seen["speed_mbit_s"],
                expect.get("nic_speed_min_mbit_s"),
                True,
                "{} Mbit/s".format,
                "look for accelerated networking switched off (ethtool -i %s)" % name,
                where=name,
            )
        )
    for check, limit, counters in (
        ("nic.errors", "nic_error_ratio_max", ("rx_errors", "tx_errors")),
        ("nic.drops", "nic_drop_ratio_max", ("rx_dropped", "tx_dropped")),
    ):
        found.append(_ratio(check, name, seen, counters, expect.get(limit)))
    return found


def _ratio(check, name, seen, counters, limit):
    """Errors or drops in either direction, as a share of the packets since boot."""
    numbers = [seen[key] for key in counters + ("rx_packets", "tx_packets")]
    threshold = NO_EXPECTATION if limit is None else "<= %g per packet" % limit
    if None in numbers:
        return reason(check, "incomplete", "%s: its counters are not readable" % name, threshold)
    bad, packets = numbers[0] + numbers[1], max(numbers[2] + numbers[3], 1)
    text = "%s: %d received, %d sent, of %d packets" % (name, numbers[0], numbers[1], numbers[2] + numbers[3])
    if limit is None:
        return reason(check, "skipped", text, threshold)
    good = bad / packets <= limit
    return reason(
        check,
        "healthy" if good else "degraded",
        text,
        threshold,
        None if good else "watch whether it grows (ip -s link show %s)" % name,
    )


def check_clock(evidence, expect):
    """The node's clock: against the controller's, and whether the kernel calls it disciplined."""
    found = [_skew(evidence["clock_skew"], expect.get("clock_skew_max_ms"))]
    kernel, required = evidence["kernel_clock"], expect.get("clock_sync_required")
    threshold = "disciplined by NTP or PTP" if required else "not required for this SKU: the skew decides"
    if kernel["error"]:
        found.append(reason("clock.sync", "incomplete" if required else "skipped", kernel["error"], threshold))
    elif kernel["synchronised"]:
        text = "the kernel's clock is disciplined, error at most %.1f ms" % kernel["max_error_ms"]
        found.append(reason("clock.sync", "healthy", text, threshold))
    else:
        found.append(
            reason(
                "clock.sync",
                "degraded" if required else "skipped",
                "nothing disciplines the kernel's clock (STA_UNSYNC)",
                threshold,
                "start chrony (with rtcsync) or systemd-timesyncd" if required else None,
            )
        )
    return found


def _skew(seen, limit):
    """Judge only what the measurement can tell: a skew within its own uncertainty of the limit is incomplete."""
    threshold = NO_EXPECTATION if limit is None else "within ±%g ms" % limit
    if seen is None:
        return reason(
            "clock.skew",
            "incomplete",
            "the controller's clock was not compared with the node's",
            threshold,
            "run the node_health role: its action plugin compares them",
        )
    text = "%+.1f ms against the controller, ±%.1f ms" % (seen["skew_ms"], seen["bound_ms"])
    if limit is None:
        return reason("clock.skew", "skipped", text, threshold)
    if abs(seen["skew_ms"]) + seen["bound_ms"] <= limit:
        return reason("clock.skew", "healthy", text, threshold)
    if abs(seen["skew_ms"]) - seen["bound_ms"] > limit:
        return reason("clock.skew", "failed", text, threshold, "correct the clock of the node or of the controller (chronyc)")
    return reason("clock.skew", "incomplete", text, threshold, "run again: the connection was too slow to tell")


def check_kernel_log(evidence, expect):
    """One reason for whether the log could be read, one for each kind of bad news."""
    seen = evidence["kernel_log"]
    if seen["lines"] is None:
        return [
            reason(
                "kernel_log",
                "incomplete",
                "not readable: %s" % seen["error"],
                "readable",
                "run as root with CAP_SYSLOG, or list kernel_log under optional for this SKU",
            )
        ]
    shared = bool(expect.get("kernel_log_shared"))
    since = "since boot" if seen["complete"] else "its beginning is lost"
    note = "; shared with other machines, so degraded at worst" if shared else ""
    found = [
        reason(
            "kernel_log",
            "healthy",
            "%d lines of the %s, %s%s" % (len(seen["lines"]), seen["source"], since, note),
            "readable",
        )
    ]
    if expect.get("gpu_count") and not seen["complete"]:
        text = "the beginning of the %s is lost, and with it what XIDs it had" % seen["source"]
        found = [reason("kernel_log", "incomplete", text, "the whole log since boot", "read it by journald, or reboot")]
    for item in health_kernel_log.find(seen["lines"]):
        check = "kernel_log.%s" % item["rule"]
        if item["count"] == 0:
            found.append(reason(check, "healthy", "none in %d lines" % len(seen["lines"]), "none"))
            continue
        status = "degraded" if shared else item["status"]
        text = "%d, the last: %s" % (item["count"], item["last"])
        if item.get("xids"):
            text = "%s; the last: %s" % (xids_text(item["xids"]), item["last"])
        found.append(reason(check, status, text, "none", item["remedy"]))
    return found


def xids_text(xids):
    """Return ``{79: {"0001:00:00": 2}}`` in words."""
    parts = []
    for number, places in sorted(xids.items()):
        where = ", ".join("%s%s" % (place, " (%d times)" % n if n > 1 else "") for place, n in sorted(places.items()))
        parts.append("XID %d at %s" % (number, where))
    return ", ".join(parts)


def check_nhc(evidence, expect):
    """Azure NHC's own verdicts, or why there are none."""
    seen = evidence["nhc"]
    if seen.get("skipped"):
        text, threshold = seen["skipped"]
        return [reason("check_mode" if seen.get("check_mode") else "nhc", "skipped", text, threshold)]
    threshold = "NHC runs its checks"
    if seen.get("missing"):
        remedy = "install Azure/azurehpc-health-checks, or set node_health_nhc: auto"
        return [reason("nhc", "incomplete", seen["missing"], threshold, remedy)]
    parsed = nhc.parse(seen["text"])
    if seen["error"] and not parsed["ran"]:
        return [reason("nhc", "incomplete", seen["error"], threshold, "look at %s" % (seen["log"] or "the path of NHC"))]
    # What the node's own conf asks for is owed too, where the SKU knows nothing or less.
    names = [nhc.name_of(command) for command in expect.get("nhc_checks") or []]
    more = [command for command in seen["checks"] if nhc.name_of(command) not in names]
    found = nhc.judge(parsed, dict(expect, nhc_checks=(expect.get("nhc_checks") or []) + more))
    if seen["error"]:
        found.insert(0, reason("nhc", "incomplete", seen["error"], threshold, "raise node_health_nhc_timeout_s, or look why it hangs"))
    return found


CHECKS = (
    check_gpu,
    check_nvlink,
    check_ib,
    check_devices,
    check_cpu,
    check_memory,
    check_disk,
    check_nic,
    check_clock,
    check_kernel_log,
    check_nhc,
)


def assess(evidence, expect, checks=CHECKS):
    """Run every check; return the reasons.

    A check named under ``optional`` that lacks its evidence is skipped, and says why. A check that itself breaks on
    what it found is ``incomplete``: it must not take the other verdicts with it.
    """
    optional = expect.get("optional") or []
    found = []
    for check in checks:
        try:
            reasons = check(evidence, expect)
        except Exception as error:  # noqa: BLE001 -- see above; the text names it
            name = check.__name__.replace("check_", "")
            text = "the check itself failed: %s: %s" % (type(error).__name__, error)
            reasons = [reason(name, "incomplete", text, None, "report this as a bug of Plumbline")]
        for item in reasons:
            if item["status"] == "incomplete" and item["check"] in optional:
                item = dict(item, status="skipped", seen="%s (optional for this SKU)" % item["seen"])
            found.append(item)
    return found


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
        "kernel_log_lines_count": len(log["lines"]) if log["lines"] is not None else None,
    }
    if nic["interface"]:
        numbers["nic_mtu_bytes"] = nic["mtu"]
        numbers["nic_speed_mbit_s"] = nic["speed_mbit_s"]
        for counter in ("rx_errors", "tx_errors", "rx_dropped", "tx_dropped", "carrier_changes"):
            numbers["nic_%s_count" % counter] = nic[counter]
    if log["lines"] is not None:
        findings = health_kernel_log.find(log["lines"])
        numbers["kernel_log_findings_count"] = {item["rule"]: item["count"] for item in findings}
        if evidence["gpu"]["smi"] is not None or findings[-1]["xids"]:
            numbers["xids_count"] = {"%d" % n: sum(places.values()) for n, places in findings[-1]["xids"].items()}
    numbers.update(gpu_measured(evidence["gpu"]))
    for address, links in health_nvlink.measured(evidence["gpu"]).items():
        numbers["gpus"][address].update(links)
    if evidence["ib"]:
        numbers["ib_ports"] = health_ib.measured(evidence["ib"])
    if evidence["devices"]["nvme"] is not None:
        numbers["nvme_count"] = len(evidence["devices"]["nvme"])
    if evidence["nhc"].get("text"):
        metrics = nhc.parse(evidence["nhc"]["text"])["metrics"]
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
        nhc={key: evidence["nhc"].get(key) for key in ("command", "log", "conf")},
    )


def physical_host(evidence):
    """Return the name of the machine below this virtual one, from the KVP pool or NHC's log; None where neither tells."""
    told = evidence["host"].get("PhysicalHostName")
    if not told and evidence["nhc"].get("text"):
        told = nhc.parse(evidence["nhc"]["text"])["physical_host"]
    return told or None
