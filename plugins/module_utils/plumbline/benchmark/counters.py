"""Counters of a running vLLM server, from its ``/metrics``: whether prompts were answered from a cache, or thrown out and redone.

Names as vLLM exports them (v1/metrics/loggers.py): ``vllm:prefix_cache_queries``, ``vllm:prefix_cache_hits`` (prompt tokens) and
``vllm:num_preemptions``; the client library appends ``_total``.
"""

from __future__ import annotations

import http.client
import math
import re
import urllib.request

from ..core import counters
from ..serving import api_key

COUNTERS = {
    "prefix_cache_queries_tokens": "vllm:prefix_cache_queries_total",
    "prefix_cache_hits_tokens": "vllm:prefix_cache_hits_total",
    "preemptions": "vllm:num_preemptions_total",
}
TIMEOUT_S = 10
# One line: name, labels, value, and what a scraper may put behind it (a time stamp, an exemplar).
SAMPLE = re.compile(
    r"^(?P<name>[a-zA-Z_:][a-zA-Z0-9_:]*)(?:\{(?:[^\"}\n]|\"(?:[^\"\\\n]|\\.)*\")*\})?"
    r"[ \t]+(?P<value>\S+)(?:[ \t]+-?[0-9.]+)?(?:[ \t]+#.*)?[ \t\r]*$",
    re.MULTILINE,
)


def parse(text):
    """Return :data:`COUNTERS` by our names, summed over engines, as ints; None for one that is not in the text, or is no number there.

    Every line of the format ends in a newline: a last one without it was cut, and its number with it.
    """
    sums = {}
    wanted = set(COUNTERS.values())
    for line in text.split("\n")[:-1]:
        found = SAMPLE.match(line)
        if found and found["name"] in wanted:
            sums[found["name"]] = sums.get(found["name"], 0.0) + _value(found["value"])
    return {ours: int(sums[theirs]) if math.isfinite(sums.get(theirs, math.nan)) else None for ours, theirs in COUNTERS.items()}


def _value(text):
    """Return a sample's value, NaN for one that no counter can have."""
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if value >= 0 else math.nan


def read(url, key="", timeout_s=TIMEOUT_S):
    """Return the counters of the server at ``url``, whose API key is ``key``, now; all None where it does not answer."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy would not reach the server's address
    try:
        with opener.open(api_key.request(url.rstrip("/") + "/metrics", key), timeout=timeout_s) as answer:
            return parse(answer.read().decode("utf-8", "replace"))
    except (OSError, ValueError, http.client.HTTPException):  # the last: an answer that was cut
        return dict.fromkeys(COUNTERS)


difference = counters.difference  # of two readings: None, too, where the server was started anew
