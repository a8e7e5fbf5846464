"""What a benchmark notes of the model that was served, from its config.json and the type given to the server."""

from __future__ import annotations

import json
import os

from . import memory as model_memory
from .shape import BESIDE, LARGEST, stored_dtype, text_config

# Names that vLLM's --dtype has for the same type.
DTYPES = {"half": "float16", "float": "float32"}
# Files by which a model says that it is quantized where its config.json says nothing: ModelOpt (which vLLM reads by itself), AutoGPTQ,
# llm-awq, msModelSlim.
QUANTIZED_BESIDE = ("hf_quant_config.json", "quantize_config.json", "quant_config.json", "quant_model_description.json")


def config_of(model):
    """Return the model's config.json; empty when it cannot be read.

    Files beside it that say how the weights are quantized are noted under ``shape.BESIDE``, where the arithmetic looks for them.
    """
    try:
        with open(os.path.join(model, "config.json"), encoding="utf-8") as stream:
            config = json.load(stream)
        names = os.listdir(model)
    except (OSError, ValueError, RecursionError):
        return {}
    if not isinstance(config, dict):
        return {}
    beside = sorted(name for name in names if name in QUANTIZED_BESIDE or name.lower().endswith(".gguf"))
    return dict(config, **{BESIDE: beside}) if beside else config


def sizes(config):
    """Return ``model_layers`` and ``model_hidden_size``, as far as config.json, or its part for text, has them as numbers.

    Where a layer is either attention or something else, their number is none of layers as findings count them, and is left out.
    """
    part = text_config(config)
    found = {}
    for key, name in (("num_hidden_layers", "model_layers"), ("hidden_size", "model_hidden_size")):
        value = part.get(key)
        if isinstance(value, int) and not isinstance(value, bool) and 0 < value < LARGEST:
            found[name] = value
    if part.get("hybrid_override_pattern") or part.get("ssm_cfg"):
        found.pop("model_layers", None)
    return found


def context(model, dtype, kv_dtype="auto", against=""):
    """Return what findings need of the model: sizes, the type it is served in, bytes read for each token.

    ``model`` is its folder, ``dtype`` and ``kv_dtype`` what the server was given, ``against`` what stands against the arithmetic of this
    server. Where the bytes cannot be told, ``model_bytes_unknown`` says why.
    """
    config = config_of(model)
    found = sizes(config)
    own = stored_dtype(config)
    # vLLM's auto halves float32 weights (config/model.py, _resolve_auto_dtype); which 16 bits it takes is the same size.
    served = DTYPES.get(dtype, dtype) if dtype != "auto" else {"float32": "bfloat16"}.get(own, own)
    if served:
        found["model_dtype"] = served
    if not config and not served:
        return found
    try:
        if against:
            raise model_memory.UnknownModel(against)
        read = model_memory.weight_bytes(config, served or "auto")["read_per_token_bytes"]
        cache = model_memory.kv_bytes_per_token(config, kv_dtype, served or "auto")
        found.update(read_per_token_bytes=read, kv_bytes_per_token=cache)
    except model_memory.UnknownModel as error:
        found["model_bytes_unknown"] = str(error)
    return found
