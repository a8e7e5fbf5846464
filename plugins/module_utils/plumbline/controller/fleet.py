"""Compares the nodes of a fleet: one software and firmware everywhere, and no node far from the others in what it measures.

Outliers by the modified z-score of Iglewicz and Hoaglin ("How to Detect and Handle Outliers", 1993; NIST/SEMATECH e-Handbook,
section 1.3.5.17): ``0.6745 (x - median) / MAD``, flagged beyond 3.5. The median and the MAD do not move when a few nodes are
bad, as a mean and a standard deviation do. With fewer than five nodes nothing is said: there is no majority to differ from.
"""

from __future__ import annotations

import math
from typing import NamedTuple

from ..core.fact import Measurement, reason
from ..core.stats import Spread

MIN_NODES = 5
LIMIT = 3.5

# What must be equal: name (also the context key) and what to do.
VERSIONS = {
    "kernel": "install the fleet's kernel and reboot, or reimage the node",
    "os": "reimage the node from the fleet's image",
    "driver": "install the fleet's driver and reboot, or reimage the node",
    "cuda": "install the fleet's driver and reboot, or reimage the node",
    "gpu_products": "the node is of another size: put it into an inventory of its own",
    "gpu_vbios": "firmware is Azure's: report the node, or keep it as a spare",
    "ib_firmware": "firmware is Azure's: report the node, or keep it as a spare",
}


class Metric(NamedTuple):
    """What makes a number an outlier, beside its score: all of it has to be.

    ``side`` is the one on which it is bad. ``share`` is the least distance from the median that matters at all, as a share of the median:
    without it, five nodes within a percent of each other would have an outlier. ``apart`` is that distance in the number's own unit, below
    which nobody would notice it. ``times`` marks what cannot be less than nothing and is now and then much more (how long something
    took): its logarithm is compared, since of such numbers a few are always far above the median.
    """

    side: str
    share: float
    apart: float = 0.0
    times: bool = False


METRICS = {
    "nccl_allreduce_gbps": Metric("low", 0.02),
    "ib_write_min_gbit_s": Metric("low", 0.02),
    "h2d_min_gbps": Metric("low", 0.05),
    "d2h_min_gbps": Metric("low", 0.05),
    "p2p_min_gbps": Metric("low", 0.02),
    "memory_total_bytes": Metric("low", 0.005),
    # Idle GPUs of one size are a few degrees apart by their place in the chassis.
    "gpu_temperature_max_c": Metric("high", 0.15, 10.0),
    # The fastest of three writes (health/evidence/disk.py). Half a second for 1 MiB is 2 MB/s: a user would call that slow.
    "disk_write_max_ms": Metric("high", 2.0, 500.0, times=True),
    # From the call of the health check to its answer. A node that takes twice what the others take, and five seconds more, takes
    # that at every task, and is waited for wherever nodes work together.
    "answer_s": Metric("high", 1.0, 5.0, times=True),
}
REMEDIES = {
    "answer_s": "look at what slows it: processors (top), memory (swap), disk (iostat -x), the way to it (ping); replace it if it stays",
}
REMEDY = "look at this node's own checks of it; keep it as a spare, and replace it if it stays apart"
NAMED = 32  # so many nodes are named in each fact: of a thousand, each naming all would be a million names


def _numbers(values):
    return [value for value in values if isinstance(value, (int, float)) and not isinstance(value, bool)]


def summary(fact):
    """Return what the comparison needs of one health fact: ``{"sku", "versions", "metrics"}``; missing values are left out."""
    context, measured = fact.get("context") or {}, fact.get("measured") or {}
    versions = {}
    for key in VERSIONS:
        value = context.get(key)
        if isinstance(value, list):
            value = ", ".join(str(item) for item in value)
        if value:
            versions[key] = str(value)
    nhc = measured.get("nhc") or {}
    gpus = [item for item in (measured.get("gpus") or {}).values() if isinstance(item, dict)]
    series = {
        "nccl_allreduce_gbps": ([nhc.get("nccl_allreduce_gbps")], min),
        "ib_write_min_gbit_s": ((nhc.get("ib_write_gbit_s") or {}).values(), min),
        "h2d_min_gbps": ((nhc.get("h2d_gbps") or {}).values(), min),
        "d2h_min_gbps": ((nhc.get("d2h_gbps") or {}).values(), min),
        "p2p_min_gbps": ((nhc.get("p2p_gbps") or {}).values(), min),
        "memory_total_bytes": ([measured.get("memory_total_bytes")], min),
        "gpu_temperature_max_c": ([item.get("temperature_c") for item in gpus], max),
        "disk_write_max_ms": ((measured.get("disk_write_ms") or {}).values(), max),
        "answer_s": ([measured.get("answer_s")], max),
    }
    metrics = {}
    for key, (values, fold) in series.items():
        known = _numbers(values)
        if known:
            metrics[key] = fold(known)
    return {"sku": context.get("sku"), "versions": versions, "metrics": metrics}


def score(value, values):
    """Return ``(modified z-score, median, MAD)`` of ``value`` among ``values``; 0 where all are equal."""
    spread = Spread(values)
    return spread.score(value), spread.middle, spread.mad


class Peers:
    """The nodes of one SKU: what each has, and what is worked out once for all of them."""

    def __init__(self, nodes):
        self.nodes = dict(sorted(nodes.items()))
        self.versions = {key: self._by_value(key) for key in VERSIONS}
        self.values = {key: {name: item["metrics"][key] for name, item in self.nodes.items() if key in item["metrics"]} for key in METRICS}
        self._spreads = {}

    def _by_value(self, key):
        found = {}
        for name, item in self.nodes.items():
            if key in item["versions"]:
                found.setdefault(item["versions"][key], []).append(name)
        return found

    def spread(self, key):
        """Return ``(spread of the numbers, spread to score by)`` of a metric; they differ where its logarithm is compared."""
        if key not in self._spreads:
            values = list(self.values[key].values())
            plain = Spread(values)
            self._spreads[key] = plain, Spread([_log(value) for value in values]) if METRICS[key].times else plain
        return self._spreads[key]


