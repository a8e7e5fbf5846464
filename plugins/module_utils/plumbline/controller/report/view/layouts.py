"""The tables of layouts: what was served how, how it started, and its requests. Standard library only."""

from __future__ import annotations

from ....core.fact import sentence
from ..format import MISSING, digits, mean_and_error, plural, seconds
from ..records.reading import get, num
from ..serving import colour, is_dummy, slo_text
from ..verdicts import against_baseline, to_look_at

# Per-request metrics of a distribution: name in the fact -> name in the report.
REQUEST_METRICS = (("ttft_ms", "TTFT"), ("tpot_ms", "TPOT"), ("itl_ms", "ITL"), ("e2e_ms", "E2E"))


def layout_lines(layouts, verdicts):
    """Return a line for every layout; ``layouts`` are its records, ``verdicts`` the verdicts on layouts by name."""
    return [_line(place, layout, verdicts[layout["name"]]) for place, layout in enumerate(layouts)]


def _line(place, layout, verdict):
    top = to_look_at(verdict)
    return {
        "name": layout["name"],
        "colour": colour(place),
        "status": verdict["status"],
        "phases": verdict["phases"],
        "dummy": is_dummy(layout),
        **_spread(layout),
        **_speed(layout),
        **_start(layout),
        "baseline": against_baseline(layout["baseline"]),
        "why": sentence(top) if top else None,
        "remedy": top and top["remedy"],
    }


def _spread(layout):
    """Return over what the layout was spread: ranks, nodes, and the addresses, Ray's own first."""
    addresses = ["Ray: " + ", ".join(layout["ray_addresses"])] if layout["ray_addresses"] else []
    if layout["addresses"] and set(layout["addresses"]) != set(layout["ray_addresses"]):
        addresses.append(", ".join(layout["addresses"]))
    return {
        "tp": digits(layout["tp"]),
        "pp": digits(layout["pp"]),
        "nodes": digits(layout["nodes"]),
        "executor": "/".join(part for part in (layout["executor"], layout["runtime"]) if part) or MISSING,
        "addresses": addresses or [MISSING],
    }


def _speed(layout):
    """Return what the benchmark measured. One that did not pass measured something, but not what was asked: it shows no numbers."""
    shown = layout["summary"] if layout["usable"] else {}
    failed = sum(num(run.get("failed")) or 0 for run in layout["runs"])
    asked = sum(num(run.get("num_prompts")) or 0 for run in layout["runs"])
    return {
        "throughput": _plus_minus(shown.get("throughput_tok_s")),
        "decode": _plus_minus(shown.get("decode_tok_s")),
        "ttft": _plus_minus(shown.get("ttft_ms")),
        "tpot": _plus_minus(shown.get("tpot_ms")),
        "e2e": _plus_minus(shown.get("e2e_ms")),
        "runs": plural(len(layout["runs"]), "run") if layout["runs"] else "no run",
        "stop": _stopped(layout["stop"]),
        "requests": "%s of %s failed" % (digits(failed), digits(asked)) if asked else None,
    }


def _start(layout):
    """Return how long the start took, of what, and what memory it left."""
    return {
        "startup": seconds(get(layout["startup"], "ready_s")),
        "load": _loaded(layout["startup"]),
        "compile": seconds(get(layout["startup"], "compile_s")),
        "cache": layout["compile_cache"] or MISSING,
        "memory": _memory(layout["startup"]),
    }


def dummy_warning(layouts):
    """Return what is to be known of dummy weights before any number of them is read; None where all weights were read."""
    names = [layout["name"] for layout in layouts if is_dummy(layout)]
    if not names:
        return None
    where = "" if len(names) == len(layouts) else " (%s)" % ", ".join(names)
    return "Dummy weights%s: speed only, no sense in the answers." % where


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


def distribution_lines(layouts):
    """Return a line for every layout with requests of its own: quantiles, spread, and how many kept the SLO."""
    usable = [(place, layout) for place, layout in enumerate(layouts) if layout["usable"] and layout["distribution"]]
    return [_distribution(place, layout) for place, layout in usable]


def _distribution(place, layout):
    found = layout["distribution"]
    rate, share = (num(get(layout["summary"], key, "mean")) for key in ("request_goodput_per_s", "goodput_share"))
    known = rate is not None and share is not None
    return {
        "name": layout["name"],
        "colour": colour(place),
        "requests": digits(int(get(found, "e2e_ms", "n") or 0)),
        "metrics": [_quantiles(found.get(key), label) for key, label in REQUEST_METRICS],
        "slo": slo_text(layout["slo"]) or MISSING,
        "goodput": "%s (%s)" % (digits(rate, "req/s"), digits(100 * share, "%")) if known else MISSING,
    }


def _quantiles(stats, label):
    cv = num(get(stats, "cv"))
    return {
        "label": label,
        "quantiles": " / ".join(digits(get(stats, "p%d" % share)) for share in (50, 90, 99)),
        "cv": MISSING if cv is None else digits(100 * cv, "%"),
    }
