"""Reads a vLLM server's log: what the start cost, and why one failed.

The wording changed between versions (0.17 to 0.32); each pattern accepts all of them. Lines carry worker prefixes such as
``(EngineCore pid=789)`` and, under Ray, ``(RayWorkerWrapper pid=1, ip=10.0.0.5)``; numbers may carry thousands separators.
"""

from __future__ import annotations

import re

_NUMBER = r"([0-9][0-9,]*(?:\.[0-9]+)?)"

# key, pattern: the largest value of all workers is kept, since the slowest worker is what the start waited for.
_LARGEST = (
    ("load_weights_s", r"Loading weights took %s seconds" % _NUMBER),
    ("model_gib", r"Model loading took %s GiB" % _NUMBER),
    ("model_load_s", r"Model loading took [0-9.,]+ GiB(?: memory)? and %s seconds" % _NUMBER),
    ("compile_s", r"torch\.compile (?:takes|took) %s s in total" % _NUMBER),
    ("graph_capture_s", r"Graph capturing finished in %s secs" % _NUMBER),
    ("graph_capture_gib", r"Graph capturing finished in [0-9.,]+ secs, took %s GiB" % _NUMBER),
    ("engine_init_s", r"init engine \([^)]*\) took %s s" % _NUMBER),
)
# The smallest value counts here: the fullest worker limits the whole server.
_SMALLEST = (
    ("kv_cache_gib", r"Available KV cache memory: %s GiB" % _NUMBER),
    ("kv_cache_tokens", r"KV cache size: %s tokens" % _NUMBER),
    ("max_concurrency", r"Maximum concurrency for [0-9,]+ tokens per request: %sx" % _NUMBER),
)
_TEXT = (
    ("nccl_version", r"vLLM is using nccl==([0-9][0-9.]*)"),
    ("attention_backend", r"Using (\w+) (?:attention )?backend"),
    ("vllm_version", r"\(v([0-9][^)]*)\) with config"),
    ("vllm_version", r"version ([0-9]+\.[0-9]+\.[0-9]\S*)"),
)

_ANSI = re.compile(r"\x1b\[[0-9;]*m")
_PREFIX = re.compile(r"^(?:\([^()]*(?:pid|ip)=[^()]*\)\s*)+")
_LEVEL = re.compile(r"^(?:ERROR|CRITICAL|WARNING|INFO|DEBUG) \d\d-\d\d \d\d:\d\d:\d\d \[[^\]]*\]\s*")
_EXCEPTION = re.compile(r"^(?:[A-Za-z_][\w.]*\.)?([A-Z]\w*(?:Error|Exception|Exit|Interrupt|Timeout)): \S")
# What is said of a failure elsewhere: never its cause.
_ECHO = re.compile(
    r"Engine core initialization failed|See root cause above|EngineDeadError|EngineCore encountered an issue|"
    r"See stack trace \(above\)"
)
_WITHOUT_TRACEBACK = re.compile(
    r"error: (?:unrecognized arguments|argument|the following)|Address already in use|No space left on device|"
    r"Out of memory|Killed|Segmentation fault|command not found|died unexpectedly|Placement group creation timed out|"
    r"No module named|No available node types"
)


def bare(line):
    """Return ``line`` without colours, worker prefixes and the logger's level, time and source."""
    return _LEVEL.sub("", _PREFIX.sub("", _ANSI.sub("", line).strip())).strip()


def _numbers(text, pattern):
    return [float(match.replace(",", "")) for match in re.findall(pattern, text)]


def startup(text):
    """Return ``(measured, context)`` of a server's log ``text``; what the log does not say is not in them."""
    measured, context = {}, {}
    for pick, patterns in ((max, _LARGEST), (min, _SMALLEST)):
        for key, pattern in patterns:
            values = _numbers(text, pattern)
            if values:
                measured[key] = pick(values)
    if "kv_cache_tokens" in measured:
        measured["kv_cache_tokens"] = int(measured["kv_cache_tokens"])
    for key, pattern in _TEXT:
        match = re.search(pattern, text)
        if match and key not in context:
            context[key] = match.group(1)
    if "Asynchronous scheduling is" in text:
        context["async_scheduling"] = "Asynchronous scheduling is enabled" in text
    return measured, context


def root_cause(text):
    """Return the line of a failed server's log that says why, or ``""`` when it says nothing.

    The first exception of the log is the cause; the last one is an echo of it from the process that waited.
    """
    echo = ""
    for line in text.splitlines():
        said = bare(line)
        if _ECHO.search(said):
            echo = echo or said
        elif _EXCEPTION.match(said):
            return said[:500]
    for line in text.splitlines():
        said = bare(line)
        if _WITHOUT_TRACEBACK.search(said) and not _ECHO.search(said):
            return said[:500]
    return echo[:500]
