"""What a layout would ask of this node's GPUs: the served model's sizes, what stands against arithmetic, and whether it fits."""

from __future__ import annotations

from ..model import config as served_model
from .checks import check_memory
from .command import checked_layout
from .options import CACHE, SPEED, STEP, TOKEN, WEIGHTS, effective

# Numbers of 8 bits and of 32 have kernels of their own, with costs of their own.
KV_OF_16_BITS = ("auto", "half", "float16", "bfloat16")
NO_CUSTOM = "--disable-custom-all-reduce"


def asked(layout, model, gpus, dtype="auto", max_model_len=None, extra_args=(), env=None):
    """Return what the prediction of ``layout`` needs (``coverage`` in controller/report/prediction), and ``fit``, a reason.

    ``gpus`` are this node's (``gpu_memory.read``), None where the driver does not answer. Nothing is started. Raises ValueError for a
    layout that cannot be meant.
    """
    layout = checked_layout(layout)
    env = {**(env or {}), **(layout.get("env") or {})}
    options = effective(layout, dtype, max_model_len, extra_args, env)
    against = [options.why_not(WEIGHTS, TOKEN, CACHE, STEP, SPEED)]
    if options.kv_dtype not in KV_OF_16_BITS:
        against.append("a KV cache in %s: the costs are of 16 bits" % options.kv_dtype)
    config = served_model.config_of(model)
    known = served_model.context(model, options.dtype, options.kv_dtype, options.why_not(WEIGHTS, CACHE, TOKEN))
    against.append(known.get("model_bytes_unknown") if config else "no config.json in %s on this node: the model is not there yet" % model)
    found, _numbers = check_memory(gpus or [], config, layout, dtype, max_model_len, extra_args, None, env)
    return {
        "layout": layout["name"],
        "tp": options.tp,
        "pp": options.pp,
        "nodes": layout["nodes"],
        "executor": layout.get("executor") or "",
        "layers": known.get("model_layers"),
        "hidden_size": known.get("model_hidden_size"),
        "dtype": known.get("model_dtype"),
        "weight_bytes": known.get("read_per_token_bytes"),
        "kv_bytes_per_token": known.get("kv_bytes_per_token"),
        "custom_all_reduce": not _without_custom([*extra_args, *(layout.get("extra_args") or ())]),
        "gpu": gpu_name(gpus),
        "against": list(dict.fromkeys(text for text in against if text)),
        "fit": found[0],
    }


def gpu_name(gpus):
    """Return the name of a node's GPUs, ``""`` where it has none, None where nobody said, or where they are of several models."""
    names = {gpu["name"] for gpu in gpus or ()}
    return None if gpus is None or len(names) > 1 else names.pop() if names else ""


def _without_custom(words):
    return any(str(word).replace("_", "-") == NO_CUSTOM for word in words)
