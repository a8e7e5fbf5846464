"""The table of collectives, and what several nodes missed together. Standard library only."""

from __future__ import annotations

from ..format import MISSING, digits, plural, size
from ..records.collectives import latency_at
from ..verdicts import against_baseline

# The size with a column of its own: one token's all-reduce at a hidden size of 8192 (Qwen2.5 72B) and 2 bytes a value.
SMALL_BYTES = 16384
# Rows of the table up to which it has all; above, so many of the slowest and of the fastest nodes of each operation.
FABRIC_ROWS, EXTREMES = 64, 5


def collective_lines(collectives, reduces=()):
    """Return a line for every collective and for every all-reduce of the serving runtime: by operation, within nodes before across."""
    lines = [_line(item) for item in shown(list(_once(collectives)))] + [_serving_line(item) for item in reduces]
    return sorted(lines, key=lambda line: (line["op"], line["scope"] != "within", line["how"], line["host"]))


def left_out(collectives):
    """Return a sentence where the table does not have all collectives, else None."""
    every = list(_once(collectives))
    count = len(every) - len(shown(every))
    return "%d more passed; the slowest and the fastest nodes are shown, and facts.json has all." % count if count else None


def shown(collectives):
    """Return what the table has: all of them, or of a large fleet what did not pass, what is across nodes, the slowest and the fastest."""
    if len(collectives) <= FABRIC_ROWS:
        return collectives
    plain = [item for item in collectives if item["status"] == "healthy" and item["scope"] == "within"]
    told = [item for item in collectives if item["status"] != "healthy" or item["scope"] != "within"][:FABRIC_ROWS]
    groups = {}
    for item in plain:
        groups.setdefault((item["op"], item["tool"], item["control"]), []).append(item)
    for mine in groups.values():
        mine.sort(key=lambda item: item["peak_busbw_gbps"] or 0)
        told += ends(mine)
    return told


def ends(rows):
    """Return the first and the last :data:`EXTREMES` of sorted rows, all of few."""
    return rows if len(rows) <= 2 * EXTREMES else rows[:EXTREMES] + rows[-EXTREMES:]


def _once(collectives):
    """Yield the collectives, those across nodes once: where a group fails, each of its nodes keeps the same numbers."""
    seen = set()
    for item in collectives:
        same = item["op"], item["tool"], item["control"], tuple(item["addresses"]), item["latency_8b_us"], item["peak_busbw_gbps"]
        if item["scope"] == "across" and same in seen:
            continue
        seen.add(same)
        yield item


def _line(item):
    swept, latency = latency_at(item, SMALL_BYTES)
    at, graph = latency_at(item, SMALL_BYTES, "graph_time_us")
    return {
        "op": item["op"],
        "scope": item["scope"] or MISSING,
        "host": item["host"],
        "status": item["status"],
        "how": _how(item),
        "ranks": "%s on %s" % (digits(item["ranks"]), plural(int(item["nodes"]), "node")) if item["ranks"] and item["nodes"] else MISSING,
        "latency": digits(item["latency_8b_us"], "µs") + _in_graph(item["latency_8b_graph_us"]),
        "latency_16k": "%s%s%s"
        % (digits(latency, "µs"), _in_graph(graph if at == swept else None), "" if swept in (None, SMALL_BYTES) else " at " + size(swept)),
        "peak": digits(item["peak_busbw_gbps"], "GB/s"),
        "fit": _fit(item["fit"]),
        "transport": _transport(item),
        "path": _path(item),
        "baseline": against_baseline(item["baseline"]),
    }


def _serving_line(item):
    how = {"cuda_graph": " in a graph", "eager": ""}.get(item["method"], "")
    return {
        "op": "all_reduce",
        "scope": "across" if item["nodes"] > 1 else "within",
        "host": item["host"],
        "status": item["status"],
        "how": "the serving runtime's own, by %s" % (item["path"] or MISSING),
        "ranks": "%d on %s" % (item["tp"], plural(item["nodes"], "node")),
        "latency": MISSING,
        "latency_16k": "%s%s at %s" % (digits(item["time_us"], "µs"), how, size(item["message_bytes"])),
        "peak": MISSING,
        "fit": MISSING,
        "transport": item["path"] or MISSING,
        "path": MISSING,
        "baseline": MISSING,
    }


def _in_graph(time_us):
    """Return what a time in a CUDA graph adds to a plain one; nothing where none was measured."""
    return ", %s in a graph" % digits(time_us, "µs") if time_us else ""


def _how(item):
    text = " by ".join(str(part) for part in (item["backend"], item["tool"]) if part) or MISSING
    return text + (", %s" % item["control"] if item["control"] else "")


def _fit(fit):
    """Return ``21.4 µs + size / 2.4 GB/s (off by 6 %, at most 31 %)``; an em dash without a fit."""
    if fit is None:
        return MISSING
    text = digits(fit["alpha_us"], "µs")
    if fit["beta_gbps"]:
        text += " + size / %s" % digits(fit["beta_gbps"], "GB/s")
    off = [fit[key] for key in ("residual_rel_median", "residual_rel_max")]
    if None in off:
        return text
    return text + " (off by %s\N{NO-BREAK SPACE}%%, at most %s\N{NO-BREAK SPACE}%%)" % tuple(_percent(value) for value in off)


def _percent(share):
    """Return a share in percent: two digits below 100, whole ones from there on, and never an exponent."""
    return "%.2g" % (100 * share) if share < 0.995 else f"{100 * share:,.0f}"


def _transport(item):
    """Return what carried the data, and what should have where it is known: ``Socket (expected IB)``."""
    said = item["transport"]
    if said is None:
        return MISSING
    text = said["network"] or ", ".join(said["within"]) or "not named"
    if said["network"] in ("IB", "RoCE"):
        text += ", %s" % plural(len(said["devices"]), "port") if said["devices"] else ""
        text += ", GPUDirect" if said["gdrdma"] else ", no GPUDirect"
    missed = item["scope"] == "across" and said["expected"] and said["expected"] != said["network"]
    return text + (" (expected %s)" % said["expected"] if missed else "")


def _path(item):
    """Return the addresses, the interface and its rate, as far as they are known."""
    text = ", ".join(item["addresses"]) or MISSING
    if isinstance(item["interface"], str):
        text += " on %s" % item["interface"]
    if item["link_rate_gbit_s"]:
        text += " at %s" % digits(item["link_rate_gbit_s"], "Gbit/s")
    return text


def together(failed):
    """Return what several nodes missed together, out of what failed: no node's own verdict, and still the run's."""
    return [item for item in failed if item["what"] in ("collective", "link")]
