"""Which message sizes a sweep must have: a grid, and the messages that the model really sends.

Tensor parallelism all-reduces the activations of the tokens in flight: ``hidden_size x bytes of a value`` for each
token. Decoding one request sends one token's worth at a time, the prefill of a prompt all its tokens at once.
"""

from __future__ import annotations

ELEMENT_BYTES = 4  # both tools sweep float32, so a message is a whole number of these


def whole(size_bytes, element=ELEMENT_BYTES):
    """Return ``size_bytes`` rounded up to whole elements."""
    return -(-int(size_bytes) // element) * element


def messages(hidden_size, dtype_bytes, prompt_tokens):
    """Return the model's messages ``[{"what", "size_bytes"}]``: decode (batch 1), then the prefill of each prompt.

    Without a hidden size the model is not known, and there are none.
    """
    if not hidden_size:
        return []
    if hidden_size < 0 or dtype_bytes < 1:
        raise ValueError(f"hidden_size={hidden_size} x dtype_bytes={dtype_bytes} is no message")
    found = [{"what": "decode", "size_bytes": whole(hidden_size * dtype_bytes)}]
    for tokens in prompt_tokens:
        if int(tokens) < 1:
            raise ValueError(f"a prompt of {tokens} tokens is no message")
        found.append({"what": f"prefill of {int(tokens)} tokens", "size_bytes": whole(hidden_size * dtype_bytes * int(tokens))})
    return found


def grid(least, most, factor):
    """Return the sizes that nccl-tests' ``-b least -e most -f factor`` measures."""
    if least < 1 or most < least:
        raise ValueError(f"no sizes between {least} and {most} bytes")
    if factor < 2:
        raise ValueError(f"a step factor of {factor} never ends")
    sizes, size = [], least
    while size <= most:
        sizes.append(size)
        size *= factor
    return sizes


def merged(sizes, extra):
    """Return all sizes once, in ascending order."""
    return sorted({int(size) for size in sizes} | {item["size_bytes"] for item in extra})
