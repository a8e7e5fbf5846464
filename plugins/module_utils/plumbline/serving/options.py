"""The options of a vLLM server that decide what it holds, reads and measures: as they were given, and as its own log tells them.

A layout's options come from several places: the role's variables, ``vllm_serve_extra_args``, the layout's ``extra_args``, its environment.
:func:`effective` alone puts them together, as vLLM's parser does (``FlexibleArgumentParser``, vllm/utils/argparse_utils.py, 0.32): the last
one wins, underscores are dashes, ``--name=value``, ``--name.key value``, ``-tp 2``, and beginnings of a name. An option under which the
arithmetic does not hold, or that cannot be read here, is named, so that whoever counts can abstain and say why.
"""

from __future__ import annotations

import re
from typing import NamedTuple

# With prefix caching the second request for the same prompt measures the cache: every server is started without it, and what it says
# of itself is read back. Spelled here alone.
NO_PREFIX_CACHING = "--no-enable-prefix-caching"
# "Initializing a V1 LLM engine (v0.25.0) with config: ..., enable_prefix_caching=True, ..."
PREFIX_CACHING = re.compile(r"\benable_prefix_caching=(True|False)")
# "non-default args: {'max_num_seqs': 8, ...}" of the API server, the same in 0.17 to 0.32.
ARGUMENTS = re.compile(r"non-default args: (\{.*\})")
ENGINE = re.compile(r"LLM engine \(v[^)\n]*\) with config: (.*)")
LAYER_PARTITION = "VLLM_PP_LAYER_PARTITION"

# What an option may stand against: the weights' bytes (and so all else), the fit of a GPU, the bytes of the cache, the cost of a token,
# that a step of the model gives one token, and that a layer takes the time that it takes with CUDA graphs and compiled code.
WEIGHTS, FIT, CACHE, TOKEN, STEP, SPEED = SCOPES = ("weights", "fit", "cache", "token", "step", "speed")
# Another model, or weights of another size: a step still gives one token, and sends what it sent.
MODEL = (WEIGHTS, FIT, CACHE, TOKEN)
_SPLIT = (FIT, CACHE, TOKEN)
_DRAFTER = ((*_SPLIT, STEP), ("",), "a drafter has weights and a cache of its own, and one step may give several tokens")
# Names without dashes -> (what it stands against, values with which it does not, why).
CHANGES = {
    "config": (SCOPES, (), "more options in a file"),
    "model": (MODEL, (), "another model"),
    "hf-config-path": (MODEL, (), "another config.json"),
    "hf-overrides": (MODEL, ("", "{}"), "config.json is changed"),
    "model-class-overrides": (MODEL, ("", "{}"), "another model"),
    "config-format": (MODEL, ("auto", "hf"), "another config than config.json"),
    "model-impl": (MODEL, ("auto", "vllm"), "another model's code"),
    "runner": (MODEL, ("auto", "generate"), "no decoder is served"),
    "convert": (MODEL, ("auto", "none"), "no decoder is served"),
    "task": (MODEL, ("auto", "generate"), "no decoder is served"),
    "quantization": (MODEL, ("",), "weights of another size"),
    "quantization-config": (MODEL, ("", "{}"), "weights of another size"),
    "quantization-param-path": (MODEL, ("",), "a cache of another size"),
    "load-format": (
        MODEL,
        ("auto", "safetensors", "pt", "dummy", "npcache", "mistral", "fastsafetensors", "runai_streamer", "runai_streamer_sharded",
         "sharded_state", "instanttensor", "modelexpress"),
        "weights may be of another size",
    ),
    "model-loader-extra-config": (MODEL, ("", "{}"), "weights may be of another size"),
    "diffusion-config": (SCOPES, ("",), "tokens are made in another way"),
    "engram-config": (MODEL, ("",), "weights beside those in config.json"),
    "cpu-offload-gb": ((FIT, TOKEN), (0,), "a part of the weights lies in the host's memory"),
    "offload-group-size": ((FIT, TOKEN), (0,), "a part of the weights lies in the host's memory"),
    "enable-lora": ((FIT, TOKEN), (), "adapters have weights of their own"),
    "kv-cache-memory-bytes": ((FIT,), ("",), "the cache is given in bytes, not by a share of the GPU"),
    "num-gpu-blocks-override": ((FIT, CACHE), ("",), "the cache is given in blocks"),
    "kv-cache-dtype-skip-layers": ((FIT, CACHE), (), "layers have caches of different types"),
    "decode-context-parallel-size": (_SPLIT, (1,), "ranks share a request's cache"),
    "prefill-context-parallel-size": (_SPLIT, (1,), "ranks share a request's cache"),
    "data-parallel-size": (_SPLIT, (1,), "there are several engines"),
    "enforce-eager": ((SPEED,), (), "no CUDA graphs"),
    "compilation-config": ((SPEED,), ("", "{}"), "other graphs or other compiled code"),
    "optimization-level": ((SPEED,), ("", 2, 3), "other graphs or other compiled code"),
    "speculative-config": _DRAFTER,
    "speculative-model": _DRAFTER,
    "num-speculative-tokens": _DRAFTER,
    "spec-method": _DRAFTER,
    "spec-model": _DRAFTER,
    "spec-tokens": _DRAFTER,
}  # fmt: skip
# Read as a value. Those whose value cannot be read stand against what they decide.
VALUES = {
    "dtype": MODEL,
    "kv-cache-dtype": _SPLIT,
    "tensor-parallel-size": MODEL,
    "pipeline-parallel-size": MODEL,
    "gpu-memory-utilization": (FIT,),
    "device-memory-utilization": (FIT,),
    "max-model-len": (FIT,),
    "block-size": (FIT, CACHE),
}
SHORT = {
    "-q": "quantization", "-tp": "tensor-parallel-size", "-pp": "pipeline-parallel-size", "-dp": "data-parallel-size",
    "-dcp": "decode-context-parallel-size", "-pcp": "prefill-context-parallel-size", "-sc": "speculative-config",
    "-dc": "diffusion-config", "-cc": "compilation-config", "-O": "optimization-level",
}  # fmt: skip
FLAGS = ("enable-lora", "enforce-eager")
ALIASES = {"device-memory-utilization": "gpu-memory-utilization"}
# What vLLM's parser takes for no value at all.
NONE = ("none", "null")


