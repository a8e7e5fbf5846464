"""What the report reads out of facts: layouts and collectives as flat records.

Facts come from files that may be odd: a key may be missing, null, of the wrong type or not
finite. Everything here answers ``None`` or an empty list then, so that the rest of the report
still renders and says what is missing. Standard library only.
"""

from __future__ import annotations

import math

from ...clocks.judge import POWER_CAP_SHARE
from ...core.fact import PASSING, STATUSES, worst
from ...model.shape import DTYPE_BYTES

# Bytes of one value on the wire, by the name that a model's config.json or vLLM gives the type; weights of 8 bits have no arithmetic there.
WIRE_BYTES = dict(DTYPE_BYTES, float8_e4m3fn=1, fp8=1)

# Numbers of a verdict on a node by its pairs.
JUDGED = ("pairs", "median_gbps", "best_gbps", "others_median_gbps", "ratio", "bound_gbps")

METRICS = ("throughput_tok_s", "decode_tok_s", "ttft_ms", "tpot_ms", "itl_ms", "e2e_ms")
# Summaries that a benchmark has where an SLO was asked for.
GOODPUT = ("request_goodput_per_s", "goodput_share")


def num(value):
    """Return ``value`` if it is a finite number (not a bool), else None."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    return value if math.isfinite(value) else None


def get(value, *path):
    """Return the value at ``path`` in nested dictionaries, or None."""
    for key in path:
        if not isinstance(value, dict):
            return None
        value = value.get(key)
    return value


def rows(value):
    """Return the dictionaries in a list; nothing for anything else."""
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def texts(value):
    """Return the non-empty strings in a list (or the one string) as a list."""
    if isinstance(value, str):
        value = [value]
    return [item for item in value if isinstance(item, str) and item] if isinstance(value, list) else []


def entry_status(entry):
    """Return the status of a loaded fact: an invalid fact is never better than incomplete."""
    status = get(entry["fact"], "status")
    if status not in STATUSES:
        status = "incomplete"
    return worst([status, "incomplete"]) if entry["problems"] else status


def entry_reasons(entry):
    """Return the reasons of a loaded fact, its schema problems first, all with string values."""
    found = [
        {
            "check": "fact.schema",
            "status": "incomplete",
            "seen": "%s: %s" % (entry["file"], problem),
            "threshold": "a fact as in docs/schema/%s.schema.json" % entry["kind"],
            "remedy": "Correct the module that wrote this fact, or its schema, and run that phase again.",
        }
        for problem in entry["problems"]
    ]
    for item in rows(get(entry["fact"], "reasons")):
        status = item.get("status")
        found.append(
            {
                "check": str(item.get("check") or "unnamed"),
                "status": status if status in STATUSES else "incomplete",
                "seen": str(item.get("seen") or "nothing was recorded"),
                "threshold": None if item.get("threshold") is None else str(item["threshold"]),
                "remedy": None if item.get("remedy") is None else str(item["remedy"]),
            }
        )
    return found


def of_kind(data, *kinds):
    """Return the loaded facts of these kinds, in the order in which they were started."""
    found = [entry for entry in data["facts"] if entry["kind"] in kinds]
    return sorted(found, key=lambda entry: (str(get(entry["fact"], "started_at") or "~"), entry["host"], entry["file"]))


def _fit(value):
    """Return the alpha-beta fit of a sweep, with numbers only; None without a start-up time."""
    keys = ("alpha_us", "beta_gbps", "residual_rel_median", "residual_rel_max")
    found = {key: num(get(value, key)) for key in keys}
    return None if found["alpha_us"] is None else found


def _transport(value):
    """Return a transport verdict as ``{network, gdrdma, devices, expected, within}``; a text is the network; None without one."""
    if isinstance(value, str) and value:
        value = {"verdict": value}
    if not isinstance(value, dict):
        return None
    network = value.get("verdict")
    return {
        "network": network if isinstance(network, str) else None,
        "gdrdma": value.get("gdrdma") is True,
        "devices": texts(list(value["devices"]) if isinstance(value.get("devices"), dict) else value.get("devices")),
        "expected": value.get("expected") if isinstance(value.get("expected"), str) else None,
        "within": texts(value.get("within_node")),
    }


def shared_by(entry):
    """Return the nodes (names or addresses) that a fact is about together; none where it is about its own node only.

    What several nodes measure together (a collective across, a pair) does not say which of them it was: it is no verdict
    on the node that keeps the fact.
    """
    context = get(entry["fact"], "context")
    if entry["kind"] == "collective" and get(context, "scope") == "across":
        return texts(get(context, "addresses")) or [entry["host"]]
    return texts(get(context, "nodes")) if entry["kind"] == "link" and not get(context, "node") else []


def layout_name(entry):
    """Return the layout that a startup or benchmark fact is about."""
    name = get(entry["fact"], "context", "layout")
    return name if isinstance(name, str) and name else entry["name"]


def layouts(data):
    """Return one record per layout, in the selection's order, then in the order in which they were started.

    ``usable`` says that its benchmark may be compared: the benchmark fact passes and has a
    throughput. ``summary`` has only numbers, by metric.
    """
    found = {}
    for entry in of_kind(data, "startup", "benchmark"):
        record = found.setdefault(layout_name(entry), {"startup": [], "benchmark": []})
        record[entry["kind"]].append(entry)
    owed = _asked_for(data, bool(found))
    names = [name for name in _selected(data) if name in found or name in owed]
    names += [name for name in found if name not in names]
    return [_layout(name, found.get(name, {"startup": [], "benchmark": []})) for name in names]


def asked(data, *words):
    """Return whether this run was to come to a phase whose name has one of these words.

    A play's name is in ``run.json`` even where ``--tags`` left none of its tasks: the tags decide then.
    """
    run = data["run"]
    tags = [str(tag).lower() for tag in run["tags"] if str(tag).lower() != "all"]
    names = tags or [str(phase.get("name") or "").lower() for phase in run["phases"]]
    skipped = " ".join(str(tag).lower() for tag in run["skip_tags"])
    return not run["check"] and any(word in name and word not in skipped for word in words for name in names)


def _asked_for(data, served):
    """Return the layouts of the selection, if this run came to serving: each of them owes a fact."""
    roles = {incident.get("role") for incident in data["incidents"]}
    if data["run"]["check"] or not (served or roles & {"vllm_serve", "serve_benchmark"} or asked(data, "bench", "serve")):
        return []
    return _selected(data)


def _selected(data):
    """Return the names of the selection's layouts, each once."""
    names = [item.get("name") for item in rows(get(data["selection"], "layouts"))]
    return list(dict.fromkeys(name for name in names if isinstance(name, str) and name))


