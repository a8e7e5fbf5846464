"""Layouts as records: their shape, their model, their start, and what their benchmark measured. Standard library only."""

from __future__ import annotations

from ....model.shape import DTYPE_BYTES
from .asked import owed_layouts, selected_layouts
from .benchmarks import benchmark
from .entries import of_kind
from .reading import get, num, rows, text, texts, whole

# Bytes of one value on the wire, by the name that a model's config.json or vLLM gives the type; weights of 8 bits have no arithmetic there.
WIRE_BYTES = dict(DTYPE_BYTES, float8_e4m3fn=1, fp8=1)


def layouts(data):
    """Return one record per layout, in the selection's order, then in the order in which they were started.

    ``usable`` says that its benchmark may be compared: the benchmark fact passes and has a
    throughput. ``summary`` has only numbers, by metric.
    """
    found = {}
    for entry in of_kind(data, "startup", "benchmark"):
        record = found.setdefault(layout_name(entry), {"startup": [], "benchmark": []})
        record[entry["kind"]].append(entry)
    owed = owed_layouts(data, bool(found))
    names = [name for name in selected_layouts(data) if name in found or name in owed]
    names += [name for name in found if name not in names]
    return [_layout(name, found.get(name, {"startup": [], "benchmark": []})) for name in names]


def layout_name(entry):
    """Return the layout that a startup or benchmark fact is about."""
    name = get(entry["fact"], "context", "layout")
    return name if isinstance(name, str) and name else entry["name"]


def _layout(name, entries):
    """Return the record of a layout; of several facts of one kind the last one counts."""
    start, bench = ((entries[kind] or [None])[-1] for kind in ("startup", "benchmark"))
    contexts = [get(entry["fact"], "context") for entry in (bench, start) if entry]
    return {
        "name": name,
        "entries": entries,
        "host": (bench or start or {}).get("host"),
        **_shape(contexts),
        **_model(contexts),
        **_startup(start, contexts),
        **benchmark(bench),
    }


def _first(contexts, key, accept):
    """Return the first context's value that ``accept`` makes something of: the benchmark's goes before the startup's."""
    return next((accept(get(context, key)) for context in contexts if accept(get(context, key))), None)


def _shape(contexts):
    """Return how the layout is spread: ranks, nodes and their addresses, executor, runtime."""
    tp, pp = _first(contexts, "tp", whole), _first(contexts, "pp", whole)
    ray = _first(contexts, "ray_nodes", rows) or []
    return {
        "tp": tp,
        "pp": pp,
        "ranks": tp * pp if tp and pp else None,
        "nodes": _first(contexts, "nodes", whole),
        "executor": _first(contexts, "executor", text),
        "runtime": _first(contexts, "runtime", text),
        "addresses": _first(contexts, "node_addresses", texts) or [],
        "ray_addresses": list(dict.fromkeys(str(node["address"]) for node in ray if node.get("address"))),
        "link_rate_gbit_s": _first(contexts, "link_rate_gbit_s", num),
    }


def _model(contexts):
    """Return what a token of this model costs: bytes that are read and sent, and the rate of the memory that they are read from."""
    return {
        "layers": _first(contexts, "model_layers", whole),
        "hidden_size": _first(contexts, "model_hidden_size", whole),
        "dtype_bytes": _first(contexts, "model_dtype", lambda value: WIRE_BYTES.get(str(value).replace("torch.", ""))),
        "hbm_read_gbps": _first(contexts, "hbm_read_gbps", num),
        "hbm_read_source": _first(contexts, "hbm_read_source", text),
        "read_per_token_bytes": _first(contexts, "read_per_token_bytes", num),
        "kv_bytes_per_token": _first(contexts, "kv_bytes_per_token", num),
        "bytes_unknown": _first(contexts, "model_bytes_unknown", text),
        "steps_unknown": _first(contexts, "tokens_per_step_unknown", text),
        "quantization": _first(contexts, "quantization", text),
        "extra_args": _first(contexts, "extra_args", text),
    }


def _startup(start, contexts):
    """Return how the server was started, and what its startup fact measured (None without one)."""
    return {
        "max_num_seqs": _first(contexts, "max_num_seqs", whole),
        "load_format": _first(contexts, "load_format", text),
        "compile_cache": _first(contexts, "compile_cache_hit", lambda value: ("miss", "hit")[value] if isinstance(value, bool) else None),
        "startup": get(start["fact"], "measured") if start else None,
    }


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
