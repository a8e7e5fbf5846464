"""Reads a vLLM server's log: what the start cost, and with what it runs.

The wording changed between versions; each pattern accepts those of 0.17 to 0.32 (their own format strings: ``tests/captures/vllm_log``).
Several logs may be joined (the head's and those of ``vllm serve --headless`` on the other nodes): the slowest and the fullest of all
workers count. Under Ray a worker's line may stand for several (``[repeated 3x across cluster]``), whose values Ray drops.
"""

from __future__ import annotations

import re

from .cause import bare, root_cause
from .options import PREFIX_CACHING

__all__ = ["bare", "root_cause", "startup"]

# A comma separates thousands or belongs to no number: "66,58" was not printed by vLLM, and is not read as 6658.
_NUMBER = r"((?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]+)?)"
# Whole numbers only: whatever separates their digits is a thousands separator.
_WHOLE = r"([0-9]{1,3}(?:[,.][0-9]{3})+|[0-9]+)"
# What ends a value in the line of the engine's configuration: a value that was cut has no end.
_END = r"(?=[,)}])"

# key, pattern: the largest value of all workers is kept, since the slowest worker is what the start waited for.
_LARGEST = (
    ("model_gib", r"Model loading took %s GiB" % _NUMBER),
    ("model_load_s", r"Model loading took [0-9.,]+ GiB(?: memory)? and %s seconds" % _NUMBER),
    ("compile_s", r"torch\.compile (?:takes|took|and initial profiling/warmup run together took) %s s in total" % _NUMBER),
    # The engine's own sum: with a second compiled part (an encoder) more than any single line.
    ("compile_s", r"init engine \([^)\n]*\) took [0-9.,]+ s \(compilation: %s s" % _NUMBER),
    ("graph_capture_s", r"Graph capturing finished in %s secs" % _NUMBER),
    ("graph_capture_gib", r"Graph capturing finished in [0-9.,]+ secs, took %s GiB" % _NUMBER),
    ("engine_init_s", r"init engine \([^)\n]*\) took %s s" % _NUMBER),
)
_READ = r"Loading weights took %s seconds" % _NUMBER
_MODEL = r"Model loading took [0-9.,]+ GiB(?: memory)? and %s seconds" % _NUMBER
# "(Worker_TP0 pid=301) INFO ..."; one process alone has no name before 0.10.
_PROCESS = re.compile(r"((?:\s*\([^()\n]{1,200}\))+)")
# The names that later versions print.
_BACKENDS = {
    "Flash Attention": "FLASH_ATTN", "FlashAttention": "FLASH_ATTN", "FlashInfer": "FLASHINFER", "Triton": "TRITON_ATTN",
    "Triton Attention": "TRITON_ATTN", "FlexAttention": "FLEX_ATTENTION", "FlashMLA": "FLASHMLA", "Triton MLA": "TRITON_MLA",
    "Cutlass MLA": "CUTLASS_MLA", "Tree Attention": "TREE_ATTN",
}  # fmt: skip
# The smallest value counts here: the fullest worker limits the whole server.
_SMALLEST = (
    ("kv_cache_gib", r"Available KV cache memory: %s GiB" % _NUMBER),
    ("kv_cache_gib", r"(?:Explicitly|Auto) set \(%s/[0-9.,]+\) GiB for KV cache" % _NUMBER),
    ("max_concurrency", r"Maximum concurrency for [0-9,.]+ tokens per request: %sx" % _NUMBER),
)
_TEXT = (
    ("nccl_version", r"vLLM is using nccl==([0-9]+(?:\.[0-9]+)*)[ \t]*\r?\n"),
    ("attention_backend", r"Using (\w+) attention backend out of"),
    # Chosen by the user: printed as a member of an enumeration. Other parts (MoE, vision) print other "backends".
    ("attention_backend", r"Using AttentionBackendEnum\.(\w+) backend(?! for)"),
    # To 0.11 in words.
    ("attention_backend", r"Using ([A-Z][A-Za-z]+(?: [A-Z][A-Za-z]+)?) backend on V1 engine"),
    ("vllm_version", r"LLM engine \(v([0-9][^)\s]*)\) with config"),
    ("vllm_version", r"(?:█|vLLM(?: API)? server)[ \t]+version ([0-9]+\.[0-9]+\.[0-9][^\s,]*)(?=[\s,])"),
)
# From the line with the engine's whole configuration, which every version prints.
_CONFIG = (
    ("dtype", r"(?<![\w.])dtype=torch\.(\w+)" + _END),
    ("kv_cache_dtype", r"(?<![\w.])kv_cache_dtype=(\w+)" + _END),
    ("load_format", r"(?<![\w.])load_format=(?:LoadFormat\.)?([\w-]+)" + _END),
    ("quantization", r"(?<![\w.])quantization=([\w-]+)" + _END),
)
_CONFIG_FLAGS = (
    ("enforce_eager", r"\benforce_eager=(True|False)"),
    ("prefix_caching", PREFIX_CACHING),
    ("chunked_prefill", r"\benable_chunked_prefill=(True|False)"),
)
_COMPILED = re.compile(
    r"Cache the graph of compile range|Compiling a graph for compile range|saved AOT compiled function|"
    r"Compiling model again due to a load failure|torch\.compile cache is disabled"
)
_FROM_CACHE = re.compile(r"Directly load the compiled graph\(s\)|Directly load AOT compilation from path")
_ALL_REDUCE = re.compile(r"Using \[([^\]]*)\] all-reduce backends \(in dispatch order\) for group 'tp:")