def _layout(name, entries):
    start, bench = ((entries[kind] or [None])[-1] for kind in ("startup", "benchmark"))
    contexts = [get(entry["fact"], "context") for entry in (bench, start) if entry]
    measured = get(bench["fact"], "measured") if bench else None

    def first(key, accept):
        return next((accept(get(context, key)) for context in contexts if accept(get(context, key))), None)

    def whole(value):
        value = num(value)
        return int(value) if value is not None and value == int(value) else None

    ray = first("ray_nodes", rows) or []
    summary = {
        metric: {key: num(value) for key, value in (get(measured, "summary", metric) or {}).items()}
        for metric in METRICS + GOODPUT
        if isinstance(get(measured, "summary", metric), dict)
    }
    tp, pp = first("tp", whole), first("pp", whole)
    return {
        "name": name,
        "entries": entries,
        "host": (bench or start or {}).get("host"),
        "tp": tp,
        "pp": pp,
        "ranks": tp * pp if tp and pp else None,
        "nodes": first("nodes", whole),
        "executor": first("executor", lambda value: value if isinstance(value, str) else None),
        "runtime": first("runtime", lambda value: value if isinstance(value, str) else None),
        "addresses": first("node_addresses", texts) or [],
        "ray_addresses": list(dict.fromkeys(str(node["address"]) for node in ray if node.get("address"))),
        "link_rate_gbit_s": first("link_rate_gbit_s", num),
        "layers": first("model_layers", whole),
        "hidden_size": first("model_hidden_size", whole),
        "dtype_bytes": first("model_dtype", lambda value: WIRE_BYTES.get(str(value).replace("torch.", ""))),
        "concurrency": whole(get(measured, "concurrency")),
        "gpu": _gpu(get(bench["fact"], "context")) if bench else None,
        "hbm_read_gbps": first("hbm_read_gbps", num),
        "hbm_read_source": first("hbm_read_source", lambda value: value if isinstance(value, str) else None),
        "read_per_token_bytes": first("read_per_token_bytes", num),
        "kv_bytes_per_token": first("kv_bytes_per_token", num),
        "bytes_unknown": first("model_bytes_unknown", lambda value: value if isinstance(value, str) else None),
        "max_num_seqs": first("max_num_seqs", whole),
        "load_format": first("load_format", lambda value: value if isinstance(value, str) else None),
        "compile_cache": first("compile_cache_hit", lambda value: ("miss", "hit")[value] if isinstance(value, bool) else None),
        "power_caps": _power_caps(get(bench["fact"], "context", "sweep_clocks")) if bench else [],
        "distribution": _numbers(get(measured, "distribution")),
        "slo": {key: value for key, value in _plain(get(measured, "slo")).items() if num(value)},
        "stop": _plain(get(measured, "stop")),
        "sweep": _levels(measured),
        "baseline": _baseline(bench) if bench else None,
        "startup": get(start["fact"], "measured") if start else None,
        "measured": measured if isinstance(measured, dict) else {},
        "summary": summary,
        "runs": rows(get(measured, "runs")),
        "usable": bool(bench) and entry_status(bench) in PASSING and num(get(summary, "throughput_tok_s", "mean")) is not None,
    }


