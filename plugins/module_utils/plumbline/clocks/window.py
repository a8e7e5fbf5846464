"""GPU clocks around and during a measurement: samples before, every ``interval_s`` seconds while it runs, and after.

    with Window(expected_mhz=1980) as window:
        measure()
    window.attach(measurement)

It only reads. Without a GPU nothing is started and the context says ``skipped: no GPU``. What it saw is judged by
``clocks.judge``. What is short is sampled faster than each second, by one ``nvidia-smi -lms`` that runs beside it; where that
gives no sample in time, by single calls each second. It sees the GPUs of this node and no other: in a layout over several
nodes, those of the head.
"""

from __future__ import annotations

import contextlib
import socket
import threading
import time

from ..core.fact import reason, worst
from ..machine import gpu_choice, nvidia
from . import judge as clocks_judge
from . import query as clocks_query
from . import record as clocks_record

INTERVAL_S = 1.0
# For what lasts seconds only, such as a collective. NVML tells utilisation over 1/6 s to 1 s, so faster shows nothing more.
SHORT_INTERVAL_S = 0.2
FIRST_ANSWER_S = 5.0  # of the loop; then it is given up
# Kept at most; when they are that many, every second one is dropped and the interval doubles.
MAX_SAMPLES = 600
# nvidia-smi reports utilisation over up to the last second (NVML: 1 s to 1/6 s): wait that long for a quiet GPU.
QUIET_S = 2.0
# A sample takes some 30 ms a GPU; one that takes longer than this is an error and not a sample.
TIMEOUT_S = 20


def argument(interval_s=INTERVAL_S):
    """Return the argument that modules take for it; each documents it under ``clock_window``.

    It is made anew for each module, since Ansible fills defaults into the very dictionary that it is given.
    """
    return {
        "type": "dict",
        "default": {},
        "options": {
            "expected_mhz": {"type": "int", "default": 0},
            "interval_s": {"type": "float", "default": interval_s},
            "nodes": {"type": "int", "default": 1},
            "nvidia_smi": {"type": "path"},
            "gpus": {"type": "raw", "default": []},
            "state_dir": {"type": "path", "default": clocks_record.STATE_DIR},
        },
    }


