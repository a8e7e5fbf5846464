"""The kernel log of a node: what its events mean for it."""

from __future__ import annotations

from ...core.fact import reason

# XIDs after which the GPU must be reset or the node replaced. Azure NHC's list (azurehpc-health-checks, check_gpu_xid)
# and the three that it lacks: 94 contained and 95 uncontained memory error, 140 unrecovered ECC error
# (NVIDIA, "XID Errors"). Others, such as 13, 31, 43 and 45, are mostly an application's own fault.
FATAL_XIDS = frozenset([48, 56, 57, 58, 62, 63, 64, 65, 68, 69, 73, 74, 79, 80, 81, 92, 119, 120] + [94, 95, 140])

# Rule of kernel_events: (status of a finding, remedy).
MEANING = {
    "oom": ("degraded", "find what took the memory (journalctl -k) and stop it, or use a node with more"),
    "io_error": ("failed", "replace the node: its disk does not answer as it should"),
    "filesystem": ("failed", "check the file system (fsck) after a reboot; replace the node if it comes back"),
    "mce": ("failed", "replace the node: the processor or its memory reported a hardware error"),
    "mce_corrected": ("degraded", "watch it: corrected hardware errors often come before uncorrected ones"),
    "hung_task": ("degraded", "look for what the task waits on (disk, network file system, driver); reboot if it does not end"),
    "kernel_bug": ("failed", "reboot the node and keep the trace (journalctl -k -b -1)"),
}
FATAL_XID = "reset the GPU or reboot; replace the node and report it to Azure if the XID comes back"
OTHER_XID = "look whether the application on that GPU crashed at that time"


def findings(events):
    """Return ``[{"rule", "status", "count", "last", "remedy"}]``, one for each rule and one for XIDs, in that order.

    A rule that found nothing is in the list with count 0, so that its check leaves a reason too. The one for XIDs has
    ``xids`` as well: ``{number: {place: count}}``, the fatal ones where there are any, else the others.
    """
    found = [_finding(rule, MEANING[rule][0], texts, MEANING[rule][1]) for rule, texts in events["rules"].items()]
    fatal = [xid for xid in events["xids"] if xid["number"] in FATAL_XIDS]
    told = fatal or events["xids"]
    finding = _finding("xid", "failed" if fatal else "degraded", [xid["text"] for xid in told], FATAL_XID if fatal else OTHER_XID)
    places = {}
    for xid in told:
        at = places.setdefault(xid["number"], {})
        at[xid["place"]] = at.get(xid["place"], 0) + 1
    return found + [dict(finding, xids={number: dict(sorted(at.items())) for number, at in sorted(places.items())})]


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
    since = "since boot" if seen["complete"] else "its beginning is lost"
    note = "; shared with other machines, so degraded at worst" if shared else ""
    found = [
        reason(
            "kernel_log",
            "healthy",
            "%d lines of the %s, %s%s" % (events["lines_count"], seen["source"], since, note),
            "readable",
        )
    ]
    if expect.get("gpu_count") and not seen["complete"]:
        text = "the beginning of the %s is lost, and with it what XIDs it had" % seen["source"]
        found = [reason("kernel_log", "incomplete", text, "the whole log since boot", "read it by journald, or reboot")]
    for item in findings(events):
        check = "kernel_log.%s" % item["rule"]
        if item["count"] == 0:
            found.append(reason(check, "healthy", "none in %d lines" % events["lines_count"], "none"))
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
