"""The report as plain data: what report.md and report.html both show, in order.

The templates lay out and escape; every sentence and every number is made here, so that both
files say the same. Standard library only.
"""

from __future__ import annotations

import shlex
from datetime import datetime

from ...core.fact import PASSING
from .findings.layouts import apart
from .format import MISSING, digits, factor, interval, plural, seconds, size
from .records import collectives, describe, entry_status, get, judged_nodes, latency_at, layouts, links, num, rows, texts
from .serving import distribution_lines, dummy_warning, in_flight, layout_lines, sweep
from .verdicts import PHASES, against_baseline, first_reason, role_of, sentence

FORMULAS = [
    ("throughput", "output tokens of a request / E2E, in tok/s. Includes the wait for the first token."),
    ("decode rate", "1 / TPOT, in tok/s. Leaves out the wait for the first token."),
    ("TTFT", "time from sending a request to its first token."),
    ("TPOT", "(E2E − TTFT) / (output tokens − 1). Some tools print E2E / output tokens under this name."),
    ("E2E", "time from sending a request to its last token."),
    ("± and [ ]", "95 % interval of the mean over runs, from Student's t: mean ± t(n − 1) × stdev / √n."),
    ("algorithm bandwidth", "message size / time, in GB/s = 10⁹ bytes per second."),
    (
        "bus bandwidth",
        "algorithm bandwidth × 2 (n − 1) / n for all-reduce over n ranks, × 1 for send-receive: "
        "what each rank's link carries, as nccl-tests defines it.",
    ),
    (
        "fit",
        "time = α + size / β over the sweep, by least squares of relative errors; off by: median and largest "
        "|model − measured| / measured.",
    ),
    (
        "slow pair",
        "a pair whose bus bandwidth at the largest size is below a share of the other pairs' median and outside their spread; "
        "a node is behind it when even its best pair is slow against the best of each other node without it.",
    ),
    ("TTFT p50, p90, p99", "quantiles over all requests of all runs, linearly interpolated; of ITL over all their tokens."),
    ("goodput", "requests a second that kept every bound of the SLO, each on its own; its share is of the requests completed."),
    ("total throughput", "output tokens of all requests / wall time from the first request to the last token, at so many in flight."),
    ("rate of one user", "output tokens of a request / E2E, at so many requests in flight: how fast an answer comes to one reader."),
    (
        "read floor",
        "(weights read for a token + KV cache of the context) / TP / rate at which a GPU reads its memory; "
        "pipeline stages add up to the whole model.",
    ),
    ("all-reduces a token", "2 × layers + 1 under tensor parallelism: attention, MLP, and the embedding once."),
    ("per-token estimate", "all-reduces a token × median all-reduce time at hidden size × bytes per value."),
]

# Context keys that say what the numbers depend on, beyond every key that ends in _version.
ENVIRONMENT = (
    "os",
    "kernel",
    "driver",
    "cuda",
    "python",
    "sku",
    "gpu",
    "gpu_model",
    "cpu_model",
    "image",
    "image_id",
    "image_digest",
    "backend",
    "tool",
    "runtime",
    "transport",
    "interface",
    "link_rate_gbit_s",
    "model",
    "manifest_sha256",
    "dtype",
)


def view(data, found, claims):
    """Return everything that the templates show.

    ``found`` is ``verdicts.verdicts(data)``, ``claims`` is ``findings.findings(data)``.
    """
    run = data["run"]
    records = layouts(data)
    return {
        "run_id": run["run_id"],
        "when": _when(run),
        "headline": _headline(data, found, records),
        "tiles": _tiles(found, records),
        "failed": found["failed"],
        "problems": data["problems"],
        "node_table": _nodes(data, found),
        "selection": _selection(data, found),
        "fabric": _fabric(data),
        "together": _together(found),
        "links": _links(data),
        "judged": _judged(data),
        "layouts": layout_lines(found, records),
        "distributions": distribution_lines(records),
        "sweep": sweep(records),
        "dummy": dummy_warning(records),
        "findings": claims,
        "formulas": FORMULAS,
        "run": _run(run),
        "environment": _environment(data),
        "commands": _commands(run),
        "phases": _phases(run),
        "measurements": _measurements(data),
        "models": _models(data),
        "incidents": _incidents(data),
    }


