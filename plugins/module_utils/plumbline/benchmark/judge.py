"""Reasons of a benchmark that its own numbers do not show: prompts that were cached, cut, or thrown out and begun again."""

from __future__ import annotations

from ..serving.options import NO_PREFIX_CACHING

# The study measured single requests of 57 tokens; a tokenizer round trip may add or lose a token or two for each.
INPUT_TOLERANCE_TOKENS = 3
# With more of a run's answers in bursts its means and its 90th percentiles are no longer those of decoding.
BURST_SHARE = 0.1
ROOM = "fewer requests in flight, a shorter context, or more KV cache"


def judge_prompts(measurement, grown):
    """Say from the server's log and counters whether a measured prompt was answered from the prefix cache."""
    measurement.measured["server_counters"] = grown
    caching, hits = measurement.context["prefix_caching"], grown["prefix_cache_hits_tokens"]
    what, remedy, known = "benchmark.prompts", None, {True: "on", False: "off", None: "not told by the log"}[caching]
    if hits is None:
        status = {True: "degraded", False: "healthy", None: "skipped"}[caching]
        seen = "prefix caching is %s, and the server's counters of cached tokens cannot be read" % known
    else:
        status = "degraded" if hits else "healthy"
        seen = "prefix caching is %s, %d of the prompts' tokens came from the cache" % (known, hits)
    if status == "degraded":
        remedy = "serve with %s: TTFT is otherwise that of the cache" % NO_PREFIX_CACHING
    measurement.add(what, status, seen, "every prompt computed anew", remedy)
    if grown["preemptions"]:
        measurement.add(
            "benchmark.preemptions", "degraded", "%d request(s) put out of the KV cache and begun again" % grown["preemptions"], "none",
            ROOM,
        )  # fmt: skip


def check_input(measurement, input_len, runs, check="benchmark.input"):
    """Add a reason when the prompts were not as long as asked."""
    off = [(abs(run["total_input_tokens"] - run["num_prompts"] * input_len), run["num_prompts"]) for run in runs]
    bad = [(tokens, prompts) for tokens, prompts in off if tokens > INPUT_TOLERANCE_TOKENS * prompts]
    if bad:
        tokens, prompts = max(bad)
        measurement.add(
            check, "failed", "the %d prompt(s) of a run are %d tokens off" % (prompts, tokens),
            "at most %d tokens" % (INPUT_TOLERANCE_TOKENS * prompts), "check that the tokenizer belongs to the model",
        )  # fmt: skip


def judge_bursts(measurement, runs, check="benchmark.stream"):
    """Say when answers came in one burst: E2E and throughput still hold then, TTFT, TPOT and ITL do not."""
    known = [run for run in runs if run.get("burst_requests") is not None]
    bursts, requests = (sum(run[key] for run in known) for key in ("burst_requests", "completed"))
    if not requests:
        return
    bad = bursts > BURST_SHARE * requests
    remedy = "give the API server and the client processors of their own; read throughput and E2E, not TTFT, TPOT and ITL" if bad else None
    measurement.add(
        check, "degraded" if bad else "healthy", "%d of %d answers came in one burst and not token by token" % (bursts, requests),
        "at most %g %%" % (100 * BURST_SHARE), remedy,
    )  # fmt: skip


def judge_levels(measurement, levels, limit):
    """Say which of a sweep's ``levels`` waited for the server's ``limit`` of requests at a time (None: not known), or were redone."""
    queued = [str(level["concurrency"]) for level in levels if level["queued"]]
    if queued:
        seen = "the server works on %d requests at a time: at %s in flight the TTFT has a wait in it" % (limit, ", ".join(queued))
        measurement.add("benchmark.queue", "skipped", seen, None, "raise --max-num-seqs, or read these levels as a queue")
    redone = ["%d at %d" % (level["preemptions"], level["concurrency"]) for level in levels if level["preemptions"]]
    if redone:
        seen = "requests put out of the KV cache and begun again: %s in flight" % ", ".join(redone)
        measurement.add("benchmark.sweep_preemptions", "degraded", seen, "none", ROOM)
    judge_bursts(measurement, levels, "benchmark.sweep_stream")
