"""Reads the log of Azure NHC, and accounts for every check that was expected of it.

Written against Azure/azurehpc-health-checks (May 2026, on LBNL NHC 1.4.3): ``run-health-checks.sh``, ``customTests/*.nhc``
and NHC's own ``nhc``. What follows from their source:

- The exit code proves nothing: a check that dies in a background subshell (``check_ib_bw_gdr``) or a size without a conf
  exits 0. With ``-a`` a check goes on after it died, so the same check leaves ERROR and SUCCESS. ERROR decides.
- Azure's checks print SUCCESS where they pass and nothing where they skip themselves (no kernel log, no NVLink); NHC's own
  (``check_hw_*``) print nothing on success, but with ``-v`` NHC names each check before it runs it.
- Nothing at all is no pass: such a check is ``incomplete``.
"""

from __future__ import annotations

import re

from ..core.fact import reason

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
# Functions in whose name a check speaks.
ALIAS = {
    "check_ecc": "check_gpu_ecc",
    "check_SDBE_ecc": "check_gpu_ecc",
    "collect_ecc_data": "check_gpu_ecc",
    "check_nvBW_gpu_bw": "check_gpu_bw",
    "check_nvlink_enabled": "check_gpu_bw",
    "collect_nccl_allreduce_data": "check_nccl_allreduce",
    "check_all_reduce_dependencies": "check_nccl_allreduce",
    "run_ib_bw_gdr": "check_ib_bw_gdr",
}
# Checks that a conf lists once for each port or interface: their last argument tells them apart.
KEYED = ("check_hw_ib", "check_hw_eth")

STAMP = r"^(?:\[\d+\] - )?"
VERDICT = re.compile(
    STAMP + r"(ERROR|WARNING|SUCCESS):\s+\S+:\s+"
    r"(?:Health check failed|Nearing a failure threshold|Health check passed):\s+(.*)$"
)
RUNNING = re.compile(STAMP + r'Running check:\s+"(.*?)"(?: \(forked PID \d+\))?\s*$')
OTHER = re.compile(STAMP + r"(?:DEBUG|ERROR|WARNING|SUCCESS|Running|Node Health|NHC |Health checks|Warning|log)")
COMPLETED = re.compile(r"Health checks completed with exit code:\s*(-?\d+)")
WATCHDOG = re.compile(r"NHC watchdog timer \d+ \((\d+) secs\) has expired")
UNSUPPORTED = re.compile(r"The vm SKU '([^']*)' is currently not supported")
COUNT = re.compile(r"ERROR:\s+\S+:\s+(\d+) health checks failed")
FAULT = re.compile(r"FaultCode:\s*(NHC\w+)", re.IGNORECASE)
THROTTLED = re.compile(r"Warning: GPU (\d+) throttled, reason=(\S+)")
BLIND_THROTTLE = re.compile(r"Warning GPU throttle check test failed to run")
FUNCTION = re.compile(r"\b(?:check|collect|run)_\w+")
HOST = re.compile(r"^\s*PHYSICAL HOST NAME:\s*(\S+)\s*$", re.MULTILINE)

NUMBER = r"(\d+(?:\.\d+)?)"
METRICS = (
    ("nccl_allreduce_gbps", re.compile(r"nccl_all_red:\s*" + NUMBER + r"\s*GB/s")),
    ("ib_write_gbit_s", re.compile(r"ib_write_lb_([\w.]+):\s*" + NUMBER + r"\s*Gbps")),
    ("h2d_gbps", re.compile(r"H2D_GPU_(\d+):\s*" + NUMBER + r"\s*GB/s")),
    ("d2h_gbps", re.compile(r"D2H_GPU_(\d+):\s*" + NUMBER + r"\s*GB/s")),
    ("p2p_gbps", re.compile(r"P2P_GPU_(\d+)_(\d+):\s*" + NUMBER + r"\s*GB/s")),
)
# A bandwidth near its limit is only in the warning's text.
NEAR = re.compile(r"(H2D|D2H|P2P) test on GPU (\d+)(?: to GPU (\d+))? has a bandwidth of " + NUMBER)