def _when(run):
    start, end = _time(run["started_at"]), _time(run["finished_at"])
    text = "started %s" % (start.strftime("%Y-%m-%d %H:%M:%S UTC") if start else MISSING)
    if start and end:
        text += ", took %s" % seconds((end - start).total_seconds())
    return text


def _time(text):
    try:
        return datetime.fromisoformat(str(text).replace("Z", "+00:00"))
    except ValueError:
        return None


def _headline(data, found, records):
    usable = [layout for layout in records if layout["usable"]]
    serving = texts((data["selection"] or {}).get("serving"))
    what = "%s checked" % plural(len(found["nodes"]), "node")
    if serving:
        what += ", serving on %s" % ", ".join(serving)
    if records:
        what += "; %d of %s benchmarked" % (len(usable), plural(len(records), "layout"))
    bad = found["failed"]
    if bad:
        verdict = "Not proven: %s." % _named(bad)
    elif found["overall"] == "skipped":
        verdict = "Nothing was measured in this run."
    else:
        verdict = "Every node and layout that was measured passed%s." % _with_something_to_look_at(found)
    return {
        "status": found["overall"],
        "what": what + ".",
        "verdict": verdict,
        "fastest": _fastest(data, usable, records),
    }


def _with_something_to_look_at(found):
    """Return how many passed as degraded and which, as the rest of a sentence; "" where all are healthy."""
    groups = []
    for what, verdicts in (("node", found["nodes"]), ("layout", found["layouts"])):
        names = [name for name, verdict in verdicts.items() if verdict["status"] == "degraded"]
        if names:
            groups.append("%d of %s (%s)" % (len(names), plural(len(verdicts), what), _few(names)))
    return ", %s with something to look at" % " and ".join(groups) if groups else ""


def _few(names):
    return ", ".join(names[:3]) + (" and %d more" % (len(names) - 3) if len(names) > 3 else "")


def _named(bad):
    """Return ``nodes node2, node3 failed; layout pp2_across incomplete``, at most three names each."""
    groups = {}
    for item in bad:
        groups.setdefault((item["what"], item["status"]), []).append(item["name"])
    parts = []
    for (what, status), names in sorted(groups.items(), key=lambda pair: (pair[0][1] != "failed", pair[0][0] != "node")):
        if what == "run":
            parts.append("the run's own records are incomplete")
            continue
        names = list(dict.fromkeys(names))
        parts.append("%s%s %s %s" % (what, "" if len(names) == 1 else "s", _few(names), status))
    return "; ".join(parts)


def _fastest(data, usable, records):
    """Return one sentence: the fastest layout, by how much, and why, as far as the data says why."""
    if not records:
        return "No layout was served in this run."
    if not usable:
        return "No layout has a benchmark that passed, so none is called the fastest."
    ranked = sorted(usable, key=lambda layout: -layout["summary"]["throughput_tok_s"]["mean"])
    best = ranked[0]
    rate = best["summary"]["throughput_tok_s"]
    text = "%s: %s" % (describe(best), ", ".join(part for part in (interval(rate, "tok/s"), in_flight(best)) if part))
    if len(ranked) == 1:
        return "Only " + text + ", no other layout to compare with."
    second = ranked[1]
    other = second["summary"]["throughput_tok_s"]
    disjoint = apart(rate, other)
    if disjoint:
        text = "Fastest is %s, %s as fast as the next, %s (%s)" % (
            text,
            factor(rate["mean"] / other["mean"]) if other["mean"] else MISSING,
            second["name"],
            interval(other, "tok/s"),
        )
    else:
        text = "Highest mean: %s; it is not told apart from %s (%s), %s" % (
            text,
            second["name"],
            interval(other, "tok/s"),
            "no interval is known" if disjoint is None else "the intervals overlap",
        )
    return text + _why(data, best, ranked) + "."


def _why(data, best, ranked):
    """Say what sets the fastest layout apart, with the measurement that goes with it."""
    if best["ranks"] == 1:
        text = "; one rank exchanges nothing with another"
    elif best["nodes"] == 1 and any((layout["nodes"] or 1) > 1 for layout in ranked):
        text = "; its ranks never leave the node"
    else:
        return ""
    lowest = {}
    for item in collectives(data):
        if item["op"] == "all_reduce" and item["status"] in PASSING and item["latency_8b_us"]:
            lowest[item["scope"]] = max(item["latency_8b_us"], lowest.get(item["scope"], 0))
    if "across" in lowest and "within" in lowest:
        text += ", where a small all-reduce takes %s within a node and %s across nodes" % (
            digits(lowest["within"], "µs"),
            digits(lowest["across"], "µs"),
        )
    return text


