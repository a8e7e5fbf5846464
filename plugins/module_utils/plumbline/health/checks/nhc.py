"""Azure NHC's own verdicts, each expected check accounted for, and its numbers against the SKU's limits.

ERROR beats SUCCESS and the exit code (``evidence.nhc_log`` says why). Nothing at all is no pass: such a check is ``incomplete``.
So is one whose ERROR is about NHC itself, such as its timeout or a command that is not installed (``evidence.nhc_words``).
"""

from __future__ import annotations

import os

from ...core.fact import reason
from ..evidence import nhc_words
from ..evidence.nhc_conf import name_of

# Azure's checks that print SUCCESS whenever they really ran to their end. The others leave no word on success.
SAYS_PASS = (
    "check_hw_topology",
    "check_nvme_count",
    "check_gpu_count",
    "check_nvsmi_healthmon",
    "check_gpu_xid",
    "check_gpu_bw",
    "check_gpu_ecc",
    "check_nccl_allreduce",
    "check_nvlink_status",
    "check_ib_bw_gdr",
    "check_ib_link_flapping",
)
# Exit codes of NHC's own traps, and of a shell whose child was killed.
ENDED_BY_SIGNAL = {129: "SIGHUP", 130: "SIGINT", 137: "SIGKILL", 142: "SIGALRM, its own timeout", 143: "SIGTERM"}
NO_RUN = "look at node_health_nhc_script, node_health_nhc_conf and node_health_nhc_log_dir"
RUN_AGAIN = "look at the NHC log named in context.nhc, then run node_health again"
REPAIR = "repair NHC's setup on the node, then run again"
INSTALL = (
    "repair NHC on the node: install Azure/azurehpc-health-checks again (its customTests belong into /etc/nhc/scripts, its tools into its "
    "container), then run node_health again"
)
LOAD_DRIVER = (
    "load the NVIDIA driver (nvidia-smi says what is wrong with it, the kernel log why it did not load); after an update of the driver "
    "reboot; then run node_health again"
)
# What an ERROR is about when it is not about the node (evidence.nhc_words): what to say of it, and what to do.
NOT_THE_NODE = {
    nhc_words.SETUP: ("NHC could not check it (NHCNA, a setup error): ", REPAIR),
    nhc_words.MISSING: ("NHC could not check it, the check or a command of it is not installed: ", INSTALL),
    nhc_words.STOPPED: ("the check was ended before it had an answer: ", "raise node_health_nhc_timeout_s, or look why it hangs"),
    nhc_words.CONF: ("NHC's conf has a mistake: ", "correct the line in NHC's conf, then run node_health again"),
    nhc_words.UNREAD: ("NHC compared without a number, or against its own number: ", INSTALL),
    nhc_words.DRIVER: ("nothing is known of the GPUs without a driver: ", LOAD_DRIVER),
}
# Findings that are mended on the node: check, words, what to do.
MENDED_ON_THE_NODE = (
    ("check_hw_swap", "SWAP size", "swapoff -a, or correct the line in NHC's conf"),
    ("check_hw_physmem", "greater than maximum", "NHC's conf is that of a smaller size: give node_health_nhc_conf"),
)
# A run that checked nothing: words of docker's or of the runner's message, and what to do.
NO_RUN_BY_WORDS = (
    ("driver not loaded", LOAD_DRIVER),
    ("could not select device driver", "repair the NVIDIA container toolkit (nvidia-ctk runtime configure, restart docker)"),
    ("unknown or invalid runtime name", "repair the NVIDIA container toolkit (nvidia-ctk runtime configure, restart docker)"),
    ("nvidia-container-cli", "repair the NVIDIA container toolkit or the driver under it"),
    ("is already in use by container", "another NHC runs, or left its container: docker ps -a, and remove aznhc where it has stopped"),
    ("Cannot connect to the Docker daemon", "start docker"),
    ("docker: command not found", "install docker"),
    ("permission denied while trying to connect to the Docker daemon", "run node_health as root"),
    ("Unable to find image", "let the node fetch mcr.microsoft.com/aznhc/aznhc-nv, or load the image into its docker"),
    ("no space left on device", "make room where docker keeps its data"),
    ("Read-only file", "look at the node's disks: a folder that NHC writes to is read-only"),
)


def check_nhc(evidence, expect):
    """Azure NHC's own verdicts, or why there are none."""
    seen = evidence["nhc"]
    if seen.get("skipped"):
        text, threshold = seen["skipped"]
        return [reason("check_mode" if seen.get("check_mode") else "nhc", "skipped", text, threshold)]
    threshold = "NHC runs its checks"
    if seen.get("missing"):
        remedy = "install Azure/azurehpc-health-checks there, set node_health_nhc_script to where it is, or set node_health_nhc: auto"
        return [reason("nhc", "incomplete", seen["missing"], threshold, remedy)]
    parsed = seen["parsed"]
    if seen["error"] and not parsed["ran"]:
        # The folder is there whenever the log has a name; the log itself is not where NHC's container did not start.
        remedy = "look into %s" % os.path.dirname(seen["log"]) if seen["log"] else NO_RUN
        known = next((known for words, known in NO_RUN_BY_WORDS if words.lower() in seen["error"].lower()), None)
        remedy = "%s; %s" % (known, remedy) if known else remedy
        return [reason("nhc", "incomplete", seen["error"], threshold, remedy)]
    # What the node's own conf asks for is owed too, where the SKU knows nothing or less.
    names = [name_of(command) for command in expect.get("nhc_checks") or []]
    more = [command for command in seen["checks"] if name_of(command) not in names]
    found = judge(parsed, dict(expect, nhc_checks=(expect.get("nhc_checks") or []) + more))
    if seen["error"]:
        found.insert(0, reason("nhc", "incomplete", seen["error"], threshold, "raise node_health_nhc_timeout_s, or look why it hangs"))
    return found


