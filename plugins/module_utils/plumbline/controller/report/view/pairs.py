"""The tables of pairs of nodes, and of nodes judged by their pairs. Standard library only."""

from __future__ import annotations

from ...suspect import CLEAR, MOSTLY, SUSPECT, UNKNOWN
from ..format import MISSING, digits, factor, size
from ..records.entries import missed

# The order of the table: what is to be looked at first.
ORDER = (SUSPECT, MOSTLY, UNKNOWN, CLEAR)


def link_lines(links):
    """Return a line for every pair, or for each of its ports: what was carried, and what it was to carry."""
    return [line for item in links for line in ([_port(item, *port) for port in item["ports"]] or [_pair(item)])]


def _pair(item):
    backend = "(%s)" % item["backend"] if item["backend"] else None
    return {
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


def _port(item, port, rate_gbit_s):
    """Return the line of one port of a pair, with the port's own reasons."""
    mine = [reason for reason in item["reasons"] if reason["check"] == "link.%s" % port]
    threshold = mine[0]["threshold"] if mine else None
    return {
        **_pair(item),
        "status": mine[0]["status"] if mine else item["status"],
        "what": "%s %s" % (item["how"] or "", port),
        "bandwidth": digits(rate_gbit_s, "Gbit/s"),
        "threshold": threshold if threshold and "Gbit" in threshold else "no baseline",
        "why": _first_bad(mine),
    }


def _first_bad(reasons):
    return next((item["seen"] for item in reasons if missed(item["status"])), None)


def judged_lines(judged):
    """Return a line for every node that was judged by its pairs, the suspects first."""
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
        for item in judged
    ]
    return sorted(lines, key=lambda line: (ORDER.index(line["verdict"]) if line["verdict"] in ORDER else len(ORDER), line["node"]))
