"""What a benchmark notes of the model that was served, from its config.json and the type given to the server."""

from __future__ import annotations

import json
import os

from . import memory as model_memory

# Names that vLLM's --dtype has for the same type.
DTYPES = {"half": "float16", "float": "float32"}


def config_of(model):
    """Return the model's config.json; empty when it cannot be read."""
    try:
        with open(os.path.join(model, "config.json"), encoding="utf-8") as stream:
            config = json.load(stream)
    except (OSError, ValueError):
        return {}
    return config if isinstance(config, dict) else {}


def context(model, dtype):
    """Return what findings need of the model: sizes, the type it is served in, bytes read for each token.

    ``model`` is its folder, ``dtype`` what the server was given. Where the bytes cannot be told, ``model_bytes_unknown`` says why.
    """
    config = config_of(model)
    keys = {"num_hidden_layers": "model_layers", "hidden_size": "model_hidden_size"}
    found = {name: config[key] for key, name in keys.items() if key in config}
    own = str(config.get("dtype") or config.get("torch_dtype") or "").replace("torch.", "")
    # vLLM's auto halves float32 weights (config/model.py, _resolve_auto_dtype); which 16 bits it takes is the same size.
    served = DTYPES.get(dtype, dtype) if dtype != "auto" else {"float32": "bfloat16"}.get(own, own)
    if not served:
        return found
    found["model_dtype"] = served
    try:
        if "quantization_config" in config:
            raise model_memory.UnknownModel("quantization_config in config.json")
        found["read_per_token_bytes"] = model_memory.weight_bytes(config, served)["read_per_token_bytes"]
        found["kv_bytes_per_token"] = model_memory.kv_bytes_per_token(config, served)
    except model_memory.UnknownModel as error:
        found["model_bytes_unknown"] = str(error)
    return found
