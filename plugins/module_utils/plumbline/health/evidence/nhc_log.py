"""The log of Azure NHC, parsed once: what ran, what each check said, and the numbers.

Written against Azure/azurehpc-health-checks (May 2026, on LBNL NHC 1.4.3): ``run-health-checks.sh``, ``customTests/*.nhc``
and NHC's own ``nhc``. What follows from their source:

- The exit code proves nothing: a check that dies in a background subshell (``check_ib_bw_gdr``) or a size without a conf
  exits 0. With ``-a`` a check goes on after it died, so the same check leaves ERROR and SUCCESS. ERROR decides.
- Azure's checks print SUCCESS where they pass and nothing where they skip themselves (no kernel log, no NVLink); NHC's own
  (``check_hw_*``) print nothing on success, but with ``-v`` NHC names each check before it runs it.
- ``die`` is called for NHC's own troubles as well: its timeout, a signal, a check that is not installed. With ``-a`` a check that
  bash does not find leaves only bash's own line, and the run ends with "completed successfully".
- The last line, ``Health checks completed with exit code: N.``, ends with a full stop: without it the log was cut.
- A log that is given twice is appended to. Each run begins with the VM's meta data; the last run counts.
"""

from __future__ import annotations

import re

from . import nhc_words
from .nhc_conf import KEYED, is_setting, name_of

# Functions in whose name a check speaks.
ALIAS = {
    "check_ecc": "check_gpu_ecc",
    "check_SDBE_ecc": "check_gpu_ecc",
    "collect_ecc_data": "check_gpu_ecc",
    "check_nvBW_gpu_bw": "check_gpu_bw",
    "check_rocm_gpu_bw": "check_gpu_bw",
    "check_nvlink_enabled": "check_gpu_bw",
    "collect_nccl_allreduce_data": "check_nccl_allreduce",
    "check_all_reduce_dependencies": "check_nccl_allreduce",
    "run_ib_bw_gdr": "check_ib_bw_gdr",
}

COLOURS = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")
# Checks that run side by side write to one log: where the end of a line is missing, the next one begins at its level.
GLUED = re.compile(
    r"(?<=\S)(?=(?:\[\d+\] - )?(?:(?:ERROR|WARNING|SUCCESS):\s+\S+:\s+(?:Health check|Nearing a failure)|Running check:\s+\"))"
)
# In front of a line may stand a time, a host, a container's name: the words decide, wherever they begin.
VERDICT = re.compile(
    r"\b(ERROR|WARNING|SUCCESS)(?::|\s)\s*(?:[\w.-]+:\s+)?"
    r"(?:Health check failed|Nearing a failure threshold|Health check passed):\s*(.*)$"
)
# How az-hop hands on what NHC said: host, physical host, message.
HANDED_ON = re.compile(r"\bERROR\s*: Node Health Checks failed - \S+ - \S+ - (.*)$")
RUNNING = re.compile(r'\bRunning check:\s+"(.*?)"(?: \(forked PID \d+\))?\s*$')
BEGINS = re.compile(r"VM Meta Data|Node Health Check starting")
OTHER = re.compile(r"^(?:\[\d+\] - )?(?:DEBUG|ERROR|WARNING|SUCCESS|Running|Node Health|NHC |Health checks|Warning|log)")
COMPLETED = re.compile(r"Health checks completed with exit code:\s*(-?\d+)\.")
WATCHDOG = re.compile(r"NHC watchdog timer \d+ \((\d+) secs\) has expired")
UNSUPPORTED = re.compile(r"The vm SKU '([^']*)' is currently not supported")
COUNT = re.compile(r"ERROR:\s+\S+:\s+(\d+) health checks failed")
FAULT = re.compile(r"\bNHC(?:\d{4}|NA)\b", re.IGNORECASE)
NO_FAULT = "NHCNA"  # said where a check could not be set up: nothing about the node
THROTTLED = re.compile(r"Warning: GPU (\d+) throttled, reason=(\S+)")
BLIND_THROTTLE = re.compile(r"Warning GPU throttle check test failed to run")
# Its XID check passes what stands in its log already. The XID is there all the same.
REPORTED = re.compile(r"This XID has been reported before: (\S.*)")
FUNCTION = re.compile(r"\b(?:check|collect|run)_\w+")
RETURNED = re.compile(r"^Check (.+) returned \d+$")
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
    returned = RETURNED.match(text)
    if returned:
        return name_of(returned.group(1))
    found = FUNCTION.search(text)
    name = ALIAS.get(found.group(), found.group()) if found else None
    running = name_of(current) if current else None
    if running and (name is None or running.split()[0] == name):
        return running
    if name in KEYED:
        port = re.search(r"(?:port|device)\s+(\S+)", text, re.IGNORECASE)
        return "%s %s" % (name, port.group(1)) if port else name
    return name or running or "unknown check"


