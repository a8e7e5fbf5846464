"""What the report says of serving, as plain data: layouts, their start, their requests and their sweep. Standard library only."""

from __future__ import annotations

from .format import MISSING, digits, mean_and_error, plural, seconds
from .records import get, num
from .verdicts import against_baseline, first_reason, sentence

# The bounds of an SLO: name in the fact -> name in the report.
BOUNDS = (("ttft_ms", "TTFT"), ("tpot_ms", "TPOT"), ("e2e_ms", "E2E"))
# A level is within the SLO when this share of its answers is: the goal that DistServe is evaluated with (arXiv:2401.09670).
GOOD_SHARE = 0.9


def layout_lines(found, records):
    """Return a line for every layout; ``found`` is ``report_verdicts.verdicts``, ``records`` is ``report_records.layouts``."""
    lines = []
    for index, layout in enumerate(records):
        verdict = found["layouts"][layout["name"]]
        top = first_reason(verdict) if verdict["status"] not in ("healthy", "skipped") else None
        # A benchmark that did not pass measured something, but not what was asked.
        shown = layout["summary"] if layout["usable"] else {}
        addresses = ["Ray: " + ", ".join(layout["ray_addresses"])] if layout["ray_addresses"] else []
        if layout["addresses"] and set(layout["addresses"]) != set(layout["ray_addresses"]):
            addresses.append(", ".join(layout["addresses"]))
        failed = sum(num(run.get("failed")) or 0 for run in layout["runs"])
        asked = sum(num(run.get("num_prompts")) or 0 for run in layout["runs"])
        lines.append(
            {
                "name": layout["name"],
                "colour": min(index, 6),
                "status": verdict["status"],
                "phases": verdict["phases"],
                "dummy": is_dummy(layout),
                "tp": digits(layout["tp"]),
                "pp": digits(layout["pp"]),
                "nodes": digits(layout["nodes"]),
                "executor": "/".join(part for part in (layout["executor"], layout["runtime"]) if part) or MISSING,
                "addresses": addresses or [MISSING],
                "throughput": _plus_minus(shown.get("throughput_tok_s")),
                "decode": _plus_minus(shown.get("decode_tok_s")),
                "ttft": _plus_minus(shown.get("ttft_ms")),
                "tpot": _plus_minus(shown.get("tpot_ms")),
                "e2e": _plus_minus(shown.get("e2e_ms")),
                "runs": plural(len(layout["runs"]), "run") if layout["runs"] else "no run",
                "stop": _stopped(layout["stop"]),
                "requests": "%s of %s failed" % (digits(failed), digits(asked)) if asked else None,
                "startup": seconds(get(layout["startup"], "ready_s")),
                "load": _loaded(layout["startup"]),
                "compile": seconds(get(layout["startup"], "compile_s")),
                "cache": layout["compile_cache"] or MISSING,
                "memory": _memory(layout["startup"]),
                "baseline": against_baseline(layout["baseline"]),
                "why": sentence(top) if top else None,
                "remedy": top and top["remedy"],
            }
        )
    return lines


def is_dummy(layout):
    """Return whether the layout served weights that nobody read (vLLM's ``--load-format dummy``)."""
    return layout["load_format"] == "dummy"


def dummy_warning(records):
    """Return what is to be known of dummy weights before any number of them is read; None where all weights were read."""
    names = [layout["name"] for layout in records if is_dummy(layout)]
    if not names:
        return None
    where = "" if len(names) == len(records) else " (%s)" % ", ".join(names)
    return "Dummy weights%s: speed only, no sense in the answers." % where


def in_flight(layout):
    """Return how many requests the runs of a layout kept in flight, in words; "" where it is not known."""
    count = layout["concurrency"]
    return "" if count is None else "one request at a time" if count == 1 else "%d requests in flight" % count


def _stopped(stop):
    """Say how wide the interval that was asked for is, and whether it was reached; None where none was asked for."""
    if not isinstance(stop.get("reached"), bool):
        return None
    width = num(stop.get("width_percent"))
    wide = MISSING if width is None else "%s wide" % digits(width, "%")
    return "%s, %s" % (wide, "reached" if stop["reached"] else "not reached")


def _loaded(startup):
    """Return how long the weights took; where none were read, how long the whole model took, and that it is that."""
    if num(get(startup, "load_weights_s")) is not None:
        return seconds(startup["load_weights_s"])
    whole = num(get(startup, "model_load_s"))
    return MISSING if whole is None else "%s (whole model)" % seconds(whole)


def _memory(startup):
    parts = []
    for key, label in (("model_gib", "model"), ("kv_cache_gib", "KV cache")):
        if num(get(startup, key)) is not None:
            parts.append("%s %s" % (label, digits(startup[key], "GiB")))
    tokens = num(get(startup, "kv_cache_tokens"))
    if tokens is not None:
        parts.append("%s tokens" % format(int(tokens), ","))
    return ", ".join(parts) or MISSING


def _plus_minus(stats):
    mean, low, high = (num(get(stats, key)) for key in ("mean", "ci95_low", "ci95_high"))
    value, half = mean_and_error(mean, None if mean is None or low is None or high is None else max(high - mean, mean - low))
    return {"value": value, "error": half}


