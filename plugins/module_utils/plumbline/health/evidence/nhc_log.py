"""The log of Azure NHC, parsed once: what ran, what each check said, and the numbers.

Written against Azure/azurehpc-health-checks (May 2026, on LBNL NHC 1.4.3): ``run-health-checks.sh``, ``customTests/*.nhc``
and NHC's own ``nhc``. What follows from their source:

- The exit code proves nothing: a check that dies in a background subshell (``check_ib_bw_gdr``) or a size without a conf
  exits 0. With ``-a`` a check goes on after it died, so the same check leaves ERROR and SUCCESS. ERROR decides.
- Azure's checks print SUCCESS where they pass and nothing where they skip themselves (no kernel log, no NVLink); NHC's own
  (``check_hw_*``) print nothing on success, but with ``-v`` NHC names each check before it runs it.
"""

from __future__ import annotations

import re

from .nhc_conf import KEYED, name_of

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
NO_FAULT = "NHCNA"  # said where a check could not be set up: nothing about the node
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


def fault_codes(text):
    """Return Azure's fault codes in a text, in order, such as ``NHC2007`` or :data:`NO_FAULT`."""
    return [code.upper() for code in FAULT.findall(text)]


def _fault(text):
    return next(iter(fault_codes(text)), None)


def _keep(metrics, key, groups):
    """Store one metric: a single number, or by device, GPU or pair ``0-1``."""
    if len(groups) == 1:
        metrics[key] = float(groups[0])
    else:
        metrics.setdefault(key, {})["-".join(groups[:-1])] = float(groups[-1])


def _keep_near(metrics, near):
    kind, first, second, value = near.groups()
    _keep(metrics, kind.lower() + "_gbps", [first, second, value] if second else [first, value])