def judge(parsed, expect):
    """Return the reasons: one for the run, one for each check that did not pass, one for each kind that did, one a metric.

    ``expect`` holds the SKU's ``nhc_checks`` (commands as in the conf), ``gpu_count``, ``ib_ports`` and the
    ``nhc_*_min_gbps`` and ``ib_write_min_gbit_s`` limits; see ``expect``.
    """
    expected = [name_of(command) for command in expect.get("nhc_checks") or []]
    names = expected + [name for name in parsed["ran"] if name not in expected]
    names += [item["check"] for item in parsed["said"] if item["kind"] == "error" and item["check"] not in names]
    if parsed["cut"] and parsed["cut"] not in names:
        names.append(parsed["cut"])
    found, passed = [], {}
    for name in dict.fromkeys(names):
        item = _judge_check(name, parsed, expect)
        if item["status"] == "healthy":
            passed.setdefault(item["check"], []).append(name)
        else:
            found.append(item)
    for check, members in sorted(passed.items()):
        text = "passed" if len(members) == 1 else "%d passed: %s" % (len(members), ", ".join(m.split()[-1] for m in members))
        found.append(reason(check, "healthy", text, "NHC's own"))
    return [_judge_run(parsed, expected)] + found + _judge_metrics(parsed["metrics"], expect)


def _judge_check(name, parsed, expect):
    """Judge one check by its lines; the worst line decides, no line is ``incomplete``."""
    check = "nhc.%s" % name.split()[0]
    about = "%s: " % name.split()[1] if " " in name else ""
    mine = [item for item in parsed["said"] if item["check"] == name]
    errors = [item for item in mine if item["kind"] == "error"]
    real = [item for item in errors if item["about"] is None]
    if real:
        return reason(check, "failed", about + _texts(real), "no ERROR line", _remedy(name, real))
    unknown = _why_unknown(name, errors, parsed)
    if unknown:
        return reason(check, "incomplete", about + unknown[0], unknown[1], unknown[2])
    successes, needed = sum(item["kind"] == "success" for item in mine), _needed(name, expect)
    if successes < needed:
        text = "%s%d of %d SUCCESS lines: NHC skipped what it could not see" % (about, successes, needed)
        return reason(check, "incomplete", text, "%d SUCCESS lines" % needed, RUN_AGAIN)
    warnings = [item for item in mine if item["kind"] == "warning"]
    if warnings:
        return reason(check, "degraded", about + _texts(warnings), "no WARNING line", "watch it: it is near NHC's limit")
    return reason(check, "healthy", about + "passed", "NHC's own")


def _remedy(name, errors):
    """Return what to do about a check that found something; ``remedy`` adds the class and the physical host."""
    for check, words, what in MENDED_ON_THE_NODE:
        if name == check and any(words in item["text"] for item in errors):
            return what
    return "report the node to Azure with the fault code" if any(item["fault"] for item in errors) else RUN_AGAIN


def _why_unknown(name, errors, parsed):
    """Return ``(seen, threshold, remedy)`` of a check that did not come to an answer, or None."""
    if errors:
        said, remedy = NOT_THE_NODE[errors[0]["about"]]
        remedy = LOAD_DRIVER if parsed["driver"] and remedy == REPAIR and nhc_words.driver(_texts(errors)) else remedy
        driver = "" if errors[0]["about"] != nhc_words.DRIVER else " (%s)" % parsed["driver"]
        return said + _texts(errors) + driver, "the check runs", remedy
    if name in parsed["broken"]:
        said, remedy = NOT_THE_NODE[nhc_words.MISSING]
        return said + parsed["broken"][name], "the check runs", remedy
    if name == parsed["cut"] or name not in parsed["ran"]:
        why = "started and did not end" if name == parsed["cut"] else "expected, and no line says that it ran"
        return why, "it runs to its end", RUN_AGAIN
    if name in parsed["blind"]:
        return parsed["blind"][name], "the check runs", RUN_AGAIN
    return None


def _texts(items, most=4):
    shown = "; ".join(item["text"] for item in items[:most])
    return shown + ("; and %d more" % (len(items) - most) if len(items) > most else "")


def _needed(name, expect):
    """Return how many SUCCESS lines a check owes: one a GPU, one an IB port, or one."""
    if name not in SAYS_PASS:
        return 0
    if name == "check_nvlink_status":
        return expect.get("gpu_count") or 1
    if name == "check_ib_bw_gdr":
        return len(expect.get("ib_ports") or []) or 1
    return 1


