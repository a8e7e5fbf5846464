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


# More than any size of a model: larger numbers are a mistake.
LARGEST = 10**9
# Where configs of several modalities keep the language model's (vllm/transformers_utils/config.py, get_hf_text_config).
TEXT_CONFIGS = ("text_config", "llm_config", "language_config")
# Keys that say that weights are quantized, by any method (fp8, awq, gptq, bitsandbytes, compressed-tensors, mxfp4, quark, torchao).
QUANTIZED = ("quantization_config", "compression_config", "quantization", "quant_config", "load_in_4bit", "load_in_8bit", "fp8_config")
# The key under which ``config.config_of`` notes files beside config.json that say the same.
BESIDE = "files beside config.json"
# Keys that a plain decoder has not, or only with nothing in them: experts, latent or linear attention, state spaces, caches shared between
# layers, layers of their own sizes, parts for other modalities.
OTHER_SHAPES = (
    "num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts", "num_experts_per_tok", "moe_intermediate_size",
    "kv_lora_rank", "q_lora_rank", "linear_attn_config", "linear_num_value_heads", "full_attention_interval", "attn_layer_period",
    "hybrid_override_pattern", "layers_block_type", "attn_layer_indices", "mamba_d_state", "mamba_d_ssm", "mamba_num_heads", "ssm_cfg",
    "attention_chunk_size", "sliding_window_pattern", "num_kv_shared_layers", "cla_share_factor", "use_cla", "block_configs",
    "num_key_value_heads_per_layer", "num_nextn_predict_layers", "speculators_config", "is_encoder_decoder", "add_cross_attention",
    "text_config", "vision_config", "audio_config", "thinker_config",
)  # fmt: skip


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
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < LARGEST:
        raise UnknownModel("config.json: %s is %s, not a positive number" % (key, _short(value)))
    return value


def _flag(config, key):
    value = config.get(key)
    if value is not None and not isinstance(value, bool):
        raise UnknownModel("config.json: %s is %s, neither true nor false" % (key, _short(value)))
    return bool(value)


def _short(value):
    text = repr(value)
    return text if len(text) <= 80 else text[:80] + "..."


def quantized(config):
    """Return where ``config`` says that weights are quantized and how, ``""`` where it does not."""
    for part, where in ((config, ""), *((config.get(key), key + ".") for key in TEXT_CONFIGS)):
        for key in QUANTIZED if isinstance(part, dict) else ():
            value = part.get(key)
            if value is not None:
                method = value.get("quant_method") if isinstance(value, dict) else None
                how = " (%s)" % method if isinstance(method, str) else ""
                return "config.json: %s%s%s is set: weights of mixed sizes" % (where, key, how)
    beside = config.get(BESIDE)
    return "%s beside config.json: weights of mixed sizes" % ", ".join(beside) if beside else ""


def text_config(config):
    """Return the part of ``config`` that describes the language model: of several modalities' it is a part of its own."""
    if "num_hidden_layers" not in config:
        for key in TEXT_CONFIGS:
            if isinstance(config.get(key), dict):
                return config[key]
    return config


def stored_dtype(config):
    """Return the type in which the weights are stored, as vLLM looks for it (``get_torch_dtype``), ``""`` where no key names one."""
    for part in (config, *(config.get(key) for key in (*TEXT_CONFIGS, "vision_config", "encoder_config"))):
        for key in ("dtype", "torch_dtype") if isinstance(part, dict) else ():
            if isinstance(part.get(key), str) and part[key]:
                return part[key].replace("torch.", "").lower()
    return ""


def _refuse_what_changes_the_arithmetic(config):
    if not isinstance(config, dict):
        raise UnknownModel("config.json is no mapping")
    against = [text for text in (_against_architecture(config), quantized(config)) if text]
    if against:
        raise UnknownModel("; ".join(against))
    present = sorted(key for key in OTHER_SHAPES if config.get(key))
    if present:
        raise UnknownModel("config.json: %s: no plain decoder" % ", ".join("%s is %s" % (key, _short(config[key])) for key in present))
    kinds = config.get("layer_types") or []
    if not isinstance(kinds, list) or not all(isinstance(kind, str) for kind in kinds):
        raise UnknownModel("config.json: layer_types is %s, not a list of names" % _short(kinds))
    kinds = set(kinds) - {"full_attention"}
    if kinds:
        raise UnknownModel("config.json: layer_types has %s: their cache does not grow with each token" % ", ".join(sorted(kinds)))
    # Qwen2 writes a window that it does not use; Mistral's is used when it is there.
    if config.get("use_sliding_window", config.get("sliding_window") is not None):
        raise UnknownModel(
            "config.json: sliding_window is %s: its cache does not grow with each token" % _short(config.get("sliding_window"))
        )


def _against_architecture(config):
    names = config.get("architectures")
    if isinstance(names, list) and len(names) == 1 and isinstance(names[0], str) and names[0] in ARCHITECTURES:
        return ""
    return "config.json: architectures is %s; known are %s" % (_short(names), ", ".join(ARCHITECTURES))


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
    elif name == "Qwen3ForCausalLM":
        raise UnknownModel("config.json: no head_dim: transformers' default for Qwen3 is no quotient of the others")
    elif hidden % heads:
        raise UnknownModel("config.json: hidden_size %d is no multiple of num_attention_heads %d" % (hidden, heads))
    else:
        head_dim = hidden // heads
    # vLLM's Llama takes either name.
    attention_bias = _flag(config, "attention_bias") or (name == "LlamaForCausalLM" and _flag(config, "bias"))
    return Shape(
        layers=_count(config, "num_hidden_layers"),
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        intermediate=_count(config, "intermediate_size"),
        vocab=_count(config, "vocab_size"),
        tied=_flag(config, "tie_word_embeddings"),
        qkv_bias=name == "Qwen2ForCausalLM" or attention_bias,
        o_bias=name in ("LlamaForCausalLM", "MistralForCausalLM") and attention_bias,
        mlp_bias=name in ("LlamaForCausalLM", "MistralForCausalLM") and _flag(config, "mlp_bias"),
        qk_norm=name == "Qwen3ForCausalLM",
    )


def element_bytes(config, dtype="auto"):
    """Return the bytes of one weight served as ``dtype``; raise ``UnknownModel``.

    ``auto`` is the type in ``config.json``, and 16 bits where that is float32 (``_resolve_auto_dtype``, vllm/config/model.py).
    """
    if dtype == "auto":
        stored = stored_dtype(config)
        if stored not in DTYPE_BYTES:
            seen = "dtype (torch_dtype) is %s" % stored if stored else "no dtype and no torch_dtype"
            raise UnknownModel("config.json: %s; known are %s" % (seen, ", ".join(sorted(DTYPE_BYTES))))
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
