"""Which wire carried a serving result: the server's own log, and the head's port counters around the benchmark."""

from __future__ import annotations

import urllib.parse

from ..core.counters import difference
from ..fabric import transport
from ..machine import net
from ..model.shape import DTYPE_BYTES


def interface_of(url):
    """Return the interface of this node that carries a URL's host, None when that is not known."""
    host = urllib.parse.urlsplit(url).hostname
    try:
        return net.interface_of(net.resolve(host)[1][0]) if host else None
    except OSError:
        return None


def least_bytes(context, runs):
    """Return the bytes that the head sends to the other nodes at least: one message of activations for each output token.

    A pipeline sends that much, tensor parallelism over nodes far more. 0 where the model's sizes are not known.
    """
    hidden, width = context.get("model_hidden_size"), DTYPE_BYTES.get(str(context.get("model_dtype")).replace("torch.", ""))
    tokens = sum(run.get("total_output_tokens") or 0 for run in runs)
    return int(tokens * hidden * width) if hidden and width else 0


class Watch:
    """Reads the counters at its creation, and everything else in :meth:`attach`."""

    def __init__(self, url):
        self.interface = interface_of(url)
        self.before = transport.snapshot(self.interface)

    def attach(self, measurement, log_path, nodes, ranks, expected, runs):
        """Put ``context.transport`` into a benchmark's fact; over several nodes, judge it where one is ``expected``."""
        counters = difference(self.before, transport.snapshot(self.interface))
        try:
            with open(log_path, encoding="utf-8", errors="replace") as stream:
                found = transport.parse(stream.read())
        except OSError:
            found = transport.parse("")
        wanted = {"across": expected} if expected and nodes > 1 else {}
        measurement.context["transport"] = transport.summary(found, counters, wanted)
        if not wanted or not runs:
            return
        transport.judge(measurement, found, wanted, nodes, ranks, check="benchmark.transport")
        sent = least_bytes(measurement.context, runs)
        transport.judge_counters(measurement, counters, self.interface, sent, expected, check="benchmark.transport_counters")