class Effective(NamedTuple):
    """What a server of one layout was given, defaults of the role included; a value that was not given, or cannot be read, is None.

    ``partition`` are the layers of each stage where the environment sets them; ``against`` are ``(scope, sentence)`` pairs.
    """

    dtype: str
    kv_dtype: str
    tp: int
    pp: int
    utilization: float | None
    max_model_len: int | None
    block_size: int | None
    partition: tuple | None
    against: tuple

    def why_not(self, *scopes):
        """Return why there is no arithmetic of these ``scopes``, ``""`` where nothing stands against it."""
        return "; ".join(dict.fromkeys(sentence for scope, sentence in self.against if scope in scopes))


def max_num_seqs(log):
    """Return how many requests the server works on at a time, where it was told so; None otherwise: its default varies by GPU."""
    found = ARGUMENTS.findall(log)
    limit = re.search(r"'max_num_seqs': (\d+)", found[-1]) if found else None
    return int(limit[1]) or None if limit else None


def prefix_caching(log):
    """Return whether the engine says that it keeps prompts' KV cache for later requests; None when it says nothing."""
    found = PREFIX_CACHING.findall(log)
    return found[-1] == "True" if found else None


def told_against(log, keys=("quantization", "speculative_config")):
    """Return what the engine's own configuration in its log says against the arithmetic of 16-bit weights and single tokens, or ``""``.

    A second look: how a model is quantized, or that it has a drafter, may be said in places that nobody has read.
    """
    lines = ENGINE.findall(log)
    config = lines[-1] if lines else ""
    found = []
    for key in keys:
        value = re.search(r"\b%s=([\w-]+)" % key, config)
        if value and value[1] != "None":
            found.append("the server's log says %s=%s" % (key, value[1]))
    return "; ".join(found)


def effective(layout, dtype="auto", max_model_len=None, extra_args=(), env=None):
    """Return the :class:`Effective` options of ``layout`` under the role's ``dtype``, ``max_model_len``, ``extra_args`` and ``env``.

    The layout's own ``extra_args`` come after the role's, as on the command line.
    """
    words, given, against = [], {}, []
    for part in (extra_args, layout.get("extra_args")):
        if isinstance(part, (list, tuple)):
            words += [str(word) for word in part]
        elif part:
            against += [(scope, "extra_args that are no list") for scope in SCOPES]
    for name, word, value in _options(words):
        if name is None:
            against += [(scope, "%s cannot be read" % word) for scope in SCOPES]
        else:
            given[ALIASES.get(name, name)] = (word, value)
    for name, (word, value) in given.items():
        if name in CHANGES:
            against += _changes(name, word, value)
    read = _Reader(given, against)
    tp = read.whole("tensor-parallel-size", layout.get("tp"))
    pp = read.whole("pipeline-parallel-size", layout.get("pp"))
    return Effective(
        dtype=read.text("dtype", str(dtype or "auto")),
        kv_dtype=read.text("kv-cache-dtype", "auto"),
        tp=tp,
        pp=pp,
        utilization=read.share("gpu-memory-utilization"),
        max_model_len=read.whole("max-model-len", max_model_len),
        block_size=read.whole("block-size", None),
        partition=_partition(env, against),
        against=tuple(against),
    )