def _plain(value):
    return value if isinstance(value, dict) else {}


def _numbers(value):
    """Return a dictionary of dictionaries of numbers, the numbers only."""
    return {key: {name: num(item) for name, item in _plain(inner).items()} for key, inner in _plain(value).items()}


def _levels(measured):
    """Return a sweep's levels that have both throughputs, upwards."""
    needed = ("concurrency", "total_throughput_tok_s", "throughput_tok_s")
    found = [level for level in rows(get(measured, "sweep")) if all((num(level.get(key)) or 0) > 0 for key in needed)]
    return sorted(found, key=lambda level: level["concurrency"])


def _power_caps(clocks):
    """Return the GPUs that their power limit held down in a window of clocks, with the share of their time under load.

    From :data:`clocks_judge.POWER_CAP_SHARE` upwards, as the clocks are judged; by the samples where the driver counts no time.
    """
    found = []
    samples, window_s = (num(get(clocks, key)) for key in ("samples", "window_s"))
    for bus, gpu in sorted(_plain(get(clocks, "gpus")).items()):
        loaded = num(get(gpu, "loaded_samples"))
        if get(gpu, "in_use") is not True or not (samples and window_s and loaded):
            continue
        held_us, seen = num(get(gpu, "throttle_us", "sw_power_cap")), num(get(gpu, "reasons_seen", "sw_power_cap"))
        share = held_us / (window_s * 1e6 * loaded / samples) if held_us is not None else (seen or 0) / loaded
        if share >= POWER_CAP_SHARE:
            low, high = (num(get(gpu, "sm_mhz", key)) for key in ("min", "max"))
            found.append({"gpu": bus, "share": min(1, share), "limit_w": num(get(gpu, "power_limit_w")), "low_mhz": low, "high_mhz": high})
    return found


def _gpu(context):
    """Return the GPU's name, "" where the benchmark says that there is no GPU, None where it says nothing."""
    if get(context, "clocks", "seen") == "no GPU":
        return ""
    name = get(context, "gpu_name")
    return name if isinstance(name, str) and name else None


def _baseline(entry):
    """Return a fact's reason about a baseline (a check named ``*.baseline``), or None."""
    return next((item for item in entry_reasons(entry) if item["check"].endswith(".baseline")), None)


def describe(layout):
    """Return a layout in words, as far as it is known: ``tp2_across (TP 2, 2 nodes, ray)``."""
    parts = []
    for key, label in (("tp", "TP %d"), ("pp", "PP %d")):
        if layout[key] and (layout[key] > 1 or key == "tp"):
            parts.append(label % layout[key])
    if layout["nodes"]:
        parts.append("1 node" if layout["nodes"] == 1 else "%d nodes" % layout["nodes"])
    if layout["executor"]:
        parts.append(layout["executor"])
    if layout["runtime"] and layout["runtime"] != "host":
        parts.append(layout["runtime"])
    return "%s (%s)" % (layout["name"], ", ".join(parts)) if parts else layout["name"]


def _timed(point):
    """Return a point whose time_us has a median: nccl-tests print the mean only, which stands in for it then."""
    mean = num(get(point, "time_us", "mean"))
    if mean is None or num(get(point, "time_us", "median")) is not None:
        return point
    return dict(point, time_us=dict(point["time_us"], median=mean))