def _log(value):
    return math.log(max(value, 1e-3))


def peers_of(nodes):
    """Return ``{sku: Peers}`` of ``{name: summary}``."""
    found = {}
    for name, item in nodes.items():
        found.setdefault(item["sku"], {})[name] = item
    return {sku: Peers(members) for sku, members in found.items()}


def judge(node, nodes, min_nodes=MIN_NODES, limit=LIMIT, peers=None):
    """Compare ``node`` with the nodes of its SKU; return ``(reasons, measured)``.

    ``nodes`` maps a name to its :func:`summary`; ``node`` must be in it. ``peers`` spares working out :func:`peers_of` anew.
    """
    sku = nodes[node]["sku"]
    peers = (peers or peers_of(nodes))[sku]
    measured = {"nodes_count": len(peers.nodes), "metrics": {}}
    if len(peers.nodes) < 2:
        text = "%s is the only node of SKU %s that was measured" % (node, sku)
        return [reason("fleet", "skipped", text, "at least two nodes of the same SKU")], measured
    found = [_version(node, peers, key, remedy) for key, remedy in VERSIONS.items()]
    found += [_outlier(node, peers, key, min_nodes, limit, measured["metrics"]) for key in METRICS]
    found = [item for item in found if item is not None]
    if not found:
        found.append(reason("fleet", "skipped", "no node has anything to compare", "versions or numbers on two nodes"))
    return found, measured


def _version(node, peers, key, remedy):
    by_value = peers.versions[key]
    if not by_value:
        return None
    check, mine = "fleet.%s" % key, peers.nodes[node]["versions"].get(key)
    threshold = "the same on %d nodes" % len(peers.nodes)
    if mine is None:
        text = "%s has none; %s" % (node, _split(by_value))
        return reason(check, "incomplete", text, threshold, "look why this node does not tell it (its own health checks)")
    if len(by_value) == 1:
        return reason(check, "healthy", "%s on %d nodes" % (mine, len(by_value[mine])), threshold)
    most = max(len(names) for names in by_value.values())
    leading = [value for value, names in by_value.items() if len(names) == most]
    if mine in leading and len(leading) == 1 and most > sum(map(len, by_value.values())) / 2:
        odd = sorted(name for value, names in by_value.items() if value != mine for name in names)
        return reason(check, "healthy", "%s, as most; not so %s" % (mine, ", ".join(odd[:4]) + ("…" if len(odd) > 4 else "")), threshold)
    text = "%s has %s; %s" % (node, mine, _split(by_value))
    if len(leading) > 1 or most <= sum(map(len, by_value.values())) / 2:
        text += "; no version has a majority"
    return reason(check, "degraded", text, threshold, remedy)


def _split(by_value):
    parts = ["%s on %s" % (value, ", ".join(names[:4]) + ("…" if len(names) > 4 else "")) for value, names in sorted(by_value.items())]
    return "fleet: " + "; ".join(parts)


def _outlier(node, peers, key, min_nodes, limit, measured):
    values, metric = peers.values[key], METRICS[key]
    if node not in values:
        return None  # this node has no such number; whether it should is for its own checks
    check = "fleet.%s" % key
    if len(values) < min_nodes:
        text = "%d nodes have it: too few to tell an outlier" % len(values)
        return reason(check, "skipped", text, "at least %d nodes" % min_nodes)
    value = values[node]
    plain, scored = peers.spread(key)
    z, middle = scored.score(_log(value) if metric.times else value), plain.middle
    measured[key] = {"value": value, "median": middle, "mad": plain.mad, "score": round(z, 3), "nodes_count": len(values)}
    least = max(metric.share * abs(middle), metric.apart)
    threshold = "modified z-score %s%g%s, or within %.3g of the median" % (
        ">= -" if metric.side == "low" else "<= ", limit, " of its logarithm" if metric.times else "", least,
    )  # fmt: skip
    far = abs(value - middle) > least
    bad = far and (z < -limit if metric.side == "low" else z > limit)
    text = "%s has %g, the median of %d nodes is %g (score %+.1f)" % (node, value, len(values), middle, z)
    if not bad:
        return reason(check, "healthy", text, threshold)
    return reason(check, "degraded", text, threshold, REMEDIES.get(key, REMEDY))


def facts(found, min_nodes=MIN_NODES, limit=LIMIT):
    """Compare all nodes; return ``[(node, fact)]`` of kind ``health`` and name ``fleet`` from ``{node: its health fact}``.

    Raises ValueError for ``min_nodes`` below 3.
    """
    if min_nodes < 3:
        raise ValueError("min_nodes is %d, expected at least 3: a median of two hides the odd one" % min_nodes)
    nodes = {node: summary(fact) for node, fact in found.items()}
    peers = peers_of(nodes)
    return [(node, _fact(node, nodes, min_nodes, limit, peers)) for node in nodes]


def _fact(node, nodes, min_nodes, limit, peers):
    measurement = Measurement("health", "fleet", command="fleet_health")
    measurement.reasons, measurement.measured = judge(node, nodes, min_nodes, limit, peers)
    measurement.context = {"sku": nodes[node]["sku"], "nodes": list(peers[nodes[node]["sku"]].nodes)[:NAMED]}
    return measurement.fact()