def _options(words):
    """Yield ``(name, word, value)`` of each option that decides something here; name None where it cannot be told which one it is.

    The value is None for a flag that is off, and for an option that has none.
    """
    for place, word in enumerate(words):
        if not word.startswith("-") or re.match(r"-\d|--?$", word):
            continue
        key, equals, value = word.partition("=")
        if re.search(r"\s", key):
            yield None, repr(word), None
            continue
        key, dot, _rest = key.partition(".")
        if not equals:
            after = words[place + 1] if place + 1 < len(words) else None
            value = after if after is not None and not re.match(r"-(?!\d)", after) else None
        name, attached = _name(key)
        if name == "":
            continue
        shown = word.partition("=")[0]
        if name is not None and attached is not None:
            value = attached
        if name in FLAGS:
            value = None if key.startswith("--no-") else "on"
        # A single key of an option that is JSON changes it, whatever its value is.
        yield name, shown, "{...}" if dot and name is not None else value


def _name(key):
    """Return ``(name, attached value or None)``: the name of an option that counts here, ``""`` for any other, None for more than one."""
    if not key.startswith("--"):
        if key in SHORT:
            return SHORT[key], None
        if key[:2] in ("-q", "-O"):  # argparse takes what is attached to a single letter for its value
            return SHORT[key[:2]], key[2:]
        return _only({SHORT[short] for short in SHORT if short.startswith(key)}), None
    key = key[2:].replace("_", "-")
    known = [*CHANGES, *VALUES]
    if key.startswith("no-") and key[3:]:
        return _only([flag for flag in FLAGS if flag.startswith(key[3:])]), None
    if key in known:
        return key, None
    return _only([name for name in known if name.startswith(key)]), None


def _only(names):
    """Return the one of ``names``, ``""`` where there is none and None where there are several: vLLM refuses those."""
    names = list(names)
    return None if len(names) > 1 else names[0] if names else ""


def _changes(name, word, value):
    """Return what an option of :data:`CHANGES` stands against, empty where its value changes nothing."""
    scopes, harmless, why = CHANGES[name]
    if name in FLAGS and value is None:
        return []
    plain = (value or "").strip().lower()
    if value is not None and (
        plain in harmless or ("" in harmless and plain in NONE) or _number(plain) in [h for h in harmless if h != ""]
    ):
        return []
    # A value may hold a path or a secret: only a plain word is repeated.
    shown = " " + value if value and re.fullmatch(r"[\w.:-]{1,40}", value) and name not in FLAGS else ""
    return [(scope, "%s%s: %s" % (word, shown, why)) for scope in scopes]


def _number(text):
    """Return ``text`` as a finite float, None where it is none."""
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if abs(value) < 1e18 else None


class _Reader:
    """Takes values out of what was given; one that cannot be read is put into ``against``."""

    def __init__(self, given, against):
        self.given = given
        self.against = against

    def _refuse(self, name, value, why):
        word = self.given[name][0] if name in self.given else name
        shown = value if value is not None and re.fullmatch(r"[\w.:+-]{1,40}", value) else "this value" if value else "no value"
        self.against += [(scope, "%s %s: %s" % (word, shown, why)) for scope in VALUES[name]]

    def text(self, name, default):
        """Return a word in small letters."""
        if name not in self.given:
            return default
        value = self.given[name][1]
        if not value:
            self._refuse(name, value, "no type")
            return default
        return value.strip().lower()

    def whole(self, name, default):
        """Return a whole number of at least 1; ``default`` may be one in text."""
        value = self.given[name][1] if name in self.given else None if default is None else str(default)
        if name not in self.given and value is None:
            return None
        found = int(value) if value is not None and re.fullmatch(r"\s*\+?[0-9]{1,15}\s*", value) else 0
        if found < 1:
            why = "vLLM takes what fits, or a suffix; give a whole number" if name == "max-model-len" else "no whole number above 0"
            self._refuse(name, value, why)
            return None
        return found

    def share(self, name):
        """Return a share of a GPU, above 0 and at most 1."""
        if name not in self.given:
            return None
        value = self.given[name][1]
        found = _number(value)
        if found is None or not 0 < found <= 1:
            self._refuse(name, value, "no share of a GPU, above 0 and at most 1")
            return None
        return found


def _partition(env, against):
    """Return the layers of each stage as ``VLLM_PP_LAYER_PARTITION`` sets them, None where it is not set or cannot be read."""
    value = env.get(LAYER_PARTITION) if isinstance(env, dict) else None
    if value is None or value == "":
        return None
    parts = str(value).split(",")
    if not all(re.fullmatch(r"\s*[0-9]{1,6}\s*", part) for part in parts):
        against += [(scope, "%s=%s: no numbers of layers" % (LAYER_PARTITION, value)) for scope in (FIT, CACHE)]
        return None
    return tuple(int(part) for part in parts)
