"""Findings about the roofline: how near a layout's decoding comes to reading its weights once for each token.

A token of a single request is bound by memory: each of its matrices is read once and used for one vector (S. Williams, A. Waterman
and D. Patterson, "Roofline: an insightful visual performance model for multicore architectures", 2009; R. Pope et al., "Efficiently
scaling transformer inference", 2022, section 2). So its time has a floor,

    floor = (weights read for a token + KV cache of the context) / TP / HBM read rate,

where pipeline stages work one after the other and add up to the whole model. The KV cache is divided by TP as well, which is too
much where KV heads are replicated: the floor is then a little too low, never too high. Standard library only.
"""

from __future__ import annotations

import shlex

from ....benchmark.judge import BURST_SHARE
from ....serving.options import TOKEN, WEIGHTS, effective
from ..format import digits
from ..prediction.rates import MEASURED
from ..records.layouts import describe
from ..records.reading import get, num, rows
from .layouts import finding


def floor_ms(read_bytes, tp, hbm_read_gbps):
    """Return the least time of a token in ms: ``read_bytes`` over ``tp`` ranks that each read ``hbm_read_gbps`` 10⁹ bytes a second."""
    return read_bytes / tp / (hbm_read_gbps * 1e9) * 1e3


def at_measured_rates(layouts, compared):
    """Return the layouts, each with the read rate that the run's GPU baseline measured, where it did; ``compared`` of ``compare``."""
    told = {item["name"]: item["told"] for item in compared if item["told"]}
    measured = {name: said for name, said in told.items() if said["read_gbps"] and (said["read_source"] or "").startswith(MEASURED)}
    return [
        dict(layout, hbm_read_gbps=measured[layout["name"]]["read_gbps"], hbm_read_source=measured[layout["name"]]["read_source"])
        if layout["name"] in measured else layout
        for layout in layouts
    ]  # fmt: skip


def roofline_findings(found):
    """Return one finding for each layout that was benchmarked with one request at a time; without a GPU, one for all of them."""
    single = [layout for layout in found if layout["usable"] and layout["concurrency"] == 1]
    bare = [layout["name"] for layout in single if layout["gpu"] == ""]
    result = [_roofline(layout) for layout in single if layout["gpu"] != ""]
    if bare:
        claim = "No roofline for %s: there is no GPU, and the bound is that of a GPU's memory." % ", ".join(bare)
        result.append(finding("layouts.roofline", "no data", claim, missing="a GPU"))
    return result


def _roofline(layout):
    name = "layouts.roofline.%s" % layout["name"]
    tpot = num(get(layout["summary"], "tpot_ms", "median"))
    lacking = _lacking(layout, tpot)
    if lacking:
        what = "No baseline" if not layout["hbm_read_gbps"] else "No roofline"
        return finding(name, "no data", "%s for the decoding of %s." % (what, layout["name"]), missing="; ".join(lacking))
    tp, rate, weights = layout["tp"], layout["hbm_read_gbps"], layout["read_per_token_bytes"]
    tokens, cache = _context_tokens(layout), layout["kv_bytes_per_token"]
    kv_bytes = tokens * cache if tokens and cache else 0
    floor = floor_ms(weights + kv_bytes, tp, rate)
    share = floor / tpot
    kv = " + %s GB of KV (%s B a token × %s tokens, half-way through the answer)" % (
        digits(kv_bytes / 1e9), digits(cache), digits(tokens),
    ) if kv_bytes else ""  # fmt: skip
    arithmetic = "(%s GB of weights%s) / TP %d / %s GB/s = %s ms; / TPOT %s ms (median of the runs) = %s. Read rate of %s: %s" % (
        digits(weights / 1e9), kv, tp, digits(rate), digits(floor), digits(tpot), digits(share),
        layout["gpu"] or "the GPU", layout["hbm_read_source"] or "no source was noted",
    )  # fmt: skip
    if (layout["pp"] or 1) > 1:
        arithmetic += ". The %d stages of a token follow each other, so together they read the whole model" % layout["pp"]
    values = {"layout": layout["name"], "floor_ms": floor, "tpot_ms": tpot, "ratio": share}
    if share > 1:
        claim = "%s is faster than its weights can be read: a token takes %s ms, the floor is %s ms. One of the two is not what it seems."
        return finding(name, "warning", claim % (describe(layout), digits(tpot), digits(floor)), arithmetic, values=values)
    claim = "%s needs %s ms a token, of which %s %% go into reading weights and KV cache at the memory's rate; %s ms are all else." % (
        describe(layout), digits(tpot), digits(100 * share), digits(tpot - floor),
    )  # fmt: skip
    return finding(name, "estimate", claim, arithmetic, values=values)


def _lacking(layout, tpot):
    """Return what the arithmetic lacks, as texts."""
    lacking = []
    if not layout["hbm_read_gbps"]:
        gpu = layout["gpu"] or "this GPU"
        lacking.append("context.hbm_read_gbps: no measured rate is known for %s; serve_benchmark_hbm_read_gbps sets one" % gpu)
    if not layout["read_per_token_bytes"]:
        why = ": %s" % layout["bytes_unknown"] if layout["bytes_unknown"] else ""
        lacking.append("context.read_per_token_bytes%s" % why)
    if not layout["tp"]:
        lacking.append("context.tp")
    if layout["read_per_token_bytes"]:
        lacking += _doubts(layout)
    if not tpot:
        lacking.append("summary.tpot_ms.median")
    return lacking + _bursts(layout)


def _doubts(layout):
    """Return what stands against bytes that are there: facts of earlier releases have them whatever the server was given."""
    if layout["steps_unknown"]:
        return ["the tokens of a step: %s" % layout["steps_unknown"]]
    if layout["quantization"]:
        return ["context.read_per_token_bytes: the server's log says quantization=%s" % layout["quantization"]]
    try:
        words = shlex.split(layout["extra_args"] or "")
    except ValueError:
        words = []
    against = effective({"tp": 1, "pp": 1}, extra_args=words).why_not(WEIGHTS, TOKEN)
    return ["context.read_per_token_bytes: %s" % against] if against else []


def _bursts(layout):
    """Return a text where answers came in bursts, whose times per token are those of no decoding, else nothing."""
    runs = [run for run in rows(layout["measured"].get("runs")) or [] if num(run.get("burst_requests")) is not None]
    bursts = sum(run["burst_requests"] for run in runs)
    requests = sum(num(run.get("completed")) or 0 for run in runs)
    return ["times per token: %d of %d answers came in one burst" % (bursts, requests)] if bursts > BURST_SHARE * requests else []


def _context_tokens(layout):
    """Return the tokens of context that a token meets on average: the prompt and half of the answer."""
    lengths = [num(layout["measured"].get(key)) for key in ("input_len_tokens", "output_len_tokens")]
    return None if None in lengths else lengths[0] + lengths[1] / 2