def _tiles(found, records):
    """Return the figures at the top: ``{label, value, note, status}``."""
    nodes = [item["status"] for item in found["nodes"].values()]
    statuses = [item["status"] for item in found["layouts"].values()]
    tiles = [
        {
            "label": "nodes passed",
            "value": "%d / %d" % (sum(status in PASSING for status in nodes), len(nodes)),
            "unit": None,
            "note": _count(nodes),
        }
    ]
    if statuses:
        tiles.append(
            {
                "label": "layouts passed",
                "value": "%d / %d" % (sum(status in PASSING for status in statuses), len(statuses)),
                "unit": None,
                "note": _count(statuses),
            }
        )
    usable = [layout for layout in records if layout["usable"]]
    for metric, label, unit, choose in (
        ("throughput_tok_s", "highest throughput", "tok/s", max),
        ("ttft_ms", "lowest TTFT", "ms", min),
        ("tpot_ms", "lowest TPOT", "ms", min),
    ):
        values = [(num(get(layout["summary"], metric, "mean")), layout) for layout in usable]
        values = [pair for pair in values if pair[0] is not None]
        if values:
            value, layout = choose(values, key=lambda pair: (pair[0], pair[1]["name"]))
            note = ", ".join(part for part in (layout["name"], in_flight(layout)) if part)
            tiles.append({"label": label, "value": digits(value), "unit": unit, "note": note})
    return tiles


def _count(statuses):
    names = ("healthy", "degraded", "incomplete", "failed", "skipped")
    return ", ".join("%d %s" % (statuses.count(name), name) for name in names if name in statuses)


def _nodes(data, found):
    columns = list(PHASES)
    for extra in ("serve", "other"):
        if any(extra in verdict["phases"] for verdict in found["nodes"].values()):
            columns.append(extra)
    lines = []
    for host, verdict in found["nodes"].items():
        top = first_reason(verdict) if verdict["status"] not in ("healthy", "skipped") else None
        others = [item for item in verdict["reasons"] if item["status"] not in ("healthy", "skipped") and item is not top]
        lines.append(
            {
                "host": host,
                "role": verdict["role"] or MISSING,
                "status": verdict["status"],
                "cells": [verdict["phases"].get(column) for column in columns],
                "seen": "%s: %s" % (top["check"], top["seen"]) if top else _calm(verdict),
                "threshold": top and top["threshold"],
                "remedy": top and top["remedy"],
                "others": others,
            }
        )
    return {"columns": columns, "rows": lines}


def _calm(verdict):
    skipped = next((item for item in verdict["reasons"] if item["status"] == "skipped"), None)
    if verdict["status"] == "skipped":
        return sentence(skipped) if skipped else "nothing was measured"
    return "%s passed" % plural(sum(item["status"] == "healthy" for item in verdict["reasons"]), "check")


def _selection(data, found):
    selection = data["selection"]
    if selection is None:
        return None
    excluded = selection.get("excluded")
    excluded = excluded if isinstance(excluded, dict) else dict.fromkeys(texts(excluded), "no reason was recorded")
    return {
        "serving": [{"host": host, "note": "head" if index == 0 else None} for index, host in enumerate(texts(selection.get("serving")))],
        "spares": texts(selection.get("spares")),
        "excluded": [{"host": str(host), "why": str(why) + _instead(selection, host)} for host, why in excluded.items()],
        "unplaced": [host for host in found["nodes"] if role_of(data, host) is None],
    }


def _instead(selection, host):
    """Say which spare serves in a node's place, if the node was due to serve."""
    for item in rows(selection.get("replaced")):
        if item.get("node") == host:
            return "; replaced by the spare %s" % item["by"] if item.get("by") else "; no spare was left to replace it"
    return ""