class _Run:
    """What one run of NHC left, read line by line."""

    def __init__(self):
        self.ran, self.said, self.metrics = [], [], {}
        self.blind, self.broken = {}, {}
        self.current = self.exit_code = self.failed_count = self.timed_out = self.unsupported = self.stopped = self.driver = None
        self.verbose = False  # it names its checks before it runs them
        self.last_error = None

    def begun(self):
        """Tell whether anything of a run was read yet."""
        return bool(self.ran or self.said or self.current or self.unsupported or self.exit_code is not None)

    def read(self, line):
        """Read one line, without colours and without its end."""
        running, verdict = RUNNING.search(line), VERDICT.search(line)
        if self.last_error is not None and line[:1].isspace() and not (running or verdict or OTHER.match(line.strip())):
            self._go_on(line)
            return
        self.last_error = None
        handed = HANDED_ON.search(line)
        if running:
            self._start(running.group(1))
        elif verdict:
            self._say(verdict.group(1).lower(), verdict.group(2))
        elif handed:
            self._say("error", handed.group(1))
        else:
            self._note(line)

    def _start(self, command):
        self.verbose = True
        if self.current is not None:
            self.ran.append(name_of(self.current))
        self.current = None if is_setting(command) else command

    def _go_on(self, line):
        """Add a line to the last error: ``die`` was given several, such as one for each inactive NVLink, the fault code last."""
        error = self.last_error
        error["text"] += " " + " ".join(line.split())
        error["fault"] = error["fault"] or _fault(line)
        if error["check"] == "unknown check":
            error["check"] = _speaker(error["text"], self.current)

    def _say(self, kind, message):
        message = re.sub(r"^-e ", "", " ".join(message.replace("\\t", " ").split()))
        self.driver = self.driver or nhc_words.driver(message)
        stopped = nhc_words.stopped(message)
        if kind == "error" and stopped is not None:
            self.stopped = self.stopped or message
            self.current = self.current or stopped or None
            return
        entry = {"kind": kind, "check": _speaker(message, self.current), "text": message, "fault": _fault(message), "about": None}
        if kind == "success" and nhc_words.passed_without_number(message):
            self.blind.setdefault(entry["check"], "it passed without a number: %s" % message)
            return
        self.said.append(entry)
        self.last_error = entry if kind == "error" else None
        near = NEAR.search(message)
        if near:
            _keep_near(self.metrics, near)

    def _note(self, line):
        """Read a line that is no verdict of a check."""
        for key, pattern in METRICS:
            match = pattern.search(line)
            if match:
                _keep(self.metrics, key, match.groups())
        self.driver = self.driver or nhc_words.driver(line)
        self._note_check(line)
        expired, unknown, counted = WATCHDOG.search(line), UNSUPPORTED.search(line), COUNT.search(line)
        if expired:
            self.timed_out = int(expired.group(1))
        if unknown:
            self.unsupported = unknown.group(1) or "unknown"
        if counted:
            self.failed_count = int(counted.group(1))
        completed = COMPLETED.search(line)
        if counted or completed or "Node Health Check completed successfully" in line:
            self.exit_code = int(completed.group(1)) if completed else self.exit_code
            # A check that was ended with NHC did not run to its end, though a last line follows.
            if self.current is not None and self.timed_out is None and self.stopped is None:
                self.ran.append(name_of(self.current))
                self.current = None

    def _note_check(self, line):
        """Read what a check, or bash for it, says beside its verdict."""
        throttled, reported = THROTTLED.search(line), REPORTED.search(line)
        if throttled:
            note = "GPU %s throttled, reason %s" % throttled.groups()
            self.said.append({"kind": "warning", "check": "check_gpu_clock_throttling", "text": note, "fault": None, "about": None})
        if reported:
            note = "NHC passed an XID that its log had already: %s" % reported.group(1)
            self.said.append({"kind": "error", "check": "check_gpu_xid", "text": note, "fault": "NHC2001", "about": None})
        if BLIND_THROTTLE.search(line):
            self.blind["check_gpu_clock_throttling"] = "NHC says that it could not look"
        lacking = nhc_words.lacking(line)
        if lacking and self.current is not None:
            self.broken.setdefault(name_of(self.current), lacking)

    def result(self, runs, host):
        """Return what :func:`parse` returns."""
        for entry in self.said:
            if entry["kind"] == "error":
                entry["about"] = nhc_words.about(entry, self.broken.get(entry["check"]), self.driver)
        if not self.verbose:
            self.ran += [entry["check"] for entry in self.said if entry["kind"] == "success" and entry["check"] not in self.ran]
        return {
            "ran": list(dict.fromkeys(self.ran)),
            "cut": name_of(self.current) if self.current else None,
            "said": self.said,
            "metrics": self.metrics,
            "exit_code": self.exit_code,
            "failed_count": self.failed_count,
            "timed_out_s": self.timed_out,
            "stopped": self.stopped,
            "unsupported": self.unsupported,
            "blind": self.blind,
            "broken": self.broken,
            "driver": self.driver,
            "runs": runs,
            "physical_host": host,
        }


def parse(text):
    """Parse a log of ``run-health-checks.sh -a -v``; of several runs in it, the last one.

    Returns ``ran`` (names of the checks that ran to their end), ``cut`` (the one that was running when the log ended),
    ``said`` (``{"kind", "check", "text", "fault", "about"}`` for each ERROR, WARNING, SUCCESS; ``about`` says of an ERROR that it is
    none about the node: ``evidence.nhc_words.about``), ``metrics`` (GB/s and, for ``ib_write_gbit_s``, Gbit/s; by device, GPU or GPU
    pair), ``exit_code``, ``failed_count``, ``timed_out_s``, ``stopped`` (NHC's own words when it was ended), ``unsupported`` (the size
    that NHC does not know), ``blind`` (checks that said that they could not look, with why), ``broken`` (checks that lacked a command,
    with what bash said), ``driver`` (a line that says that the driver is not there), ``runs`` and ``physical_host``.
    """
    run, runs, host = _Run(), 0, None
    for raw in GLUED.sub("\n", COLOURS.sub("", text)).splitlines():
        line = raw.rstrip()
        if BEGINS.search(line) and run.begun():
            run, runs = _Run(), runs + 1
        named = HOST.match(line)
        if named:
            host = named.group(1) if named.group(1).lower() != "none" else None
        run.read(line)
    return run.result(runs + 1 if run.begun() else runs, host)


def fault_codes(text):
    """Return Azure's fault codes in a text, in order, such as ``NHC2007`` or :data:`NO_FAULT`.

    The label in front of a code is misspelt in places (``FauleCode``) and missing in others; the code itself never is.
    """
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