def _judge_run(parsed, expected):
    """Judge the run as a whole: did it come to its end, and does its exit code agree with its lines?"""
    errors = sum(item["kind"] == "error" for item in parsed["said"])
    text = "%d checks ran, %d ERROR lines, exit code %s" % (len(parsed["ran"]), errors, parsed["exit_code"])
    threshold = "it runs to its end, %s" % ("%d checks expected" % len(expected) if expected else "its conf's checks")
    if parsed["runs"] > 1:
        text += "; the log holds %d runs, of which this is the last" % parsed["runs"]
    unknown = _why_no_run(parsed, errors, text)
    if unknown:
        return reason("nhc", "incomplete", unknown[0], threshold, unknown[1])
    if errors and parsed["exit_code"] == 0:
        text += ": the exit code hides the ERROR lines, which decide"
    # This says that there is a whole run to judge; the verdicts are those of the checks that follow.
    return reason("nhc", "healthy", text, threshold)


def _why_no_run(parsed, errors, text):
    """Return ``(seen, remedy)`` of a run that did not come to its end, or None; ``text`` counts its lines."""
    size, code = parsed["unsupported"], parsed["exit_code"]
    if size == "standard_":
        known = "NHC did not learn its size from the metadata service, and exits 0 for it"
        return known, "give node_health_nhc_conf, or let the node reach 169.254.169.254"
    if size:
        return "NHC does not know the size %r, and exits 0 for it" % size, "give node_health_nhc_conf, or correct sku_name"
    if parsed["timed_out_s"] is not None:
        return text + "; ended by its own timeout of %d s" % parsed["timed_out_s"], "raise node_health_nhc_timeout_s"
    if parsed["stopped"]:
        remedy = (
            "raise node_health_nhc_timeout_s" if "Terminated" not in parsed["stopped"] else "look who ended it, then run node_health again"
        )
        return "%s; NHC was ended: %s" % (text, parsed["stopped"]), remedy
    if not parsed["ran"] and not errors:
        return "no check left a line", RUN_AGAIN
    if code is None:
        return text + ": its last line is missing", RUN_AGAIN
    if code in ENDED_BY_SIGNAL:
        return "%s: NHC was ended by a signal (%s)" % (text, ENDED_BY_SIGNAL[code]), RUN_AGAIN
    if code != 0 and not errors and not parsed["broken"]:
        return text + ": nothing explains the exit code", RUN_AGAIN
    if (parsed["failed_count"] or 0) > errors:
        return text + ": it says that %d checks failed, so that lines are lost" % parsed["failed_count"], RUN_AGAIN
    return None


def _judge_metrics(metrics, expect):
    """Compare the numbers with the SKU's own limits: NHC may have run with another conf, or left a test out."""
    gpus, ports = expect.get("gpu_count") or 0, expect.get("ib_ports") or []
    each = ["%d" % index for index in range(gpus)]
    pairs = ["%s-%s" % (a, b) for a in each for b in each if a != b]
    found = []
    for key, limit_key, members, unit in (
        ("nccl_allreduce_gbps", "nhc_nccl_allreduce_min_gbps", None, "GB/s"),
        ("ib_write_gbit_s", "ib_write_min_gbit_s", ports, "Gbit/s"),
        ("h2d_gbps", "nhc_h2d_min_gbps", each, "GB/s"),
        ("d2h_gbps", "nhc_h2d_min_gbps", each, "GB/s"),
        ("p2p_gbps", "nhc_p2p_min_gbps", pairs, "GB/s"),
    ):
        limit, seen = expect.get(limit_key), metrics.get(key)
        if limit is None:
            continue
        check, threshold = "nhc.%s" % key, ">= %g %s" % (limit, unit)
        values = {"all GPUs": seen} if isinstance(seen, float) else dict(seen or {})
        absent = [member for member in (members or ["all GPUs"]) if member not in values]
        low = ["%s %g" % (member, value) for member, value in sorted(values.items()) if value < limit]
        if low:
            found.append(reason(check, "failed", "%s %s" % (", ".join(low[:8]), unit), threshold, _METRIC_REMEDY[key]))
        elif absent:
            text = "no number for %s" % ", ".join(absent[:8]) + ("…" if len(absent) > 8 else "")
            found.append(reason(check, "incomplete", text, threshold, RUN_AGAIN))
        else:
            text = "%g to %g %s (%d)" % (min(values.values()), max(values.values()), unit, len(values))
            found.append(reason(check, "healthy", text, threshold))
    return found


_METRIC_REMEDY = {
    "nccl_allreduce_gbps": "look at the NVLink checks; replace the node if they pass (fault code NHC2010)",
    "ib_write_gbit_s": "replace the node: report the IB port to Azure (fault code NHC2003)",
    "h2d_gbps": "reboot; replace the node if it stays slow (fault code NHC2020)",
    "d2h_gbps": "reboot; replace the node if it stays slow (fault code NHC2020)",
    "p2p_gbps": "look at the NVLink checks; replace the node if they pass (fault code NHC2020)",
}
