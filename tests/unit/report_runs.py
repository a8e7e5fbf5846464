"""Synthetic run folders for the report's tests. No number here was measured: they are made up to test code."""

import json
import statistics

HASH = "0" * 64
LAYOUTS = {
    # name: tp, pp, nodes, executor, ms a token, ms to the first token, spread between runs
    "tp1": (1, 1, 1, "mp", 8.0, 40.0, 0.01),
    "tp2_within": (2, 1, 1, "mp", 14.0, 70.0, 0.02),
    "pp2_across": (1, 2, 2, "ray", 17.0, 90.0, 0.015),
    "tp2_across": (2, 1, 2, "ray", 58.0, 240.0, 0.02),
}
# The plots of a whole run.
PLOTS = [
    "throughput_by_layout",
    "latency_by_layout",
    "bandwidth_all_reduce",
    "latency_all_reduce",
    "bandwidth_sendrecv",
    "latency_sendrecv",
]
NODES = ["node1", "node2", "node3"]
ADDRESSES = {"node1": "10.98.0.11", "node2": "10.98.0.12", "node3": "10.98.0.13"}


def fact(kind, name, status="healthy", measured=None, context=None, reasons=None, minute=0, command=None):
    """Return one fact as a module would."""
    if reasons is None:
        reasons = [reason(f"{kind}.check", status, f"synthetic {status}")]
    return {
        "schema": f"plumbline.{kind}/1",
        "name": name,
        "status": status,
        "reasons": reasons,
        "measured": measured or {},
        "context": context or {},
        "started_at": f"2026-11-24T12:{minute:02d}:00.000000Z",
        "duration_s": 1.5,
        "command": command,
    }


def reason(check, status, seen, threshold=None, remedy=None):
    return {"check": check, "status": status, "seen": seen, "threshold": threshold, "remedy": remedy}


def stats(values):
    mean, stdev = statistics.mean(values), statistics.stdev(values)
    half = 2.776 * stdev / len(values) ** 0.5
    return {
        "n": len(values),
        "mean": mean,
        "stdev": stdev,
        "cv": stdev / mean,
        "median": statistics.median(values),
        "min": min(values),
        "max": max(values),
        "ci95_low": mean - half,
        "ci95_high": mean + half,
    }


def benchmark(name, minute=30, tokens=128, **changes):
    """Return the benchmark fact of one of LAYOUTS, with five runs that agree with each other."""
    tp, pp, nodes, executor, tpot, ttft, spread = {**dict(zip(range(7), LAYOUTS[name])), **changes}.values()
    runs = []
    for step in (-1.0, 0.4, 1.2, -0.7, 0.1):
        token, first = tpot * (1 + spread * step), ttft * (1 - spread * 3 * step)
        e2e = first + (tokens - 1) * token
        runs.append(
            {
                "num_prompts": 1,
                "completed": 1,
                "failed": 0,
                "duration_s": e2e / 1000,
                "total_output_tokens": tokens,
                "throughput_tok_s": tokens / e2e * 1000,
                "decode_tok_s": 1000 / token,
                "ttft_ms": first,
                "tpot_ms": token,
                "itl_ms": token,
                "e2e_ms": e2e,
            }
        )
    keys = [key for key in runs[0] if key.endswith(("_ms", "_tok_s"))]
    measured = {
        "input_len_tokens": 57,
        "output_len_tokens": tokens,
        "concurrency": 1,
        "num_runs": 5,
        "runs": runs,
        "summary": {key: stats([run[key] for run in runs]) for key in keys},
    }
    context = {
        **_layout_context(name),
        "model_layers": 8,
        "model_hidden_size": 256,
        "model_dtype": "float32",
    }
    return fact("benchmark", name, measured=measured, context=context, minute=minute, command="vllm bench serve …")


def _layout_context(name):
    tp, pp, nodes, executor = LAYOUTS[name][:4]
    addresses = [ADDRESSES[node] for node in NODES[:nodes]]
    context = {"layout": name, "tp": tp, "pp": pp, "nodes": nodes, "executor": executor, "node_addresses": addresses}
    if executor == "ray":
        context["ray_nodes"] = [{"address": address, "node_id": "id-" + address} for address in addresses]
    return context


def health(status="healthy", reasons=None, command=None, **measured):
    """Return a health fact of a node without a GPU."""
    numbers = {
        "cpu_count": 2,
        "memory_total_bytes": 25769803776,
        "memory_available_bytes": 17179869184,
        "disk_free_bytes": {"/var/lib/plumbline": 53687091200},
        "clock_skew_ms": 0.4,
    }
    context = dict.fromkeys(("os", "booted_at", "sku", "driver"), None)
    context.update(hostname="synthetic", kernel="6.1.0", python="3.11.2")
    return fact("health", "node", status, {**numbers, **measured}, context, reasons, command=command)