def _fabric(data):
    lines, seen = [], set()
    for item in collectives(data):
        # Where a group fails, each of its nodes keeps what it saw: the same numbers, once in the table.
        same = item["op"], item["tool"], item["control"], tuple(item["addresses"]), item["latency_8b_us"], item["peak_busbw_gbps"]
        if item["scope"] == "across" and same in seen:
            continue
        seen.add(same)
        swept, latency = latency_at(item, 16384)
        lines.append(
            {
                "op": item["op"],
                "scope": item["scope"] or MISSING,
                "host": item["host"],
                "status": item["status"],
                "how": (" by ".join(str(part) for part in (item["backend"], item["tool"]) if part) or MISSING)
                + (", %s" % item["control"] if item["control"] else ""),
                "ranks": "%s on %s" % (digits(item["ranks"]), plural(int(item["nodes"]), "node"))
                if item["ranks"] and item["nodes"]
                else MISSING,
                "latency": digits(item["latency_8b_us"], "µs"),
                "latency_16k": "%s%s" % (digits(latency, "µs"), "" if swept in (None, 16384) else " at " + size(swept)),
                "peak": digits(item["peak_busbw_gbps"], "GB/s"),
                "fit": _fit_text(item["fit"]),
                "transport": _transport(item),
                "path": _path(item),
                "baseline": against_baseline(item["baseline"]),
            }
        )
    return sorted(lines, key=lambda line: (line["op"], line["scope"] != "within", line["how"], line["host"]))


def _fit_text(fit):
    """Return ``21.4 µs + size / 2.4 GB/s (off by 6 %, at most 31 %)``; an em dash without a fit."""
    if fit is None:
        return MISSING
    text = digits(fit["alpha_us"], "µs")
    if fit["beta_gbps"]:
        text += " + size / %s" % digits(fit["beta_gbps"], "GB/s")
    off = [fit[key] for key in ("residual_rel_median", "residual_rel_max")]
    return text if None in off else "%s (off by %s %%, at most %s %%)" % (text, *("%.2g" % (100 * value) for value in off))


def _together(found):
    """Return what several nodes missed together: no node's own verdict, and still the run's."""
    return [item for item in found["failed"] if item["what"] in ("collective", "link")]


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


def _links(data):
    """Return a line for every pair, and for each of its ports: what was carried, and what it was to carry."""
    lines = []
    for item in links(data):
        backend = "(%s)" % item["backend"] if item["backend"] else None
        line = {
            "nodes": " – ".join(item["nodes"]),
            "status": item["status"],
            "round": digits(item["round"]),
            "what": " ".join(str(part) for part in (item["op"] or item["how"], backend) if part),
            "bandwidth": digits(item["bandwidth_gbps"], "GB/s"),
            "size": size(item["size_bytes"]),
            "latency": digits(item["latency_us"], "µs"),
            "threshold": "the other pairs",
            "why": _first_bad(item["reasons"]),
        }
        if not item["ports"]:
            lines.append(line)
        for port, rate in item["ports"]:
            mine = [reason for reason in item["reasons"] if reason["check"] == "link.%s" % port]
            threshold = mine[0]["threshold"] if mine else None
            changes = {
                "status": mine[0]["status"] if mine else item["status"],
                "what": "%s %s" % (item["how"] or "", port),
                "bandwidth": digits(rate, "Gbit/s"),
                "threshold": threshold if threshold and "Gbit" in threshold else "no baseline",
                "why": _first_bad(mine),
            }
            lines.append({**line, **changes})
    return lines


def _first_bad(reasons):
    return next((item["seen"] for item in reasons if item["status"] not in PASSING + ("skipped",)), None)


def _judged(data):
    """Return a line for every node that was judged by its pairs, the suspects first."""
    order = ("suspect", "mostly slow", "unknown", "clear")
    lines = [
        {
            "node": item["node"],
            "port": item["port"],
            "verdict": item["verdict"],
            "status": item["status"],
            "median": digits(item["median_gbps"], "GB/s"),
            "best": digits(item["best_gbps"], "GB/s"),
            "others": digits(item["others_median_gbps"], "GB/s"),
            "ratio": factor(item["ratio"]) if item["ratio"] is not None else MISSING,
            "bound": digits(item["bound_gbps"], "GB/s"),
        }
        for item in judged_nodes(data)
    ]
    return sorted(lines, key=lambda line: (order.index(line["verdict"]) if line["verdict"] in order else 9, line["node"]))


def _path(item):
    """Return the addresses, the interface and its rate, as far as they are known."""
    text = ", ".join(item["addresses"]) or MISSING
    if isinstance(item["interface"], str):
        text += " on %s" % item["interface"]
    if item["link_rate_gbit_s"]:
        text += " at %s" % digits(item["link_rate_gbit_s"], "Gbit/s")
    return text


