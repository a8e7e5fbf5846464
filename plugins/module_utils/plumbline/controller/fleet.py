"""Compares the nodes of a fleet: one software and firmware everywhere, and no node far from the others in what it measures.

Outliers by the modified z-score of Iglewicz and Hoaglin ("How to Detect and Handle Outliers", 1993; NIST/SEMATECH e-Handbook,
section 1.3.5.17): ``0.6745 (x - median) / MAD``, flagged beyond 3.5. The median and the MAD do not move when a few nodes are
bad, as a mean and a standard deviation do. With fewer than five nodes nothing is said: there is no majority to differ from.
"""

from __future__ import annotations

import statistics

from ..core.fact import Measurement, reason

MIN_NODES = 5
LIMIT = 3.5
# Scale of the mean absolute deviation, for which the score falls back when the MAD is 0 (more than half the nodes are equal):
# the same source's 1.253314, as IBM SPSS uses it.
MEAN_AD_SCALE = 1.253314

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
# Metric: the side on which it is bad, and the least distance from the median, as a share of it, that matters at all. Without the
# second, five nodes within a percent of each other would have an outlier.
METRICS = {
    "nccl_allreduce_gbps": ("low", 0.02),
    "ib_write_min_gbit_s": ("low", 0.02),
    "h2d_min_gbps": ("low", 0.05),
    "d2h_min_gbps": ("low", 0.05),
    "p2p_min_gbps": ("low", 0.02),
    "memory_total_bytes": ("low", 0.005),
    "gpu_temperature_max_c": ("high", 0.15),
    "disk_write_max_ms": ("high", 1.0),
}


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
    }
    metrics = {}
    for key, (values, fold) in series.items():
        known = _numbers(values)
        if known:
            metrics[key] = fold(known)
    return {"sku": context.get("sku"), "versions": versions, "metrics": metrics}


def score(value, values):
    """Return ``(modified z-score, median, MAD)`` of ``value`` among ``values``; 0 where all are equal."""
    middle = statistics.median(values)
    deviations = [abs(item - middle) for item in values]
    mad = statistics.median(deviations)
    if mad > 0:
        return 0.6745 * (value - middle) / mad, middle, mad
    mean = sum(deviations) / len(deviations)
    return ((value - middle) / (MEAN_AD_SCALE * mean) if mean > 0 else 0.0), middle, mad


def judge(node, nodes, min_nodes=MIN_NODES, limit=LIMIT):
    """Compare ``node`` with the nodes of its SKU; return ``(reasons, measured)``.

    ``nodes`` maps a name to its :func:`summary`; ``node`` must be in it.
    """
    sku = nodes[node]["sku"]
    peers = {name: item for name, item in sorted(nodes.items()) if item["sku"] == sku}
    measured = {"nodes_count": len(peers), "metrics": {}}
    if len(peers) < 2:
        text = "%s is the only node of SKU %s that was measured" % (node, sku)
        return [reason("fleet", "skipped", text, "at least two nodes of the same SKU")], measured
    found = []
    for key, remedy in VERSIONS.items():
        item = _version(node, peers, key, remedy)
        if item:
            found.append(item)
    for key, (side, least) in METRICS.items():
        values = {name: item["metrics"][key] for name, item in peers.items() if key in item["metrics"]}
        item = _outlier(node, values, key, side, least, min_nodes, limit, measured["metrics"])
        if item:
            found.append(item)
    if not found:
        found.append(reason("fleet", "skipped", "no node has anything to compare", "versions or numbers on two nodes"))
    return found, measured


def _version(node, peers, key, remedy):
    by_value = {}
    for name, item in peers.items():
        if key in item["versions"]:
            by_value.setdefault(item["versions"][key], []).append(name)
    if not by_value:
        return None
    check, mine = "fleet.%s" % key, peers[node]["versions"].get(key)
    threshold = "the same on %d nodes" % len(peers)
    if mine is None:
        text = "%s has none; %s" % (node, _split(by_value))
        return reason(check, "incomplete", text, threshold, "look why this node does not tell it (its own health checks)")
    if len(by_value) == 1:
        return reason(check, "healthy", "%s on %d nodes" % (mine, len(by_value[mine])), threshold)
    most = max(len(names) for names in by_value.values())
    leading = [value for value, names in by_value.items() if len(names) == most]
    if mine in leading and len(leading) == 1 and most > sum(map(len, by_value.values())) / 2:
        odd = sorted(name for value, names in by_value.items() if value != mine for name in names)
        return reason(check, "healthy", "%s, as most; not so %s" % (mine, ", ".join(odd)), threshold)
    text = "%s has %s; %s" % (node, mine, _split(by_value))
    if len(leading) > 1 or most <= sum(map(len, by_value.values())) / 2:
        text += "; no version has a majority"
    return reason(check, "degraded", text, threshold, remedy)


def _split(by_value):
    parts = ["%s on %s" % (value, ", ".join(names[:4]) + ("…" if len(names) > 4 else "")) for value, names in sorted(by_value.items())]
    return "fleet: " + "; ".join(parts)


def _outlier(node, values, key, side, least, min_nodes, limit, measured):
    if node not in values:
        return None  # this node has no such number; whether it should is for its own checks
    check = "fleet.%s" % key
    if len(values) < min_nodes:
        text = "%d nodes have it: too few to tell an outlier" % len(values)
        return reason(check, "skipped", text, "at least %d nodes" % min_nodes)
    value = values[node]
    z, middle, mad = score(value, list(values.values()))
    measured[key] = {"value": value, "median": middle, "mad": mad, "score": round(z, 3), "nodes_count": len(values)}
    threshold = "modified z-score %s %g, or within %g %% of the median" % (
        ">= -" if side == "low" else "<= ", limit, 100 * least
    )  # fmt: skip
    far = abs(value - middle) > least * abs(middle)
    bad = far and (z < -limit if side == "low" else z > limit)
    text = "%s has %g, the median of %d nodes is %g (score %+.1f)" % (node, value, len(values), middle, z)
    if not bad:
        return reason(check, "healthy", text, threshold.replace("- ", "-"))
    remedy = "look at this node's own checks of it; keep it as a spare, and replace it if it stays apart"
    return reason(check, "degraded", text, threshold.replace("- ", "-"), remedy)


def facts(found, min_nodes=MIN_NODES, limit=LIMIT):
    """Compare all nodes; return ``[(node, fact)]`` of kind ``health`` and name ``fleet`` from ``{node: its health fact}``.

    Raises ValueError for ``min_nodes`` below 3.
    """
    if min_nodes < 3:
        raise ValueError("min_nodes is %d, expected at least 3: a median of two hides the odd one" % min_nodes)
    nodes = {node: summary(fact) for node, fact in found.items()}
    return [(node, _fact(node, nodes, min_nodes, limit)) for node in nodes]


def _fact(node, nodes, min_nodes, limit):
    measurement = Measurement("health", "fleet", command="fleet_health")
    measurement.reasons, measurement.measured = judge(node, nodes, min_nodes, limit)
    measurement.context = {"sku": nodes[node]["sku"], "nodes": sorted(nodes)}
    return measurement.fact()