RUN_AGAIN = "look at the NHC log named in context.nhc, then run node_health again"


def name_of(command):
    """Return the check's name and, for :data:`KEYED`, its port or interface: ``check_hw_ib mlx5_ib0:1``."""
    words = command.split()
    if not words:
        return ""
    return "%s %s" % (words[0], words[-1]) if words[0] in KEYED and len(words) > 1 else words[0]


def conf_checks(text):
    """Return the check commands of an NHC conf (``<hostmask> || <check>``), comments left out."""
    found = []
    for line in text.splitlines():
        mask, separator, command = line.partition("||")
        if separator and not mask.strip().startswith("#") and command.strip():
            found.append(command.strip())
    return found


def _speaker(text, current):
    """Return the check a message is about: the one it names, else the one that was running."""
    found = FUNCTION.search(text)
    name = ALIAS.get(found.group(), found.group()) if found else None
    running = name_of(current) if current else None
    if running and (name is None or running.split()[0] == name):
        return running
    if name in KEYED:
        port = re.search(r"(?:port|device)\s+(\S+)", text, re.IGNORECASE)
        return "%s %s" % (name, port.group(1)) if port else name
    return name or running or "unknown check"


def parse(text):
    """Parse a log of ``run-health-checks.sh -a -v``.

    Returns ``ran`` (names of the checks that ran to their end), ``cut`` (the one that was running when the log ended),
    ``said`` (``{"kind", "check", "text", "fault"}`` for each ERROR, WARNING, SUCCESS), ``metrics`` (GB/s and, for
    ``ib_write_gbit_s``, Gbit/s; by device, GPU or GPU pair), ``exit_code``, ``failed_count``, ``timed_out_s``,
    ``unsupported`` (the size that NHC does not know), ``blind`` (checks that said that they could not look) and
    ``physical_host``.
    """
    ran, said, metrics, blind = [], [], {}, []
    current = exit_code = failed_count = timed_out = unsupported = None
    last_error = None
    for raw in text.splitlines():
        line = raw.rstrip()
        running = RUNNING.match(line)
        verdict = VERDICT.match(line)
        if last_error is not None and line[:1].isspace() and not (running or verdict or OTHER.match(line.strip())):
            # die() was given several lines, such as one for each inactive NVLink; the fault code ends the last one.
            last_error["text"] += " " + " ".join(line.split())
            last_error["fault"] = last_error["fault"] or _fault(line)
            continue
        last_error = None
        if running:
            if current is not None:
                ran.append(name_of(current))
            current = running.group(1)
            continue
        if verdict:
            kind, message = verdict.group(1).lower(), " ".join(verdict.group(2).split())
            entry = {
                "kind": kind,
                "check": _speaker(message, current),
                "text": re.sub(r"^-e ", "", message),
                "fault": _fault(message),
            }
            said.append(entry)
            last_error = entry if kind == "error" else None
            near = NEAR.search(message)
            if near:
                _keep_near(metrics, near)
            continue
        for key, pattern in METRICS:
            match = pattern.search(line)
            if match:
                _keep(metrics, key, match.groups())
        throttled = THROTTLED.search(line)
        if throttled:
            note = "GPU %s throttled, reason %s" % throttled.groups()
            said.append({"kind": "warning", "check": "check_gpu_clock_throttling", "text": note, "fault": None})
        if BLIND_THROTTLE.search(line):
            blind.append("check_gpu_clock_throttling")
        counted, completed = COUNT.search(line), COMPLETED.search(line)
        expired, unknown = WATCHDOG.search(line), UNSUPPORTED.search(line)
        if counted:
            failed_count = int(counted.group(1))
        if expired:
            timed_out = int(expired.group(1))
        if unknown:
            unsupported = unknown.group(1)
        if counted or completed or "Node Health Check completed successfully" in line:
            exit_code = int(completed.group(1)) if completed else exit_code
            # A check that the watchdog ended did not run to its end, though a last line follows.
            if current is not None and timed_out is None:
                ran.append(name_of(current))
                current = None
    host = HOST.search(text)
    return {
        "ran": ran,
        "cut": name_of(current) if current else None,
        "said": said,
        "metrics": metrics,
        "exit_code": exit_code,
        "failed_count": failed_count,
        "timed_out_s": timed_out,
        "unsupported": unsupported,
        "blind": blind,
        "physical_host": host.group(1) if host and host.group(1).lower() != "none" else None,
    }


