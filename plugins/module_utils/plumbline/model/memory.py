"""What a model takes of each GPU's memory: weights and KV cache, from ``config.json`` and the layout (see ``docs/startup.md``)."""

from __future__ import annotations

from .shape import ImpossibleLayout, UnknownModel, element_bytes, kv_element_bytes, shape

__all__ = ["ImpossibleLayout", "UnknownModel", "check_kv", "fit", "kv_bytes_per_token", "per_rank", "pipeline_layers", "weight_bytes"]

GIB = 2**30
# Activations of the largest prefill, CUDA graphs, NCCL's and vLLM's buffers, and what the driver keeps of the card. Published for 72B FP16
# on 80 GB H100 (vLLM 0.17, nvidia-smi's 79.65 GiB): 5.0 GiB at TP4, 5.1 GiB at TP8; measured on one H200 (0.25.0): 1.9 GiB (7B), 2.4 GiB
# (32B), 1.1 GiB (72B, eager).
OVERHEAD_BYTES = 5 * GIB
# vllm/model_executor/layers/vocab_parallel_embedding.py: DEFAULT_VOCAB_PADDING_SIZE
VOCAB_PADDING = 64
# A pool is whole blocks, and a request whole blocks: far below this for blocks of 16 and contexts of 2048.
KV_TOLERANCE = 0.01
LARGEST_BLOCK = 128


def _grouped(number):
    return format(number, ",")


def _divide(number, ranks, what):
    if number % ranks:
        raise ImpossibleLayout("%s %d is no multiple of the %d ranks of tensor parallelism" % (what, number, ranks))
    return number // ranks


def _kv_heads(sizes, tp):
    """Return the KV heads of one rank: divided, or, with more ranks than heads, one that several ranks hold
    (``QKVParallelLinear``, vllm/model_executor/layers/linear.py)."""
    if sizes.kv_heads >= tp:
        return _divide(sizes.kv_heads, tp, "num_key_value_heads")
    if tp % sizes.kv_heads:
        raise ImpossibleLayout("%d ranks of tensor parallelism are no multiple of num_key_value_heads %d" % (tp, sizes.kv_heads))
    return 1


def _layer_parameters(sizes, tp):
    """Return the parameters that one rank holds of one layer: norms and the biases of summed outputs are on every rank."""
    q = _divide(sizes.heads, tp, "num_attention_heads") * sizes.head_dim
    qkv = q + 2 * _kv_heads(sizes, tp) * sizes.head_dim
    wide = _divide(sizes.intermediate, tp, "intermediate_size")
    count = sizes.hidden * (qkv + q) + 3 * sizes.hidden * wide + 2 * sizes.hidden
    count += qkv if sizes.qkv_bias else 0
    count += sizes.hidden if sizes.o_bias else 0
    count += 2 * wide + sizes.hidden if sizes.mlp_bias else 0
    count += 2 * sizes.head_dim if sizes.qk_norm else 0
    return count