def _run(run):
    shown = []
    for key, label in (
        ("run_id", "run"),
        ("started_at", "started"),
        ("finished_at", "finished"),
        ("playbook", "playbook"),
        ("inventory", "inventory"),
        ("limit", "limit"),
        ("tags", "tags"),
        ("skip_tags", "skipped tags"),
        ("check", "check mode"),
        ("ansible_version", "ansible-core"),
        ("plumbline_version", "Plumbline"),
    ):
        value = run.get(key)
        if isinstance(value, bool):
            value = "yes" if value else "no"
        if isinstance(value, list):
            value = ", ".join(str(item) for item in value)
        if value:
            shown.append((label, str(value)))
    return shown


def _environment(data):
    """Return ``(key, value, where)``; a key with different values on different facts shows each of them."""
    seen = {}
    for entry in data["facts"]:
        context = get(entry["fact"], "context")
        for key, value in (context if isinstance(context, dict) else {}).items():
            wanted = key.endswith("_version") or key == "version" or key in ENVIRONMENT
            if wanted and isinstance(value, (str, int, float)) and not isinstance(value, bool) and value != "":
                label = key if key != "version" else "%s version" % entry["kind"]
                seen.setdefault(label, {}).setdefault(str(value), set()).add(entry["host"])
    return [(key, value, ", ".join(sorted(hosts))) for key in sorted(seen) for value, hosts in sorted(seen[key].items())]


def _commands(run):
    """Return the commands that repeat this run and render its report again, as far as run.json tells them."""
    parts = ["ansible-playbook", str(run["playbook"] or "site.yml")]
    inventory = run["inventory"]
    for item in texts(inventory) if isinstance(inventory, (str, list)) else []:
        parts += ["-i", item]
    for key, option in (("tags", "--tags"), ("skip_tags", "--skip-tags")):
        values = [str(item) for item in run[key] if str(item) != "all"]
        if values:
            parts += [option, ",".join(values)]
    if run["limit"]:
        parts += ["--limit", str(run["limit"])]
    if run["check"]:
        parts.append("--check")
    return [
        ("repeat this run", shlex.join(parts)),
        ("render this report again", "ansible-playbook playbooks/report.yml -e %s" % _extra(run["run_id"])),
    ]


def _extra(run_id):
    return shlex.quote("report_run_dir=results/%s" % run_id)


def _phases(run):
    found = []
    for phase in run["phases"]:
        found.append({"name": str(phase.get("name") or "unnamed"), "duration": seconds(phase.get("duration_s"))})
    return found


def _measurements(data):
    return [
        {
            "host": entry["host"],
            "kind": entry["kind"],
            "name": entry["name"],
            "status": entry_status(entry),
            "duration": seconds(get(entry["fact"], "duration_s")),
            "command": str(get(entry["fact"], "command") or MISSING),
            "file": entry["file"],
            "problems": entry["problems"],
        }
        for entry in data["facts"]
    ]


def _models(data):
    found = []
    for entry in data["facts"]:
        if entry["kind"] != "model":
            continue
        measured = get(entry["fact"], "measured")
        sent, took = num(get(measured, "transferred_bytes")), num(get(measured, "transfer_s"))
        found.append(
            {
                "host": entry["host"],
                "name": entry["name"],
                "status": entry_status(entry),
                "files": digits(get(measured, "files")),
                "size": size(get(measured, "size_bytes")),
                "sent": size(sent),
                "rate": "%s/s" % size(sent / took) if sent and took else MISSING,
                "transfer": seconds(took),
                "verify": seconds(get(measured, "verify_s")),
                "corrupt": _corrupt(get(measured, "corrupt_files")),
                "source": str(get(entry["fact"], "context", "source") or MISSING),
                "manifest": str(get(entry["fact"], "context", "manifest_sha256") or "")[:12] or MISSING,
            }
        )
    return found


def _corrupt(value):
    """Return the corrupt files, given as a list of names or as their number, as text; None for none."""
    return ", ".join(texts(value)) or (plural(int(value), "file") if num(value) else None)


def _incidents(data):
    return [
        {
            "host": str(item.get("host") or "unknown"),
            "state": str(item.get("state") or "unknown"),
            "role": str(item.get("role") or MISSING),
            "task": str(item.get("task") or MISSING),
            "message": str(item.get("message") or "no message"),
            "at": str(item.get("at") or MISSING),
        }
        for item in rows(data["incidents"])
    ]