def startup(name, minute=29):
    measured = {
        "ready_s": 41.5,
        "load_weights_s": 0.42,
        "model_gib": 0.05,
        "kv_cache_gib": 1.0,
        "kv_cache_tokens": 65536,
    }
    context = {**_layout_context(name), "runtime": "host", "vllm_version": "0.32.0"}
    return fact("startup", name, measured=measured, context=context, minute=minute, command="vllm serve …")


def collective(op, scope, base_us, peak_gbps):
    """Return a sweep of a pipe with a start-up time and a bandwidth."""
    sweep = []
    for power in range(3, 27):
        size = 2**power
        median = base_us + size / (peak_gbps * 1e3)
        times = {"min": median * 0.9, "median": median, "p90": median * 1.3, "max": median * 2}
        rate = size / median / 1e3
        sweep.append({"size_bytes": size, "iterations": 50, "time_us": times, "algbw_gbps": rate, "busbw_gbps": rate})
    measured = {
        "ranks": 2,
        "nodes": 1 if scope == "within" else 2,
        "sweep": sweep,
        "latency_8b_us": sweep[0]["time_us"]["median"],
        "peak_busbw_gbps": max(point["busbw_gbps"] for point in sweep),
    }
    context = {
        "op": op,
        "scope": scope,
        "backend": "gloo",
        "tool": "torch",
        "addresses": list(ADDRESSES.values())[: measured["nodes"]],
        "interface": "lo" if scope == "within" else "eth0",
        "torch_version": "2.13.0+cpu",
        "link_rate_gbit_s": None if scope == "within" else 1.0,
    }
    reasons = [
        reason("collective.values", "healthy", "every element correct at 24 sizes", "no wrong value"),
        reason("collective.baseline", "skipped", "no baseline is known for this fabric"),
    ]
    return fact("collective", f"{op}.{scope}", measured=measured, context=context, reasons=reasons, minute=10)


def serving_all_reduce(*results, status="healthy"):
    """Return the fact of the serving runtime's own all-reduce; a result is ``(tp, nodes, bytes, median, minimum, p90)``, times in µs."""
    rows = [
        {
            "tp": tp,
            "nodes": nodes,
            "batch": 1,
            "message_bytes": size,
            "dtype": "bfloat16",
            "time_us": median,
            "spread_us": {"min": low, "median": median, "p90": high, "max": high},
            "method": "cuda_graph",
            "path": "nccl" if nodes > 1 else "custom",
            "eager_time_us": 60.0,
            "eager_path": "custom",
            "operations_per_sample": 4000,
            "layouts": ["tp2_across" if nodes > 1 else "tp2_within"],
            "wrong": 0,
        }
        for tp, nodes, size, median, low, high in results
    ]
    made = collective("serving", "within", 1.0, 1.0)
    made.update(name="serving_all_reduce", status=status)
    made["measured"] = {"ranks": max(row["tp"] for row in rows), "nodes": max(row["nodes"] for row in rows), "results": rows}
    made["context"].update(op="serving_all_reduce", tool="vllm")
    return made


def whole_run():
    """Return ``{relative path: content}`` of a run in which everything passed."""
    files = {
        "run.json": {
            "run_id": "20261124T120000Z",
            "started_at": "2026-11-24T12:00:00Z",
            "finished_at": None,
            "playbook": "site.yml",
            "tags": ["all"],
            "skip_tags": [],
            "limit": None,
            "inventory": "inventory/lab",
            "check": False,
            "ansible_version": "2.19.14",
            "plumbline_version": "0.1.0",
            "hosts": list(NODES),
            "phases": [
                {"name": name, "started_at": "2026-11-24T12:00:00Z", "duration_s": duration}
                for name, duration in (("Node health", 4.2), ("Fabric baseline", 61.0), ("Serve and benchmark", 312.4))
            ],
        },
        "incidents.json": [],
        "selection.json": {
            "serving": ["node1", "node2"],
            "spares": ["node3"],
            "excluded": {},
            "layouts": [{"name": name, "nodes": NODES[: LAYOUTS[name][2]], "missing": 0} for name in LAYOUTS],
        },
    }
    for node in NODES:
        put(files, node, health())
        clocks = {"state": "reported", "boot_id": None, "driver": None}
        put(files, node, fact("clocks", "node", "skipped", context=clocks, reasons=[reason("gpu", "skipped", "no GPU")]))
    for index, node in enumerate(NODES[:2]):
        put(files, node, collective("all_reduce", "within", 21.0 + index, 2.4))
        put(files, node, collective("sendrecv", "within", 12.0 + index, 3.1))
        measured = {
            "files": 9,
            "size_bytes": 52428800,
            "transferred_bytes": 52428800 * index,
            "transfer_s": 0.9 * index,
        }
        measured.update(verify_s=0.2, corrupt_files=0)
        context = {"source": "node1:/m", "path": "/var/lib/plumbline/models/tiny", "manifest_sha256": HASH}
        put(files, node, fact("model", "tiny", measured=measured, context=context, minute=20))
    put(files, "node1", collective("all_reduce", "across", 640.0, 0.11))
    put(files, "node1", collective("sendrecv", "across", 310.0, 0.118))
    for minute, name in enumerate(LAYOUTS, 30):
        put(files, "node1", startup(name, minute))
        put(files, "node1", benchmark(name, minute))
    return files