def _numbers(text, pattern):
    return [float(match.replace(",", "")) for match in re.findall(pattern, text)]


def _whole(text, pattern):
    """Return the smallest whole number of ``pattern`` in ``text``, or None."""
    found = [int(re.sub(r"[,.]", "", match)) for match in re.findall(pattern, text)]
    return min(found) if found else None


def _load_weights(text):
    """Return the seconds of reading weights of the slowest process, None where none said so.

    A process with a drafter reads twice and says so twice; that both were its own is told by its name and by the time of the whole model.
    """
    read, whole = {}, {}
    for line in text.splitlines():
        process = _PROCESS.match(line)
        name = process.group(1) if process else ""
        for found, pattern in ((read, _READ), (whole, _MODEL)):
            found.setdefault(name, []).extend(_numbers(line, pattern))
    slowest = []
    for name, values in read.items():
        if values:
            together = sum(values)
            mine = len(values) > 1 and together <= max(whole.get(name) or [0])
            slowest.append(round(together, 6) if mine else max(values))
    return max(slowest) if slowest else None


def _measured(text):
    measured = {}
    seconds = _load_weights(text)
    if seconds is not None:
        measured["load_weights_s"] = seconds
    for pick, patterns in ((max, _LARGEST), (min, _SMALLEST)):
        for key, pattern in patterns:
            values = _numbers(text, pattern)
            if values:
                measured[key] = pick(values + ([measured[key]] if key in measured else []))
    tokens = _whole(text, r"KV cache size: %s tokens" % _WHOLE)
    if tokens is not None:
        measured["kv_cache_tokens"] = tokens
    return measured


def _compile_cache_hit(text):
    """Return True when all that was compiled came from the cache, False when any worker compiled, None when none said."""
    if _COMPILED.search(text):
        return False
    return True if _FROM_CACHE.search(text) else None


def _async_scheduling(text):
    """Return True, False, or None: from 0.29 only a reason against it is printed."""
    said = re.search(r"Asynchronous scheduling is (enabled|disabled)", text)
    if said:
        return said.group(1) == "enabled"
    against = r"Async scheduling (?:will be disabled|is disabled|not supported with|is not compatible with)"
    return False if re.search(against, text) else None


def _all_reduce(text, config):
    """Return ``(backends, custom)``: how all-reduces of tensor parallelism run, in the order in which they are tried (from 0.25 on),
    and whether vLLM's own kernel is among them; None where the log does not say or nothing is reduced."""
    tried = _ALL_REDUCE.search(text)
    if tried:
        backends = re.findall(r"\w+", tried.group(1))
        return backends, any(name.endswith("CUSTOM") for name in backends)
    ranks = re.search(r"\btensor_parallel_size=(\d+)", config)
    off = re.search(r"\bdisable_custom_all_reduce=(True|False)", config)
    if not ranks or not off or int(ranks.group(1)) == 1:
        return None, None
    return None, off.group(1) == "False" and "Custom allreduce is disabled" not in text


def _context(text):
    context = {}
    for key, pattern in _TEXT:
        match = re.search(pattern, text)
        if match and key not in context:
            context[key] = _BACKENDS.get(match.group(1), match.group(1))
    line = re.search(r"LLM engine \(v[^)]*\) with config: (.*)", text)
    config = line.group(1) if line else ""
    for key, pattern in _CONFIG:
        match = re.search(pattern, config)
        if match and match.group(1) != "None":
            # 0.6 printed a member of an enumeration: LoadFormat.AUTO.
            context[key] = match.group(1).lower() if key == "load_format" else match.group(1)
    for key, pattern in _CONFIG_FLAGS:
        match = re.search(pattern, config)
        if match:
            context[key] = match.group(1) == "True"
    backends, custom = _all_reduce(text, config)
    for key, value in (
        ("max_model_len", _whole(text, r"Maximum concurrency for %s tokens per request" % _WHOLE)),
        ("async_scheduling", _async_scheduling(text)),
        ("all_reduce_backends", backends),
        ("custom_all_reduce", custom),
    ):
        if value is not None:
            context[key] = value
    context["compile_cache_hit"] = _compile_cache_hit(text)
    return context


def startup(text):
    """Return ``(measured, context)`` of a server's log ``text``; what the log does not say is not in them.

    Seconds, GiB and tokens as in ``docs/schema/startup.schema.json``. ``context["compile_cache_hit"]`` is always there, None for unknown.
    """
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    return _measured(plain), _context(plain)