class Window:
    """A context manager; see the module's text. Never raises because of a GPU, and never swallows an exception."""

    def __init__(self, expected_mhz=0, interval_s=INTERVAL_S, nodes=1, nvidia_smi=None, state_dir=None, full_load=False):
        # A load that takes a healthy GPU to its power limit: that the limit holds clocks down is told then, and no fault.
        self.full_load = full_load
        self.interval_s = max(0.05, interval_s or INTERVAL_S)
        self.nodes = nodes or 1
        self.present = nvidia.is_present(nvidia.presence(nvidia_smi))
        self.reader = clocks_query.Reader(nvidia.find_tool(nvidia_smi), TIMEOUT_S) if self.present else None
        self.state_dir = state_dir or clocks_record.STATE_DIR
        self.expected_mhz, self.expected_from = expected_mhz or None, "argument" if expected_mhz else None
        self.record_problems = None
        self.before, self.samples, self.after = [], [], []
        self.errors, self.error = 0, None
        self.reasons = []
        self.duration_s = None
        self._stop = threading.Event()
        self._thread = None
        self._loop = None

    def __enter__(self):
        if self.present:
            self.before = self._quiet()
            self._expect()
            self._thread = threading.Thread(target=self._watch, daemon=True)
        self._started = time.monotonic()
        if self._thread:
            self._thread.start()
        return self

    def __exit__(self, kind, error, trace):
        self.duration_s = time.monotonic() - self._started
        if self._thread:
            self._stop.set()
            self._end_loop()
            self._thread.join(TIMEOUT_S + 5)
            self.after = self._quiet()
            self.reasons = clocks_judge.judge(self)
            if self.nodes > 1:
                text = "the GPUs of %d other node(s) were not watched, only those of %s" % (self.nodes - 1, self.node)
                self.reasons.append(reason("clocks.other_nodes", "skipped", text))
        return False

    @property
    def node(self):
        """Name of the node whose GPUs are watched."""
        return socket.gethostname()

    def _read(self, counters):
        """Return the GPUs now; an empty list, and a note, where the driver does not answer."""
        try:
            return self.reader.read(counters)
        except nvidia.NvidiaError as error:
            self.errors += 1
            self.error = str(error)
            return []

    def _quiet(self):
        """Return the GPUs with counters, once none reports work any more; after :data:`QUIET_S` as they are."""
        deadline = time.monotonic() + QUIET_S
        while True:
            gpus = self._read(True)
            if not any(gpu["utilisation_percent"] for gpu in gpus) or time.monotonic() >= deadline:
                return gpus
            time.sleep(0.25)

    def _expect(self):
        """Take the target from the record of our lock where none was given, and look at what became of the record."""
        record = clocks_record.read(self.state_dir)
        problems = clocks_record.problems(record, self.before)
        if self.expected_mhz is None and clocks_record.is_ours(record) and isinstance(record.get("mhz"), int):
            self.expected_mhz, self.expected_from = record["mhz"], "record"
        if self.expected_mhz is not None:
            if record is not None and record.get("mhz") != self.expected_mhz:
                problems.append("the record says %s MHz" % record.get("mhz"))
            self.record_problems = problems

    def _watch(self):
        """Take samples until the window closes."""
        if self.interval_s < INTERVAL_S and self.before and not self._follow():
            self.interval_s = INTERVAL_S
        interval = self.interval_s
        while not self._stop.wait(interval):
            began = time.monotonic()
            gpus = self._read(False)
            if gpus:
                self._keep(gpus)
            interval = max(0.02, self.interval_s - (time.monotonic() - began))

    def _follow(self):
        """Take samples from one process that prints them; return whether the window closed meanwhile."""
        try:
            loop = self._loop = self.reader.follow(self.interval_s)
        except nvidia.NvidiaError:
            return False
        if self._stop.is_set():  # the window closed before it could end this one
            loop.end()
        patience = threading.Timer(FIRST_ANSWER_S, loop.end)
        patience.daemon = True
        patience.start()
        kept_at = None
        for text in loop.texts(len(self.before)):
            patience.cancel()
            now = time.monotonic()
            if self._stop.is_set() or (kept_at is not None and now - kept_at < 0.75 * self.interval_s):
                continue
            kept_at = now
            try:
                self._keep(clocks_query.parse_gpus(text))
            except nvidia.NvidiaError as error:
                self.errors += 1
                self.error = str(error)
        patience.cancel()
        loop.end()
        return self._stop.is_set()

    def _end_loop(self):
        """End the process that prints samples, where there is one."""
        if self._loop is not None:
            self._loop.end()

    def _keep(self, gpus):
        """Keep a sample; when there are too many, drop every second one and take fewer."""
        self.samples.append(gpus)
        if len(self.samples) >= MAX_SAMPLES:
            del self.samples[1::2]
            self.interval_s *= 2

    def attach(self, measurement):
        """Put what was seen into a ``fact.Measurement``; a window that never opened leaves nothing."""
        if self.present and self.duration_s is None:
            return
        measurement.context["clocks"] = self.context()
        measurement.reasons += self.reasons

    def context(self):
        """Return what the fact carries as ``context.clocks``; its shape is in the schemas of the facts."""
        if not self.present:
            return {"status": "skipped", "seen": "no GPU"}
        return {
            "status": worst(item["status"] for item in self.reasons),
            "node": self.node,
            "nodes": self.nodes,
            "expected_mhz": self.expected_mhz,
            "expected_from": self.expected_from,
            "window_s": round(self.duration_s, 3),
            "interval_s": round(self.interval_s, 3),
            "samples": len(self.samples),
            "errors": self.errors,
            "missing_fields": self.reader.missing,
            "gpus": clocks_judge.numbers(self),
        }


def watch(argument, nodes=None, full_load=False):
    """Return a :class:`Window` for a module's ``clock_window`` argument; ``nodes`` overrides the one in it."""
    given = {key: value for key, value in (argument or {}).items() if value is not None}
    if nodes is not None:
        given["nodes"] = nodes
    gpus = given.pop("gpus", [])
    if gpus:
        # What cannot be found now does not answer the window's reader either, and is told by it.
        with contextlib.suppress(gpu_choice.WrongChoice, nvidia.NvidiaError):
            gpu_choice.look_only_at(gpus, given.get("nvidia_smi"))
    return Window(full_load=full_load, **given)
