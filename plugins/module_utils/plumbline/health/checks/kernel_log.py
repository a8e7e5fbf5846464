"""The kernel log of a node: what its events mean for it."""

from __future__ import annotations

from ...core.fact import reason
from . import xids

# Rule of kernel_events: (status of a finding, remedy).
MEANING = {
    "oom": ("degraded", "find what took the memory (journalctl -k) and stop it, or use a node with more"),
    "io_error": ("failed", "replace the node: its disk does not answer as it should"),
    "filesystem": ("failed", "check the file system (fsck) after a reboot; replace the node if it comes back"),
    "mce": ("failed", "replace the node: the processor, its memory or a bus reported an error that was not corrected"),
    "mce_corrected": ("degraded", "watch it: corrected hardware errors often come before uncorrected ones"),
    "mce_unclear": ("degraded", "read the message (journalctl -k): its lines do not say whether the hardware error was corrected"),
    "pcie": ("failed", "reboot the node: a PCIe link or a device behind it is lost; replace the node if it comes back"),
    "pcie_corrected": ("degraded", "watch it: the link recovered; many such errors point at a slot, a riser or a cable"),
    "gpu_lost": ("failed", "reboot the node: the GPU no longer answers on the bus; replace the node if it comes back"),
    "gpu_init": ("failed", "reboot the node: the driver could not start the GPU, or gave it up; replace the node if it comes back"),
    "gpu_driver": ("failed", "install a driver that supports this GPU; the GPU itself was not tried"),
    "gpu_reset": ("failed", "reset the GPU: its driver refuses to work with it until then"),
    "sxid": ("failed", "reset all GPUs and NVSwitches together, or reboot: an NVSwitch had a fatal error"),
    "sxid_nonfatal": ("degraded", "watch it: the driver calls this NVSwitch error non-fatal"),
    "nic": ("failed", "reboot the node: the network adapter or its firmware stopped; replace the node if it comes back"),
    "nic_recovered": ("degraded", "watch it: the network adapter complained or was restarted by its driver"),
    "hung_task": ("degraded", "look for what the task waits on (disk, network file system, driver); reboot if it does not end"),
    "kernel_bug": ("failed", "reboot the node and keep the trace (journalctl -k -b -1)"),
}
FATAL_XID = "the action is NVIDIA's for that XID; replace the node and report it to Azure if the XID comes back"
BEGINNING = "the beginning of the %s is lost, and with it what XIDs it had"
WHOLE_AGAIN = "reboot, so that the log starts anew; where it gets lost again, make journald keep more (SystemMaxUse, Storage=persistent)"


def findings(events):
    """Return ``[{"rule", "status", "count", "last", "remedy"}]``, one for each rule and one for XIDs, in that order.

    A rule that found nothing is in the list with count 0, so that its check leaves a reason too. The one for XIDs has
    ``xids`` (``{number: {place: count}}``) and ``words`` as well: the fatal ones where there are any, else all.
    """
    found = [_finding(rule, MEANING[rule][0], texts, MEANING[rule][1]) for rule, texts in events["rules"].items()]
    fatal = xids.fatal(events["xids"])
    told = fatal or events["xids"]
    finding = _finding("xid", "failed" if fatal else "degraded", [xid["text"] for xid in told], FATAL_XID if fatal else xids.remedy(told))
    places = {}
    for xid in told:
        at = places.setdefault(xid["number"], {})
        at[xid["place"]] = at.get(xid["place"], 0) + 1
    counted = {number: dict(sorted(at.items())) for number, at in sorted(places.items())}
    return found + [dict(finding, xids=counted, words=xids.in_words(told))]


def _finding(rule, status, texts, remedy):
    last = " ".join(texts[-1].split())[:200] if texts else None
    return {"rule": rule, "status": status if texts else "healthy", "count": len(texts), "last": last, "remedy": remedy}


def check_kernel_log(evidence, expect):
    """One reason for whether the log could be read, one for each kind of bad news."""
    seen = evidence["kernel_log"]
    events = seen["events"]
    if events is None:
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
    lost = None if seen["complete"] else seen.get("lost") or BEGINNING % seen["source"]
    note = "; shared with other machines, so degraded at worst" if shared else ""
    text = "%d lines of the %s, %s%s" % (events["lines_count"], seen["source"], lost or "since boot", note)
    found = [reason("kernel_log", "healthy", text, "readable")]
    if expect.get("gpu_count") and lost:
        found = [reason("kernel_log", "incomplete", lost, "the whole log since boot", WHOLE_AGAIN)]
    for item in findings(events):
        check = "kernel_log.%s" % item["rule"]
        if item["count"] == 0:
            found.append(reason(check, "healthy", "none in %d lines" % events["lines_count"], "none"))
            continue
        status = "degraded" if shared else item["status"]
        text = "%d, the last: %s" % (item["count"], item["last"])
        if item.get("words"):
            text = "%s; the last: %s" % (item["words"], item["last"])
        found.append(reason(check, status, text, "none", item["remedy"]))
    return found