def pipeline_layers(layers, pp, partition=None):
    """Return how many of ``layers`` each of ``pp`` stages holds, as vLLM splits them: the rest goes to the stages before the last,
    from behind (``get_pp_indices``, vllm/distributed/utils.py; the same in 0.17 and 0.32); raise ``ImpossibleLayout``.

    ``partition`` is what VLLM_PP_LAYER_PARTITION sets in its place; vLLM refuses one of other sums or stages.
    """
    if partition:
        if len(partition) != pp or sum(partition) != layers:
            seen = ",".join(str(part) for part in partition)
            raise ImpossibleLayout("VLLM_PP_LAYER_PARTITION=%s is not %d stages of %d layers in all" % (seen, pp, layers))
        if 0 in partition:
            raise UnknownModel("VLLM_PP_LAYER_PARTITION has a stage without layers")
        return list(partition)
    if pp > layers:
        raise ImpossibleLayout("%d stages for num_hidden_layers %d" % (pp, layers))
    stages = [layers // pp] * pp
    for index in range(2, layers % pp + 2):
        stages[-index] += 1
    return stages


def weight_bytes(config, dtype="auto"):
    """Return ``parameters``, ``total_bytes``, ``embedding_bytes`` and ``read_per_token_bytes`` of the whole model.

    Decoding one token reads every weight once but the input embedding, of which it reads a row; a tied table is read as the output layer.
    Raises ``UnknownModel``.
    """
    sizes, each = shape(config), element_bytes(config, dtype)
    table = sizes.vocab * sizes.hidden
    parameters = sizes.layers * _layer_parameters(sizes, 1) + sizes.hidden + table * (1 if sizes.tied else 2)
    return {
        "parameters": parameters,
        "total_bytes": parameters * each,
        "embedding_bytes": table * each,
        "read_per_token_bytes": (parameters - (0 if sizes.tied else table)) * each,
    }


def kv_bytes_per_token(config, kv_dtype="auto", dtype="auto"):
    """Return the bytes that one token of context takes in the KV cache, over the whole model: a key and a value of ``head_dim`` numbers
    for each KV head of each layer. Raises ``UnknownModel``."""
    sizes = shape(config)
    return 2 * sizes.layers * sizes.kv_heads * sizes.head_dim * kv_element_bytes(config, kv_dtype, dtype)


def per_rank(config, dtype="auto", tp=1, pp=1, kv_dtype="auto", partition=None):
    """Return what one rank of each stage holds: ``stages`` of ``layers``, ``weight_bytes`` and ``kv_bytes_per_token``, and the largest of
    each, ``weight_bytes`` and ``kv_bytes_per_token``. ``partition`` as in :func:`pipeline_layers`.

    The first stage has the embedding, the last the final norm and the output layer (a tied table on both), their vocabulary padded.
    Raises ``UnknownModel`` and ``ImpossibleLayout``.
    """
    sizes, each = shape(config), element_bytes(config, dtype)
    layer = _layer_parameters(sizes, tp)
    padded = -(-sizes.vocab // VOCAB_PADDING) * VOCAB_PADDING
    table = _divide(padded, tp, "the padded vocabulary") * sizes.hidden
    token = 2 * _kv_heads(sizes, tp) * sizes.head_dim * kv_element_bytes(config, kv_dtype, dtype)
    stages = []
    for index, layers in enumerate(pipeline_layers(sizes.layers, pp, partition)):
        first, last = index == 0, index == pp - 1
        tables = 1 if first and last and sizes.tied else first + last
        parameters = layers * layer + tables * table + (sizes.hidden if last else 0)
        stages.append({"layers": layers, "weight_bytes": parameters * each, "kv_bytes_per_token": layers * token})
    return {
        "weight_bytes": max(stage["weight_bytes"] for stage in stages),
        "kv_bytes_per_token": max(stage["kv_bytes_per_token"] for stage in stages),
        "stages": stages,
    }


def _room(stages, budget):
    """Return ``(tokens, stage, bytes left)`` of the stage that limits all: the cache of every stage holds the same tokens."""
    rooms = []
    for stage in stages:
        left = budget - stage["weight_bytes"]
        rooms.append((int(left // stage["kv_bytes_per_token"]), stage, left))
    return min(rooms, key=lambda room: room[0])


def fit(
    config, dtype, tp, pp, gpu_bytes, utilization, max_model_len, kv_dtype="auto", overhead_bytes=OVERHEAD_BYTES, partition=None
):  # fmt: skip
    """Return whether the model fits ``tp`` × ``pp`` GPUs of ``gpu_bytes`` (nvidia-smi's memory.total), with every number.

    ``fits``: weights, the estimated overhead and one request of ``max_model_len`` tokens are within ``utilization`` of each GPU.
    ``fits_without_overhead``: the same without the estimate; where it is False the server cannot start, whatever the estimate is worth.
    ``sentence`` says it with the numbers. Raises ``UnknownModel`` and ``ImpossibleLayout``.
    """
    ranks = per_rank(config, dtype, tp, pp, kv_dtype, partition)
    budget = gpu_bytes * utilization
    tokens, stage, left = _room(ranks["stages"], budget - overhead_bytes)
    request = max_model_len * stage["kv_bytes_per_token"]
    sentence = "weights %.2f GiB of the %.1f GiB a GPU gives (%.1f GiB x %g), %.1f GiB estimated for activations, graphs and buffers; " % (
        stage["weight_bytes"] / GIB, budget / GIB, gpu_bytes / GIB, utilization, overhead_bytes / GIB,
    )  # fmt: skip
    if left > 0:
        sentence += "%.1f GiB left for KV = %s tokens; " % (left / GIB, _grouped(tokens))
    else:
        sentence += "%.1f GiB too few, nothing left for KV; " % (-left / GIB)
    sentence += "one request of %s needs %.2f GiB" % (_grouped(max_model_len), request / GIB)
    return {
        "fits": tokens >= max_model_len,
        "fits_without_overhead": _room(ranks["stages"], budget)[0] >= max_model_len,
        "sentence": sentence,
        "weight_bytes": stage["weight_bytes"],
        "budget_bytes": int(budget),
        "overhead_bytes": int(overhead_bytes),
        "kv_cache_bytes": max(0, int(left)),
        "kv_cache_tokens": max(0, tokens),
        "kv_bytes_per_token": stage["kv_bytes_per_token"],
        "request_bytes": request,
    }


def _whole_blocks(length, block):
    """Return the part of a request's blocks that its tokens fill: tokens are counted in whole requests by 0.20, requests in whole blocks.

    Where nobody gave a ``block`` it is one of 16 to 128, by platform and attention backend. 1 where ``length`` is not known.
    """
    if not length:
        return 1
    block = block or LARGEST_BLOCK
    return length / (-(-length // block) * block)


def check_kv(measured, config, dtype="auto", tp=1, pp=1, kv_dtype="auto", partition=None, length=None, block=None):
    """Return a reason ``(check, status, seen, threshold, remedy)`` on ``kv_cache_gib`` against ``kv_cache_tokens``, or None where the log
    gave one of them not.

    vLLM prints the memory of the rank with the least and the tokens that all ranks hold: stages of unequal layers bound the quotient from
    both sides. ``length`` is that of a request and ``block`` the tokens of a block, where they are known. ``degraded`` when they disagree:
    the server keeps another cache than the layout says. Raises ``UnknownModel`` and ``ImpossibleLayout``.
    """
    gib, tokens = measured.get("kv_cache_gib"), measured.get("kv_cache_tokens")
    if not gib or not tokens:
        return None
    each = [stage["kv_bytes_per_token"] for stage in per_rank(config, dtype, tp, pp, kv_dtype, partition)["stages"]]
    # The log rounds to 0.01 GiB.
    slack = KV_TOLERANCE + 0.005 / gib
    low, high = gib * GIB / max(each) * (1 - slack) * _whole_blocks(length, block), gib * GIB / min(each) * (1 + slack)
    agrees = low <= tokens <= high
    expected = " to ".join(_grouped(number) for number in sorted({min(each), max(each)}))
    return (
        "serve.kv_arithmetic",
        "healthy" if agrees else "degraded",
        "%.2f GiB hold %s tokens: %s bytes a token of each rank" % (gib, _grouped(tokens), _grouped(round(gib * GIB / tokens))),
        "%s bytes a token of each rank at TP%d PP%d, within %.1f %%" % (expected, tp, pp, 100 * slack),
        None if agrees else "compare kv_cache_dtype, tp and pp in the server's log with the layout, and config.json with the served model",
    )
