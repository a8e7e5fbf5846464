"""The table of what each GPU reads, computes and copies: a line for each of a few GPUs, for each node of many. Standard library only."""

from __future__ import annotations

from ..format import MISSING, digits, plural
from ..records.entries import entry_status, of_kind
from ..records.reading import get, num, rows, text
from .fabric import FABRIC_ROWS, ends

# GPUs up to which each has its line.
LINES = 16
RATES = ("read_gbps", "copy_gbps", "bf16_tflops", "tflops_per_ghz", "h2d_gbps", "d2h_gbps")


def gpu_lines(data):
    """Return ``(lines, a sentence on what is left out or None)`` of the loaded run's GPU baselines; no line where no GPU was measured."""
    nodes = [node for node in (_node(entry) for entry in of_kind(data, "gpu_baseline")) if node["gpus"]]
    if sum(len(node["gpus"]) for node in nodes) <= LINES:
        return [_line(node, [gpu], place) for node in nodes for place, gpu in enumerate(node["gpus"])], None
    told = _shown(nodes)
    count = len(nodes) - len(told)
    left = "%s more passed; the slowest and the fastest are shown, and facts.json has all." % plural(count, "node") if count else None
    return [_line(node, node["gpus"]) for node in told], left


def _node(entry):
    measured = get(entry["fact"], "measured")
    peers = [[num(rate) for rate in row if num(rate)] for row in get(measured, "peer_gbps") or [] if isinstance(row, list)]
    return {"host": entry["host"], "status": entry_status(entry), "gpus": rows(get(measured, "gpus")), "peers": peers}


def _shown(nodes):
    """Return the nodes of the table, of a large fleet those that did not pass, the slowest and the fastest at reading."""
    if len(nodes) <= FABRIC_ROWS:
        return nodes
    bad = [node for node in nodes if node["status"] != "healthy"][:FABRIC_ROWS]
    good = sorted(
        (node for node in nodes if node["status"] == "healthy"), key=lambda node: min(_rates(node["gpus"], "read_gbps"), default=0)
    )
    return bad + ends(good)


def _line(node, gpus, place=None):
    """Return one line: of one GPU (``place`` among the node's), or of all of a node's with the lowest and the highest of each rate."""
    models = list(dict.fromkeys(text(gpu.get("model")) or "GPU" for gpu in gpus))
    name = ", ".join("%d × %s" % (sum(1 for gpu in gpus if (text(gpu.get("model")) or "GPU") == model), model) for model in models)
    peers = [rate for row in node["peers"] for rate in row] if place is None else _row(node["peers"], place)
    return {
        "host": node["host"],
        # The verdict is the node's, and would read as each GPU's beside it.
        "status": node["status"] if place is None else None,
        "name": name if place is None else "GPU %s, %s" % (digits(gpus[0].get("index")), models[0]),
        **{key: _range(_rates(gpus, key)) for key in RATES},
        "peers": _range(peers),
    }


def _row(peers, place):
    return peers[place] if place < len(peers) else []


def _rates(gpus, key):
    return [rate for rate in (num(gpu.get(key)) for gpu in gpus) if rate]


def _range(values):
    """Return the value, or the lowest and the highest of several that do not read the same; an em dash without one."""
    if not values:
        return MISSING
    low, high = digits(min(values)), digits(max(values))
    return low if low == high else "%s to %s" % (low, high)
