"""Reads one result file of ``vllm bench serve`` and refuses it unless it measured what was asked.

``vllm bench serve`` exits 0 when every request failed and then prints zeros, so the exit code proves nothing.
"""

from __future__ import annotations

from ..core.scrub import scrub_text

METRICS = ("ttft", "tpot", "itl", "e2el")
TOTALS = ("num_prompts", "duration", "total_input_tokens", "output_throughput")
# No time, rate or count of a benchmark comes near; NaN is below nothing and above nothing.
LARGEST = 1e18
# What is divided by.
ABOVE_ZERO = ("mean_e2el_ms", "num_prompts", "duration")
# No server makes 20,000 tokens of one answer in a second: an answer whose mean gap is shorter waited somewhere and came in one burst.
BURST_TPOT_MS = 0.05


def number(value):
    """Return ``value`` where it is a number that can be counted with, None for anything else: NaN, infinity, text, true."""
    sound = isinstance(value, (int, float)) and not isinstance(value, bool) and -LARGEST < value < LARGEST
    return value if sound else None


def problems(result, num_prompts, output_len, goodput=False):
    """Return the sentences that say why ``result`` (a parsed file) is no measurement; empty when it is one.

    ``goodput``: an SLO was asked for, so the share of requests that met it must be there.
    """
    if not isinstance(result, dict):
        return ["the result is %s, not a mapping of metrics" % type(result).__name__]
    found = []
    completed, failed = result.get("completed"), result.get("failed")
    if number(completed) != num_prompts:
        found.append("%s of %d requests completed" % (_short(completed), num_prompts))
    # Releases before 0.11 did not write "failed"; there the completed requests alone decide.
    if failed not in (0, None):
        found.append("%s of %d requests failed" % (_short(failed), num_prompts))
    wanted, tokens = num_prompts * output_len, result.get("total_output_tokens")
    if number(tokens) != wanted:
        found.append("%s output tokens instead of %d (%d requests of %d)" % (_short(tokens), wanted, num_prompts, output_len))
    # The sum may be right while one answer is a token short and another a token long.
    lengths = result.get("output_lens")
    odd = [length for length in lengths if length != output_len] if isinstance(lengths, list) else []
    if odd and number(tokens) == wanted:
        found.append("%d requests did not give %d output tokens, one gave %s" % (len(odd), output_len, _short(odd[0])))
    if goodput and number(result.get("request_goodput")) is None:
        found.append("no request_goodput in the result, though an SLO was asked for")
    return found + _not_counted(result) + _details(result)


def _short(value):
    return str(value)[:80]


def _not_counted(result):
    """Return what is missing in a result or is no number that a run can have."""
    names = ["mean_%s_ms" % name for name in METRICS] + list(TOTALS)
    missing = [name for name in names if name not in result]
    found = ["no %s in the result" % ", ".join(missing)] if missing else []
    for name in names:
        value = number(result.get(name))
        least = "above 0" if name in ABOVE_ZERO else "of at least 0"
        if name in result and (value is None or value < 0 or (value == 0 and name in ABOVE_ZERO)):
            found.append("%s is %s in the result, not a number %s" % (name, _short(result[name]), least))
    return found


def _details(result):
    """Return what is wrong with the values of single requests; nothing where there are none, as without ``--save-detailed``."""
    found = []
    for key in ("ttfts", "output_lens", "latencies"):
        values = result.get(key)
        if values and not (isinstance(values, list) and all(number(value) is not None for value in values)):
            found.append("%s in the result is no list of numbers" % key)
    gaps = result.get("itls")
    if gaps and not (isinstance(gaps, list) and all(isinstance(row, list) and all(number(gap) is not None for gap in row) for row in gaps)):
        found.append("itls in the result is no list of lists of numbers")
    sizes = {
        key: len(result[key]) for key in ("ttfts", "itls", "output_lens", "latencies") if isinstance(result.get(key), list) and result[key]
    }
    if not found and len(set(sizes.values())) > 1:
        found.append("the result has %s: not as many of each" % ", ".join("%d %s" % (count, key) for key, count in sorted(sizes.items())))
    return found


def first_error(result):
    """Return the first request error that a detailed result carries, or an empty string (last line, 300 characters)."""
    errors = result.get("errors") if isinstance(result, dict) else None
    for error in errors if isinstance(errors, list) else [errors]:
        lines = str(error or "").strip().splitlines()
        if lines:
            return scrub_text(lines[-1])[:300]
    return ""


def run(result, output_len):
    """Return one run's numbers from a ``result`` without :func:`problems`.

    ``throughput_tok_s`` is output_len / mean E2E of one request (the study's "tok/s", it includes TTFT); ``decode_tok_s`` is
    1 / mean TPOT; ``total_throughput_tok_s`` is all output tokens / wall time, which differs from the first at concurrency > 1.
    ``goodput_share`` is the part of the requests that met the SLO, 0..1; it is there where one was asked for. ``burst_requests``
    came in one burst: their TTFT has the whole answer in it, and their TPOT and ITL say nothing.
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
            value = number(result.get("p%d_%s_ms" % (share, metric)))
            if value is not None:
                out["%s_p%d_ms" % (name, share)] = value
    goodput = number(result.get("request_goodput"))
    if goodput is not None:
        # vLLM divides the requests that met every bound by the run's duration (calculate_metrics in benchmarks/serve.py).
        out["request_goodput_per_s"] = goodput
        out["goodput_share"] = round(goodput * result["duration"]) / result["completed"]
    tpots = requests(result).get("tpot_ms")
    out["burst_requests"] = None if tpots is None else sum(tpot < BURST_TPOT_MS for tpot in tpots)
    return out


def requests(result):
    """Return every request's values in ms, ``{ttft_ms, tpot_ms, itl_ms, e2e_ms: [...]}``; empty without ``--save-detailed``.

    TPOT as vLLM has it: (E2E - TTFT) / (output tokens - 1), none for a single token. Up to 0.29 a result has no ``latencies``:
    a request's E2E is its TTFT and its ITLs, which is how the client itself adds it up.
    """
    ttfts, itls, lengths = (result.get(key) for key in ("ttfts", "itls", "output_lens"))
    if not ttfts or not itls or not lengths or not len(ttfts) == len(itls) == len(lengths):
        return {}
    e2es = result.get("latencies") or [ttft + sum(gaps) for ttft, gaps in zip(ttfts, itls)]
    tpots = [(e2e - ttft) / (length - 1) for e2e, ttft, length in zip(e2es, ttfts, lengths) if length > 1]
    seconds = {"ttft_ms": ttfts, "tpot_ms": tpots, "itl_ms": [gap for gaps in itls for gap in gaps], "e2e_ms": e2es}
    return {name: [1000 * value for value in values] for name, values in seconds.items() if values}
