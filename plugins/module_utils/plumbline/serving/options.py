"""What a vLLM server's own log says about how it was started, as far as it decides what a benchmark measures."""

from __future__ import annotations

import re

# "non-default args: {'max_num_seqs': 8, ...}" of the API server, the same in 0.17 to 0.32.
ARGUMENTS = re.compile(r"non-default args: (\{.*\})")
# "Initializing a V1 LLM engine (v0.25.0) with config: ..., enable_prefix_caching=True, ..."
PREFIX_CACHING = re.compile(r"enable_prefix_caching=(True|False)")


def max_num_seqs(log):
    """Return how many requests the server works on at a time, where it was told so; None otherwise: its default varies by GPU."""
    found = ARGUMENTS.findall(log)
    limit = re.search(r"'max_num_seqs': (\d+)", found[-1]) if found else None
    return int(limit[1]) if limit else None


def prefix_caching(log):
    """Return whether the engine says that it keeps prompts' KV cache for later requests; None when it says nothing."""
    found = PREFIX_CACHING.findall(log)
    return found[-1] == "True" if found else None