def _fault(text):
    found = FAULT.search(text)
    return found.group(1).upper() if found else None


def _keep(metrics, key, groups):
    """Store one metric: a single number, or by device, GPU or pair ``0-1``."""
    if len(groups) == 1:
        metrics[key] = float(groups[0])
    else:
        metrics.setdefault(key, {})["-".join(groups[:-1])] = float(groups[-1])


def _keep_near(metrics, near):
    kind, first, second, value = near.groups()
    _keep(metrics, kind.lower() + "_gbps", [first, second, value] if second else [first, value])


def judge(parsed, expect):
    """Return the reasons: one for the run, one for each check that did not pass, one for each kind that did, one a metric.

    ``expect`` holds the SKU's ``nhc_checks`` (commands as in the conf), ``gpu_count``, ``ib_ports`` and the
    ``nhc_*_min`` limits; see ``health_expect``.
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
    real = [item for item in errors if item["fault"] != "NHCNA"]
    if real:
        remedy = "report the node to Azure with the fault code" if any(item["fault"] for item in real) else RUN_AGAIN
        return reason(check, "failed", about + _texts(real), "no ERROR line", remedy)
    if errors:
        text = about + "NHC could not check it (NHCNA, a setup error): " + _texts(errors)
        return reason(check, "incomplete", text, "the check runs", "repair NHC's setup on the node, then run again")
    if name == parsed["cut"] or name not in parsed["ran"]:
        why = "started and did not end" if name == parsed["cut"] else "expected, and no line says that it ran"
        return reason(check, "incomplete", about + why, "it runs to its end", RUN_AGAIN)
    if name in parsed["blind"]:
        return reason(check, "incomplete", about + "NHC says that it could not look", "the check runs", RUN_AGAIN)
    successes, needed = sum(item["kind"] == "success" for item in mine), _needed(name, expect)
    if successes < needed:
        text = "%s%d of %d SUCCESS lines: NHC skipped what it could not see" % (about, successes, needed)
        return reason(check, "incomplete", text, "%d SUCCESS lines" % needed, RUN_AGAIN)
    warnings = [item for item in mine if item["kind"] == "warning"]
    if warnings:
        return reason(check, "degraded", about + _texts(warnings), "no WARNING line", "watch it: it is near NHC's limit")
    return reason(check, "healthy", about + "passed", "NHC's own")


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
    if parsed["unsupported"]:
        text = "NHC does not know the size %r, and exits 0 for it" % parsed["unsupported"]
        return reason("nhc", "incomplete", text, threshold, "give node_health_nhc_conf, or correct sku_name")
    if parsed["timed_out_s"] is not None:
        text += "; ended by its own timeout of %d s" % parsed["timed_out_s"]
        return reason("nhc", "incomplete", text, threshold, "raise node_health_nhc_timeout_s")
    if not parsed["ran"] and not errors:
        return reason("nhc", "incomplete", "no check left a line", threshold, RUN_AGAIN)
    if parsed["exit_code"] is None:
        return reason("nhc", "incomplete", text + ": its last line is missing", threshold, RUN_AGAIN)
    if parsed["exit_code"] != 0 and not errors:
        return reason("nhc", "incomplete", text + ": nothing explains the exit code", threshold, RUN_AGAIN)
    if errors and parsed["exit_code"] == 0:
        text += ": the exit code hides the ERROR lines, which decide"
    # This says that there is a whole run to judge; the verdicts are those of the checks that follow.
    return reason("nhc", "healthy", text, threshold)


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