def collectives(data):
    """Return one record per collective fact; ``sweep`` sorted by size, ``op`` and ``scope`` always set."""
    found = []
    for entry in of_kind(data, "collective"):
        fact = entry["fact"]
        op, _dot, scope = entry["name"].rpartition(".")
        named = [get(fact, "context", "op"), get(fact, "context", "scope")]
        sweep = [_timed(point) for point in rows(get(fact, "measured", "sweep")) if (num(point.get("size_bytes")) or 0) > 0]
        found.append(
            {
                "host": entry["host"],
                "name": entry["name"],
                "op": named[0] if isinstance(named[0], str) else op or entry["name"],
                "scope": named[1] if isinstance(named[1], str) else scope,
                "status": entry_status(entry),
                "sound": _sound(entry),
                "backend": get(fact, "context", "backend"),
                "tool": get(fact, "context", "tool"),
                "interface": get(fact, "context", "interface"),
                "addresses": texts(get(fact, "context", "addresses")),
                "link_rate_gbit_s": num(get(fact, "context", "link_rate_gbit_s")),
                "baseline": _baseline(entry),
                "ranks": num(get(fact, "measured", "ranks")),
                "nodes": num(get(fact, "measured", "nodes")),
                "latency_8b_us": num(get(fact, "measured", "latency_8b_us")) or num(get(fact, "measured", "latency_8b_mean_us")),
                "peak_busbw_gbps": num(get(fact, "measured", "peak_busbw_gbps")),
                "fit": _fit(get(fact, "measured", "fit")),
                "transport": _transport(get(fact, "context", "transport")),
                # A negative control (a forced socket) shows what a fallback would cost; it is no measurement of the fabric.
                "control": get(fact, "context", "control") or None,
                "sweep": sorted(sweep, key=lambda point: point["size_bytes"]),
            }
        )
    return found


def _sound(entry):
    """Tell whether the sweep's numbers hold: the fact passed, or all that it missed is a threshold."""
    bad = [item["check"] for item in entry_reasons(entry) if item["status"] not in PASSING + ("skipped",)]
    return entry_status(entry) in PASSING or (bool(bad) and all(check.endswith(".baseline") for check in bad))


def links(data):
    """Return one record per pair of nodes with a link fact: ``bandwidth_gbps`` (10⁹ bytes/s) or ``ports`` (10⁹ bits/s)."""
    found = []
    for entry in of_kind(data, "link"):
        nodes = shared_by(entry)
        if len(nodes) != 2:
            continue
        measured = get(entry["fact"], "measured")
        found.append(
            {
                "host": entry["host"],
                "name": entry["name"],
                "nodes": nodes,
                "status": entry_status(entry),
                "round": num(get(entry["fact"], "context", "round")),
                "op": get(entry["fact"], "context", "op"),
                "how": get(entry["fact"], "context", "tool"),
                "backend": get(entry["fact"], "context", "backend"),
                "bandwidth_gbps": num(get(measured, "bandwidth_gbps")),
                "latency_us": num(get(measured, "latency_us")),
                "size_bytes": num(get(measured, "size_bytes")),
                "ports": [(str(port.get("port")), num(port.get("bandwidth_gbit_s"))) for port in rows(get(measured, "ports"))],
                "reasons": entry_reasons(entry),
            }
        )
    return found


def judged_nodes(data):
    """Return one record per verdict on a node by its pairs, ``status`` and numbers as in the fact, ``port`` None or a port."""
    found = []
    for entry in of_kind(data, "link"):
        context, measured = (get(entry["fact"], key) for key in ("context", "measured"))
        node = get(context, "node")
        if not isinstance(node, str):
            continue
        for item in rows(get(measured, "ports")) or [measured if isinstance(measured, dict) else {}]:
            verdicts = texts(get(context, "verdicts"))
            index = len([other for other in found if other["entry"] is entry])
            found.append(
                {
                    "entry": entry,
                    "node": node,
                    "nodes": texts(get(context, "nodes")),
                    "port": item.get("port"),
                    "status": entry_status(entry),
                    "verdict": verdicts[index] if index < len(verdicts) else "unknown",
                    "slow_links": [texts(pair) for pair in get(context, "slow_links") or [] if len(texts(pair)) == 2],
                    **{key: num(item.get(key)) for key in JUDGED},
                }
            )
    return found


def latency_at(collective, size_bytes):
    """Return ``(swept size in bytes, median time in µs)`` at the swept size nearest to ``size_bytes``.

    Nearest by ratio, as sweeps double from size to size; ``(None, None)`` without a sweep.
    """
    points = [
        (abs(math.log2(point["size_bytes"] / size_bytes)), point["size_bytes"], num(get(point, "time_us", "median")))
        for point in collective["sweep"]
        if (num(get(point, "time_us", "median")) or 0) > 0
    ]
    return min(points)[1:] if points else (None, None)
