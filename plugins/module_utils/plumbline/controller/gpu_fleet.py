"""Compares the GPUs of all nodes with each other, where a node has too few to say which of its own is the bad one.

The rules are those within a node (``gpus/judge.py``, ``gpus/equals.py``). Nodes differ in what surrounds a GPU, so a slow one is
``degraded`` here whatever made it slow. A product that differs is ``failed`` where a majority says which is right, and where it can be
no matter of software: all GPUs of a node that agree with each other and with nobody else are ``degraded``.
"""

from __future__ import annotations

from ..core.fact import Measurement, reason
from ..gpus import equals, judge

MIN_NODES = 5


def rows_of(facts):
    """Return the rows of all GPUs of ``{host: gpu_baseline fact}``, each with its ``host`` and what must be the same beside the model."""
    found = []
    for host, fact in sorted(facts.items()):
        context, measured = fact.get("context") or {}, fact.get("measured") or {}
        software = (context.get("torch_version"), context.get("cuda_version"))
        found += [dict(row, host=host, software=software) for row in measured.get("gpus") or []]
    return found


def facts(found, min_nodes=MIN_NODES):
    """Return ``[(host, fact)]`` of kind ``gpu_baseline`` and name ``fleet`` from ``{host: its gpu_baseline fact}``; none without GPUs.

    Raises ValueError for ``min_nodes`` below 3.
    """
    if min_nodes < 3:
        raise ValueError("min_nodes is %d, expected at least 3: a median of two hides the odd one" % min_nodes)
    by_host = {}
    for group in equals.groups(rows_of(found), _kind):
        hosts = sorted({row["host"] for row in group})
        table = {host: [] for host in hosts}
        for host, item in _products(group, hosts):
            table[host].append(item)
        for key in judge.TITLES:
            for host, item in _rates(group, hosts, key, min_nodes):
                table[host].append(item)
        for host, items in table.items():
            by_host.setdefault(host, []).extend(items)
    return [(host, _fact(items, sorted(by_host))) for host, items in sorted(by_host.items())]


def _kind(row):
    """Return what must be the same for GPUs to be equals across nodes."""
    return judge.kind(row), row["software"], row["matrix_size"], row["read_method"] and row["read_method"].split()[0]


def _fact(items, hosts):
    measurement = Measurement("gpu_baseline", "fleet", command="gpu_fleet")
    measurement.reasons = items
    measurement.measured = {"nodes_count": len(hosts)}
    return measurement.fact()


def _products(group, hosts):
    """Yield ``(host, reason)`` of what the GPUs of a group computed."""
    seen = {judge.label(row): (row["inputs_sha256"], row["product_sha256"]) for row in group if row["product_sha256"]}
    check, threshold = "gpu_baseline.fleet.hash", "the same product on equal GPUs of all nodes"
    if len(hosts) < 2:
        yield hosts[0], reason(check, "skipped", "no other node has such GPUs under the same torch and CUDA", threshold)
        return
    odd, majority = equals.odd(seen)
    for host in hosts:
        mine = [judge.label(row) for row in group if row["host"] == host and judge.label(row) in seen]
        bad = [name for name in mine if name in odd]
        if not mine:
            continue
        if not bad:
            yield host, reason(check, "healthy", "the product of most of %d equal GPUs on %d nodes" % (len(seen), len(hosts)), threshold)
        elif majority and not (len(mine) > 1 and len(bad) == len(mine) and len({seen[name] for name in mine}) == 1):
            text = "%s computed another product than most of %d equal GPUs" % (", ".join(bad), len(seen))
            yield host, reason(check, "failed", text, threshold, judge.REPLACE)
        else:
            text = "%s computed another product than GPUs of other nodes; " % ", ".join(bad)
            text += "all of this node agree: is its cuBLAS another one?" if majority else "no majority says which is right"
            yield host, reason(check, "degraded", text, threshold, "compare the packages of torch on the nodes; measure again")


def _rates(group, hosts, key, min_nodes):
    """Yield ``(host, reason)`` of one rate of the GPUs of a group."""
    check, seen = "gpu_baseline.fleet.%s" % judge.TITLES[key], [row for row in group if row[key] is not None]
    having = sorted({row["host"] for row in seen})
    if len(having) < min_nodes:
        text = "%d nodes have it: too few to tell an outlier" % len(having)
        for host in having:
            yield host, reason(check, "skipped", text, "at least %d nodes" % min_nodes)
        return
    unit = judge.UNITS.get(key, "GB/s")
    of = {judge.label(row): row[key] for row in seen}
    slow, _apart = equals.slow(of, judge.SHARES[key])
    threshold = "none more than %g %% below the median of %d equal GPUs and apart from them" % (100 * judge.SHARES[key], len(seen))
    for host in having:
        told = [judge.slow_one(row, seen, key, check, unit, threshold) for row in seen if row["host"] == host and judge.label(row) in slow]
        for item in told:
            yield host, dict(item, status="healthy" if item["status"] == "healthy" else "degraded")
        if not told:
            yield host, reason(check, "healthy", judge.listed(of, unit), threshold)