def distribution_lines(records):
    """Return a line for every layout with requests of its own: quantiles, spread, and how many kept the SLO."""
    lines = []
    for index, layout in enumerate(records):
        found = layout["distribution"] if layout["usable"] else {}
        if not found:
            continue
        rate, share = (num(get(layout["summary"], key, "mean")) for key in ("request_goodput_per_s", "goodput_share"))
        known = rate is not None and share is not None
        lines.append(
            {
                "name": layout["name"],
                "colour": min(index, 6),
                "requests": digits(int(get(found, "e2e_ms", "n") or 0)),
                "metrics": [
                    {
                        "label": label,
                        "quantiles": " / ".join(digits(get(found, key, "p%d" % share)) for share in (50, 90, 99)),
                        "cv": digits(100 * found[key]["cv"], "%") if num(get(found, key, "cv")) is not None else MISSING,
                    }
                    for key, label in (("ttft_ms", "TTFT"), ("tpot_ms", "TPOT"), ("itl_ms", "ITL"), ("e2e_ms", "E2E"))
                ],
                "slo": slo_text(layout["slo"]) or MISSING,
                "goodput": "%s (%s)" % (digits(rate, "req/s"), digits(100 * share, "%")) if known else MISSING,
            }
        )
    return lines


def slo_text(slo):
    """Return an SLO as text, ``TTFT ≤ 200 ms, TPOT ≤ 20 ms``; "" without one."""
    return ", ".join("%s ≤ %g ms" % (label, slo[key]) for key, label in BOUNDS if slo.get(key))


def slos(layouts):
    """Return the SLO of these layouts as text, by name where they differ; "" where none has one."""
    named = {layout["name"]: slo_text(layout["slo"]) for layout in layouts if slo_text(layout["slo"])}
    if len(set(named.values())) == 1 and len(named) == len(layouts):
        return next(iter(named.values()))
    return "; ".join("%s: %s" % pair for pair in named.items())


def within_slo(level):
    """Return whether at least :data:`GOOD_SHARE` of a level's answers kept the SLO; None where there was none."""
    share = num(level.get("goodput_share"))
    return None if share is None else share >= GOOD_SHARE


def sweep(records):
    """Return ``{slo, rows, capped}``: the SLO in words, a line for every level, a sentence for every GPU that its power limit held down."""
    swept = [layout for layout in records if layout["sweep"]]
    rows = [_level(index, layout, level) for index, layout in enumerate(records) for level in layout["sweep"]]
    capped = [_capped(layout["name"], item) for layout in swept for item in layout["power_caps"]]
    return {"slo": slos(swept), "rows": rows, "capped": capped}


def _level(index, layout, level):
    notes = ["a queue: the server takes %d" % layout["max_num_seqs"]] if level.get("queued") and layout["max_num_seqs"] else []
    for key, text in (("preemptions", "%d begun again"), ("burst_requests", "%d in one burst: TTFT and TPOT say nothing of them")):
        notes += [text % level[key]] if num(level.get(key)) else []
    return {
        "name": layout["name"],
        "colour": min(index, 6),
        "concurrency": digits(level["concurrency"]),
        "requests": digits(level.get("completed")),
        "total": digits(level["total_throughput_tok_s"]),
        "user": digits(level["throughput_tok_s"]),
        "ttft": "%s / %s" % (digits(level.get("ttft_ms")), digits(level.get("ttft_p99_ms"))),
        "tpot": "%s / %s" % (digits(level.get("tpot_ms")), digits(level.get("tpot_p99_ms"))),
        "e2e": "%s / %s" % (digits(level.get("e2e_ms")), digits(level.get("e2e_p99_ms"))),
        "kept": _kept(level),
        "goodput": digits(level.get("request_goodput_per_s"), "req/s") if num(level.get("request_goodput_per_s")) is not None else MISSING,
        "note": "; ".join(_missed(layout["slo"], level) + notes),
    }


def _kept(level):
    """Return the share of the answers that kept the SLO, and how many of how many."""
    share, completed = num(level.get("goodput_share")), num(level.get("completed"))
    if share is None:
        return MISSING
    counted = "" if completed is None else " (%s of %s)" % (digits(round(share * completed)), digits(int(completed)))
    return digits(100 * share, "%") + counted


def _missed(slo, level):
    """Say which bounds a level's mean is over: a mean within a bound does not say that every answer is, so that is not claimed."""
    return [
        "mean %s %s over %g ms" % (label, digits(level[key], "ms"), slo[key])
        for key, label in BOUNDS
        if slo.get(key) and num(level.get(key)) is not None and level[key] > slo[key]
    ]


def _capped(name, item):
    parts = ["%s of the time under load" % digits(100 * item["share"], "%")]
    if item["low_mhz"] is not None and item["high_mhz"] is not None:
        parts.append("its SM clock down to %d from %d MHz" % (item["low_mhz"], item["high_mhz"]))
    limit = "" if item["limit_w"] is None else " of %s" % digits(int(item["limit_w"]), "W")
    text = "%s: GPU %s was held down by its power limit%s during the sweep, %s; at which levels is not recorded."
    return text % (name, item["gpu"], limit, ", ".join(parts))
