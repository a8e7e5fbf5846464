"""For what a token is predicted: the model of ``token`` holds for what it was fitted on, and of anything else nothing is said.

What is asked is a dictionary, made from variables before serving and from facts afterwards: the layout (``tp``, ``pp``, ``nodes``,
``executor``), the served model (``layers``, ``hidden_size``, ``dtype``, ``weight_bytes`` read for a token, ``kv_bytes_per_token``), the
request (``concurrency``, ``input_len``, ``output_len``), ``async_scheduling`` where its server has said so, ``gpu`` (its name, "" for
none, None where nobody said) and ``against``, a list of sentences. Standard library only.
"""

from __future__ import annotations

from ..format import digits
from ..records.reading import num, whole
from . import constants
from .rates import covered
from .token import Token

# What weights, cache and messages may be of: the captures are of these two.
DTYPES = ("float16", "bfloat16", "half")
ELEMENT_BYTES = 2
NO_GPU = "no GPU"
NEEDED = (
    ("layers", "the number of layers (config.json)"),
    ("hidden_size", "the hidden size (config.json)"),
    ("weight_bytes", "the bytes of weights that a token reads"),
    ("kv_bytes_per_token", "the bytes of a token in the KV cache"),
    ("tp", "tp"), ("pp", "pp"), ("nodes", "nodes"),
)  # fmt: skip


def token_of(asked):
    """Return ``(Token, [])`` of what is asked, or ``(None, [why nothing is predicted])``."""
    against = _machine(asked) or list(asked.get("against") or ()) + _served(asked)
    if against:
        return None, list(dict.fromkeys(against))
    context = asked["input_len"] + asked["output_len"] / 2
    return Token(
        layers=asked["layers"],
        message_bytes=asked["hidden_size"] * ELEMENT_BYTES,
        weight_bytes=asked["weight_bytes"],
        kv_bytes=asked["kv_bytes_per_token"] * context,
        tp=asked["tp"],
        pp=asked["pp"],
        nodes=asked["nodes"],
        executor=asked.get("executor") or "",
        async_scheduling=asked.get("async_scheduling"),
    ), []


def _machine(asked):
    gpu = asked.get("gpu")
    if gpu == "":
        return ["%s: the model is of GPUs, whose memory bounds a token" % NO_GPU]
    if not isinstance(gpu, str):
        return ["which GPU it is was not said"]
    if not covered(gpu):
        return ["%s: what a layer costs is known of %s only" % (gpu, " and ".join(constants.COVERED_GPUS) + " (SXM)")]
    return []


def _served(asked):
    found = ["not known: %s" % words for key, words in NEEDED if (whole(asked.get(key)) or 0) <= 0]
    dtype = str(asked.get("dtype") or "").replace("torch.", "")
    if dtype not in DTYPES:
        found.append("weights in %s: the costs are of 16-bit weights" % (dtype or "a type that nobody said"))
    concurrency = whole(asked.get("concurrency"))
    if concurrency != 1:
        seen = "%s requests at a time" % digits(concurrency) if concurrency else "how many requests at a time is not known"
        found.append("%s: the costs are of one" % seen)
    if min(num(asked.get(key)) or 0 for key in ("input_len", "output_len")) <= 0:
        found.append("not known: the tokens of a request")
    tp, pp, nodes = (whole(asked.get(key)) for key in ("tp", "pp", "nodes"))
    if tp and pp and nodes and tp * pp % nodes:
        found.append("tp %d × pp %d do not divide over %d nodes" % (tp, pp, nodes))
    return found
