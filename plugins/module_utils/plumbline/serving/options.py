"""The options of a vLLM server that decide what a benchmark measures, and what the server's own log says of them."""

from __future__ import annotations

import re

# With prefix caching the second request for the same prompt measures the cache: every server is started without it, and what it says
# of itself is read back. Spelled here alone.
NO_PREFIX_CACHING = "--no-enable-prefix-caching"
# "Initializing a V1 LLM engine (v0.25.0) with config: ..., enable_prefix_caching=True, ..."
PREFIX_CACHING = re.compile(r"\benable_prefix_caching=(True|False)")
# "non-default args: {'max_num_seqs': 8, ...}" of the API server, the same in 0.17 to 0.32.
ARGUMENTS = re.compile(r"non-default args: (\{.*\})")


def max_num_seqs(log):
    """Return how many requests the server works on at a time, where it was told so; None otherwise: its default varies by GPU."""
    found = ARGUMENTS.findall(log)
    limit = re.search(r"'max_num_seqs': (\d+)", found[-1]) if found else None
    return int(limit[1]) if limit else None


def prefix_caching(log):
    """Return whether the engine says that it keeps prompts' KV cache for later requests; None when it says nothing."""
    found = PREFIX_CACHING.findall(log)
    return found[-1] == "True" if found else None
