"""Findings about pairs of nodes: who is behind a slow fabric. The judgement is the facts' own (controller/suspect.py); these are its words.

Standard library only.
"""

from __future__ import annotations

from ....core.fact import PASSING
from ..format import digits, factor
from .layouts import finding

# As in suspect.py.
SUSPECT, MOSTLY = "suspect", "mostly slow"


def pair_findings(judged, links):
    """Return the findings about nodes judged by their pairs: the suspects, the slow links, or that nobody stands out."""
    whole = [item for item in judged if item["port"] is None]
    result = [_accusation(item) for item in judged if item["verdict"] in (SUSPECT, MOSTLY)]
    slow = sorted({tuple(pair) for item in judged for pair in item["slow_links"]})
    for pair in slow:
        result.append(
            finding(
                "fabric.slow_link.%s.%s" % pair, "warning",
                "The way between %s and %s is slow, while both reach the others at full speed: a link, not a node." % pair,
                _of_pair(pair, links), values={"nodes": list(pair)},
            )
        )  # fmt: skip
    if whole and not result:
        result += _nobody(whole, links)
    return result


def _of_pair(pair, links):
    found = [link for link in links if set(link["nodes"]) == set(pair) and link["bandwidth_gbps"] is not None]
    rest = [link["bandwidth_gbps"] for link in links if set(link["nodes"]) != set(pair) and link["bandwidth_gbps"] is not None]
    if not found or not rest:
        return None
    value = found[0]["bandwidth_gbps"]
    return "%s GB/s; the other pairs %s to %s GB/s" % (digits(value), digits(min(rest)), digits(max(rest)))


def _accusation(item):
    where = item["node"] if item["port"] is None else "%s of %s" % (item["port"], item["node"])
    if item["ratio"] is None:
        claim = "No pair with %s works, others do: %s is behind the bad fabric." % (where, where)
    else:
        claim = "%s is %s: the median of its %s pairs is %s, without it %s." % (
            where,
            "behind the slow fabric" if item["verdict"] == SUSPECT else "slow with most other nodes, not with all",
            digits(item["pairs"]), digits(item["median_gbps"], "GB/s"), digits(item["others_median_gbps"], "GB/s"),
        )  # fmt: skip
    arithmetic = None
    if item["ratio"] is not None:
        arithmetic = "%s / %s = %s; its best pair %s GB/s, slow below %s GB/s" % (
            digits(item["median_gbps"]), digits(item["others_median_gbps"]), factor(item["ratio"]),
            digits(item["best_gbps"]), digits(item["bound_gbps"]),
        )  # fmt: skip
    if len(item["nodes"]) == 3:
        claim = claim[:-1] + "; with three nodes, bad links from it to both others would look the same."
    name = "fabric.suspect.%s" % item["node"] + ("" if item["port"] is None else "." + item["port"])
    return finding(name, "warning", claim, arithmetic, values={"node": item["node"], "port": item["port"], "ratio": item["ratio"]})


def _nobody(judged, links):
    values = sorted(link["bandwidth_gbps"] for link in links if link["bandwidth_gbps"] is not None and link["status"] in PASSING)
    nodes = len(judged)
    if nodes < 3:
        claim = "Which of two nodes is behind a slow pair cannot be told: it takes a third to compare with."
        return [finding("fabric.pairs", "no data", claim, missing="pairs with a third node, such as a spare")]
    if len(values) < 3:
        claim = "Whether one of %d nodes is behind a slow fabric is not known." % nodes
        return [finding("fabric.pairs", "no data", claim, missing="pairs that left a number: there are %d" % len(values))]
    claim = "No node stands out among %d by its pairs, which reach %s to %s." % (
        nodes, digits(values[0], "GB/s"), digits(values[-1], "GB/s"),
    )  # fmt: skip
    claim += " If the group is slow, it is by what they share, or half of them or more are slow."
    return [finding("fabric.pairs", "supported", claim, "%d pairs; highest / lowest = %s" % (len(values), factor(values[-1] / values[0])))]
