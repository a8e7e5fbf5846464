"""Counters of a running vLLM server, from its ``/metrics``: whether prompts were answered from a cache, or thrown out and redone.

Names as vLLM exports them (v1/metrics/loggers.py): ``vllm:prefix_cache_queries``, ``vllm:prefix_cache_hits`` (prompt tokens) and
``vllm:num_preemptions``; the client library appends ``_total``.
"""

from __future__ import annotations

import re
import urllib.request

from ..core import counters

COUNTERS = {
    "prefix_cache_queries_tokens": "vllm:prefix_cache_queries_total",
    "prefix_cache_hits_tokens": "vllm:prefix_cache_hits_total",
    "preemptions": "vllm:num_preemptions_total",
}
TIMEOUT_S = 10
SAMPLE = re.compile(r"^(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{.*\})?\s+(?P<value>\S+)\s*$", re.MULTILINE)


def parse(text):
    """Return :data:`COUNTERS` by our names, summed over engines, as ints; None for one that is not in the text."""
    sums = {}
    for found in SAMPLE.finditer(text):
        try:
            sums[found["name"]] = sums.get(found["name"], 0.0) + float(found["value"])
        except ValueError:
            continue
    return {ours: int(sums[theirs]) if theirs in sums else None for ours, theirs in COUNTERS.items()}


def read(url, timeout_s=TIMEOUT_S):
    """Return the counters of the server at ``url`` now; all None where it does not answer."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy would not reach the server's address
    try:
        with opener.open(url.rstrip("/") + "/metrics", timeout=timeout_s) as answer:
            return parse(answer.read().decode("utf-8", "replace"))
    except (OSError, ValueError):
        return dict.fromkeys(COUNTERS)


difference = counters.difference  # of two readings: None, too, where the server was started anew