def put(files, host, content, name=None):
    """Add a fact; the file's name is the fact's own unless ``name`` says otherwise."""
    kind = content["schema"].split(".")[1].split("/")[0]
    name = name or f"{kind}.{content['name']}"
    files[f"facts/{host}/{name}.json"] = content


def write(files, folder):
    """Write the run folder; text is written as it is, the rest as JSON (with NaN where Python has one)."""
    for path, content in files.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
    return folder


def pair(one, two, round_number, gbps, status="healthy"):
    """Return the link fact of a pair; without ``gbps`` one that left no number."""
    measured = {"ranks": 2}
    reasons = [reason("collective.values", "healthy", "every element correct at 2 sizes", "no wrong value")]
    if gbps is None:
        status, reasons = "failed", [reason("collective.peer", "failed", "lost %s" % two, "all ranks", "look at %s" % two)]
    else:
        measured.update(bandwidth_gbps=gbps, size_bytes=4194304, latency_us=410.0, latency_size_bytes=8)
    context = {"nodes": [one, two], "addresses": ["10.98.0.1", "10.98.0.2"], "round": round_number, "op": "all_reduce"}
    context.update(backend="gloo", tool="torch", scope="across")
    return fact("link", "pair.%s.%s" % (one, two), status, measured, context, reasons, minute=12)


def judged(nodes, values, **changes):
    """Return ``{node: link fact}``: the verdict on each node by ``{(one, two): gbps}``, as the module makes it."""
    from ansible.module_utils.plumbline.controller.pair_verdict import measurement

    links = [{"nodes": list(names), "bandwidth_gbps": value} for names, value in values.items()]
    found = {node: measurement(node, nodes, {None: links}, 0.7, 3.0, "failed").fact() for node in nodes}
    return {node: dict(one, started_at="2026-11-24T12:13:00.000000Z", **changes) for node, one in found.items()}


def put_pairs(files, nodes, values):
    """Add the facts of pairs and the verdicts on the nodes."""
    for number, ((one, two), value) in enumerate(values.items()):
        put(files, one, pair(one, two, number + 1, value))
    for node, one in judged(nodes, values).items():
        put(files, node, one)


def with_sweep(one, levels=((1, 100.0), (4, 380.0), (16, 900.0)), limit=8):
    """Give a benchmark a sweep, per-request quantiles, an SLO and a stop rule; numbers are made up."""
    quantiles = {"n": 15, "mean": 8.0, "stdev": 0.4, "cv": 0.05, "min": 7.0, "p50": 8.1, "p90": 9.2, "p99": 9.9, "max": 10.0}
    one["context"]["max_num_seqs"] = limit
    one["measured"]["slo"] = {"ttft_ms": 200.0, "tpot_ms": 20.0}
    one["measured"]["distribution"] = dict.fromkeys(("ttft_ms", "tpot_ms", "itl_ms", "e2e_ms"), quantiles)
    one["measured"]["stop"] = {"rule": "at least 5 runs, then …", "width_percent": 1.7, "reached": True, "runs": 5}
    one["measured"]["summary"].update(request_goodput_per_s=stats([0.8, 0.9, 1.0]), goodput_share=stats([0.8, 1.0, 1.0]))
    one["measured"]["sweep"] = [
        {
            "concurrency": count, "num_prompts": 4 * count, "completed": 4 * count, "failed": 0, "total_throughput_tok_s": total,
            "throughput_tok_s": 0.9 * total / count, "ttft_ms": 40.0 * count, "ttft_p99_ms": 50.0 * count, "tpot_ms": 1000 * count / total,
            "tpot_p99_ms": 1100 * count / total, "e2e_ms": 900.0, "e2e_p99_ms": 990.0, "request_goodput_per_s": 3.2, "goodput_share": 0.75,
            "queued": count > limit, "preemptions": 2 if count > limit else 0, "burst_requests": 0,
        }
        for count, total in levels
    ]  # fmt: skip
    return one
