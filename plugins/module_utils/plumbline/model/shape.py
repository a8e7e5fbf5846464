"""The sizes of a decoder model, read from its Hugging Face ``config.json``, for models whose arithmetic is known here.

Known: Llama, Mistral, Qwen2 and Qwen3, dense, full attention, not quantized. Anything else is refused by name: a number that is nearly
right would be believed. Which tensors these models have is read from vLLM (``vllm/model_executor/models/{llama,qwen2,qwen3}.py``).
"""

from __future__ import annotations

from typing import NamedTuple

ARCHITECTURES = ("LlamaForCausalLM", "MistralForCausalLM", "Qwen2ForCausalLM", "Qwen3ForCausalLM")

DTYPE_BYTES = {"half": 2, "float16": 2, "bfloat16": 2, "float": 4, "float32": 4}
# vLLM's names of 8-bit caches (vllm/config/cache.py); scales are a few numbers a layer.
KV_DTYPE_BYTES = dict(DTYPE_BYTES, fp8=1, fp8_e4m3=1, fp8_e5m2=1)


class UnknownModel(ValueError):
    """The model's arithmetic is not known here; the text says which key or architecture stands against it."""


class ImpossibleLayout(ValueError):
    """The model cannot be split this way; the text says which number does not divide."""


class Shape(NamedTuple):
    """Sizes of a decoder: counts, and whether a kind of tensor exists."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    tied: bool
    qkv_bias: bool
    o_bias: bool
    mlp_bias: bool
    qk_norm: bool


def _count(config, key):
    value = config.get(key)
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise UnknownModel("config.json: %s is %r, not a positive number" % (key, value))
    return value


def _refuse_what_changes_the_arithmetic(config):
    names = config.get("architectures") or []
    if len(names) != 1 or names[0] not in ARCHITECTURES:
        raise UnknownModel("config.json: architectures is %r; known are %s" % (names, ", ".join(ARCHITECTURES)))
    if config.get("quantization_config"):
        raise UnknownModel("config.json: quantization_config is set: weights of mixed sizes")
    kinds = set(config.get("layer_types") or []) - {"full_attention"}
    if kinds:
        raise UnknownModel("config.json: layer_types has %s: their cache does not grow with each token" % ", ".join(sorted(kinds)))
    # Qwen2 writes a window that it does not use; Mistral's is used when it is there.
    if config.get("use_sliding_window", config.get("sliding_window") is not None):
        raise UnknownModel("config.json: sliding_window is %r: its cache does not grow with each token" % config.get("sliding_window"))


def shape(config):
    """Return the ``Shape`` of ``config``, a dict as in ``config.json``; raise ``UnknownModel``."""
    _refuse_what_changes_the_arithmetic(config)
    name = config["architectures"][0]
    hidden, heads = _count(config, "hidden_size"), _count(config, "num_attention_heads")
    # Llama before grouped queries had no such key: each head its own keys and values.
    kv_heads = heads if name == "LlamaForCausalLM" and "num_key_value_heads" not in config else _count(config, "num_key_value_heads")
    # vLLM's Qwen2 divides whatever head_dim says.
    if name != "Qwen2ForCausalLM" and config.get("head_dim") is not None:
        head_dim = _count(config, "head_dim")
    elif hidden % heads:
        raise UnknownModel("config.json: hidden_size %d is no multiple of num_attention_heads %d" % (hidden, heads))
    else:
        head_dim = hidden // heads
    attention_bias = bool(config.get("attention_bias"))
    return Shape(
        layers=_count(config, "num_hidden_layers"),
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        intermediate=_count(config, "intermediate_size"),
        vocab=_count(config, "vocab_size"),
        tied=bool(config.get("tie_word_embeddings")),
        qkv_bias=name == "Qwen2ForCausalLM" or attention_bias,
        o_bias=name in ("LlamaForCausalLM", "MistralForCausalLM") and attention_bias,
        mlp_bias=name in ("LlamaForCausalLM", "MistralForCausalLM") and bool(config.get("mlp_bias")),
        qk_norm=name == "Qwen3ForCausalLM",
    )


def element_bytes(config, dtype="auto"):
    """Return the bytes of one weight served as ``dtype``; raise ``UnknownModel``.

    ``auto`` is the type in ``config.json``, and 16 bits where that is float32 (``_resolve_auto_dtype``, vllm/config/model.py).
    """
    if dtype == "auto":
        stored = str(config.get("dtype") or config.get("torch_dtype")).replace("torch.", "")
        if stored not in DTYPE_BYTES:
            raise UnknownModel("config.json: torch_dtype is %s; known are %s" % (stored, ", ".join(sorted(DTYPE_BYTES))))
        return 2
    if dtype not in DTYPE_BYTES:
        raise UnknownModel("dtype %s; known are auto, %s" % (dtype, ", ".join(sorted(DTYPE_BYTES))))
    return DTYPE_BYTES[dtype]


def kv_element_bytes(config, kv_dtype="auto", dtype="auto"):
    """Return the bytes of one number of the KV cache; ``auto`` is the type of the weights; raise ``UnknownModel``."""
    if kv_dtype == "auto":
        return element_bytes(config, dtype)
    if kv_dtype not in KV_DTYPE_BYTES:
        raise UnknownModel("kv_cache_dtype %s; known are auto, %s" % (kv_dtype, ", ".join(sorted(KV_DTYPE_BYTES))))
    return KV_DTYPE_BYTES[kv_dtype]
