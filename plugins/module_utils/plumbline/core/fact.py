"""The fact: the one shape in which every measurement is returned.

A fact is a plain dictionary, described by ``docs/schema/fact.schema.json`` and, for what is
measured, by ``docs/schema/<kind>.schema.json``. Modules build one with :class:`Measurement`
and return ``ansible_facts={"plumbline": {kind: fact}}``; the ``plumbline`` callback keeps it.
"""

from __future__ import annotations

import math
import re
import time
from datetime import datetime, timezone

from .scrub import scrub_text

KINDS = ("health", "clocks", "gpu_baseline", "collective", "link", "model", "prediction", "startup", "benchmark")

# From best to worst. "skipped" means "does not apply here" and is no verdict: it neither
# passes nor spoils a summary. "incomplete" means "evidence is missing" and never passes.
STATUSES = ("skipped", "healthy", "degraded", "incomplete", "failed")
PASSING = ("healthy", "degraded")


def worst(statuses):
    """Return the worst of an iterable of statuses; ``skipped`` when there is none."""
    return max(statuses, key=STATUSES.index, default="skipped")


def reason(check, status, seen, threshold=None, remedy=None):
    """Return one reason: what was checked, what was seen, what was expected, what to do.

    ``check`` is a dotted name such as ``disk.free``; the others are sentences for a person,
    except ``status``, one of :data:`STATUSES`. ``seen`` loses its secrets: other programs' words stand in it, and an address that one
    of them could not read may carry its signature. The others are our own words; who puts something else there takes them out.
    """
    if status not in STATUSES:
        raise ValueError("unknown status %r, expected one of %s" % (status, ", ".join(STATUSES)))
    return {
        "check": check,
        "status": status,
        "seen": scrub_text(seen) if isinstance(seen, str) else seen,
        "threshold": threshold,
        "remedy": remedy,
    }


def kind_of(fact):
    """Return the kind that a fact's schema names, ``health`` of ``plumbline.health/1``; ``""`` for what is no fact."""
    schema = str(fact.get("schema", "")) if isinstance(fact, dict) else ""
    return schema.partition(".")[2].partition("/")[0] if schema.startswith("plumbline.") else ""


def finite(value):
    """Replace NaN and infinities, which are not JSON, by None; recurse into containers."""
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, dict):
        return {key: finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [finite(item) for item in value]
    return value


def slug(text):
    """Return ``text`` as a fact name: lower case letters, digits, ``_`` and ``.``."""
    return re.sub(r"[^a-z0-9_.]+", "_", str(text).lower()).strip("_") or "unnamed"


class Measurement:
    """Collects one measurement and turns it into a fact; the clock starts on creation.

    ``kind`` is one of :data:`KINDS`; ``name`` tells facts of one kind and node apart
    (``all_reduce.within``, ``tp2_across``).
    """

    def __init__(self, kind, name, command=None):
        if kind not in KINDS:
            raise ValueError("unknown kind %r, expected one of %s" % (kind, ", ".join(KINDS)))
        self.kind = kind
        self.name = slug(name)
        self.command = command
        self.reasons = []
        self.measured = {}
        self.context = {}
        self._started_at = datetime.now(timezone.utc)
        self._clock = time.monotonic()

    def add(self, check, status, seen, threshold=None, remedy=None):
        """Append a :func:`reason`."""
        self.reasons.append(reason(check, status, seen, threshold, remedy))

    def fact(self, status=None):
        """Return the fact. Without ``status``, the worst of the reasons decides.

        No reason at all is ``incomplete``: a measurement that left no evidence is no pass.
        """
        if status is None:
            status = worst(item["status"] for item in self.reasons) if self.reasons else "incomplete"
        return finite(
            {
                "schema": "plumbline.%s/1" % self.kind,
                "name": self.name,
                "status": status,
                "reasons": list(self.reasons),
                "measured": self.measured,
                "context": self.context,
                "started_at": self._started_at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
                "duration_s": round(time.monotonic() - self._clock, 3),
                "command": self.command,
            }
        )

    def result(self, status=None):
        """Return the fact wrapped for ``exit_json``: keys ``ansible_facts`` and ``fact``."""
        fact = self.fact(status)
        return {"ansible_facts": {"plumbline": {self.kind: fact}}, "fact": fact}


def first_reason(verdict):
    """Return the first reason that has the own status of a fact, or of anything with ``status`` and ``reasons``; None without one."""
    return next((item for item in verdict["reasons"] if item["status"] == verdict["status"]), None)


def sentence(item):
    """Return a reason as one sentence: ``disk.free: 1 GB (expected at least 5 GB)``."""
    text = "%s: %s" % (item["check"], item["seen"])
    return text + " (expected %s)" % item["threshold"] if item["threshold"] else text


def headline(verdict, otherwise=""):
    """Return the sentence that explains a status: the first reason of that status; ``otherwise`` without one."""
    item = first_reason(verdict)
    return sentence(item) if item else otherwise
