"""Reads one result file of ``vllm bench serve`` and refuses it unless it measured what was asked.

``vllm bench serve`` exits 0 when every request failed and then prints zeros, so the exit code proves nothing.
"""

from __future__ import annotations

METRICS = ("ttft", "tpot", "itl", "e2el")


def problems(result, num_prompts, output_len):
    """Return the sentences that say why ``result`` (a parsed file) is no measurement; empty when it is one."""
    found = []
    completed, failed = result.get("completed"), result.get("failed")
    if completed != num_prompts:
        found.append("%s of %d requests completed" % (completed, num_prompts))
    # Releases before 0.11 did not write "failed"; there the completed requests alone decide.
    if failed not in (0, None):
        found.append("%s of %d requests failed" % (failed, num_prompts))
    wanted = num_prompts * output_len
    if result.get("total_output_tokens") != wanted:
        found.append(
            "%s output tokens instead of %d (%d requests of %d)"
            % (result.get("total_output_tokens"), wanted, num_prompts, output_len)
        )
    missing = [name for name in METRICS if not isinstance(result.get("mean_%s_ms" % name), (int, float))]
    if missing:
        found.append("no %s in the result" % ", ".join("mean_%s_ms" % name for name in missing))
    return found


def first_error(result):
    """Return the first request error that a detailed result carries, or an empty string (last line, 300 characters)."""
    for error in result.get("errors") or ():
        if error:
            return str(error).strip().splitlines()[-1][:300]
    return ""


def run(result, output_len):
    """Return one run's numbers from a ``result`` without :func:`problems`.

    ``throughput_tok_s`` is output_len / mean E2E of one request (the seed study's "tok/s", it includes TTFT); ``decode_tok_s`` is
    1 / mean TPOT; ``total_throughput_tok_s`` is all output tokens / wall time, which differs from the first at concurrency > 1.
    """
    e2e_ms = result["mean_e2el_ms"]
    out = {
        "num_prompts": result["num_prompts"],
        "completed": result["completed"],
        "failed": result.get("failed") or 0,
        "duration_s": result["duration"],
        "total_input_tokens": result["total_input_tokens"],
        "total_output_tokens": result["total_output_tokens"],
        "throughput_tok_s": output_len / e2e_ms * 1000.0,
        "total_throughput_tok_s": result["output_throughput"],
        "decode_tok_s": 1000.0 / result["mean_tpot_ms"] if result["mean_tpot_ms"] else None,
        "ttft_ms": result["mean_ttft_ms"],
        "tpot_ms": result["mean_tpot_ms"],
        "itl_ms": result["mean_itl_ms"],
        "e2e_ms": e2e_ms,
    }
    for metric, name in (("ttft", "ttft"), ("tpot", "tpot"), ("itl", "itl"), ("e2el", "e2e")):
        for share in (50, 90, 99):
            value = result.get("p%d_%s_ms" % (share, metric))
            if value is not None:
                out["%s_p%d_ms" % (name, share)] = value
    return out
