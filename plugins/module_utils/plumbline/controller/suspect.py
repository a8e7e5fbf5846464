"""Which node is behind slow pairs: a judgement of nodes by their pairs, relative to the other pairs of the same run.

A link carries no more than the slower of its two ends, so a slow node makes **all** its pairs slow, a slow link just
one. Nothing here needs to know what the fabric should reach: the nodes are each other's baseline, in 10^9 bytes/s.

- *Slow* is a value below both ``min_ratio`` x the reference's median and that median less ``mad_factor`` x 1.4826 x its
  median absolute deviation (1.4826 x MAD estimates the standard deviation: Rousseeuw and Croux, JASA 88 (1993), 1273),
  so a noisy fabric accuses nobody for its noise. Both numbers are data of the role. Few nodes have no spread to speak of:
  up to four, the ratio decides alone, and must leave room for the noise.
- *A slow node*: even its best pair is slow, against the best that each other node reaches without it. The best pair, not
  the median, because a second slow node spoils medians: of four nodes with two slow ones a good node has one good pair of
  three. A link's rate bounds every number from above, so the best is not luck.
- *A node that is slow with most*: not that, yet the median of its pairs is slow against the median of the pairs without
  it. It reached full speed with somebody, so it is named, and only ``degraded``.
- *A slow link*: a slow pair, against the pairs of nodes that are not slow. Nobody is accused.

A pair that left no number counts as no bandwidth at all, where at least one pair of other nodes has one. Zero is a number: a
pair that was measured and carried nothing. What is no rate (negative, not finite) is no number.

With three nodes a slow node and two slow links that meet in it look the same; with two nothing can be told. Where half of
the nodes or more are slow, or something is slow for everybody, nobody stands out: then nobody is accused, and the words
give the range of the pairs.
"""

from __future__ import annotations

import math
from statistics import median

SCALE = 1.4826  # from MAD to the standard deviation of a normal distribution

SUSPECT, MOSTLY, CLEAR, UNKNOWN = "suspect", "mostly slow", "clear", "unknown"


def bound(reference, min_ratio, mad_factor):
    """Return the value below which something is slow, given reference values; None without any above zero."""
    if not any(reference):
        return None
    centre = median(reference)
    spread = median(abs(value - centre) for value in reference)
    return min(min_ratio * centre, centre - mad_factor * SCALE * spread)


def as_rate(value):
    """Return a bandwidth as it was measured, None for what is none: no number, not finite, negative."""
    number = isinstance(value, (int, float)) and not isinstance(value, bool)
    return value if number and math.isfinite(value) and value >= 0 else None


def value_of(link):
    """Return a link's bandwidth; none at all for a pair that left no number."""
    return link["bandwidth_gbps"] or 0.0


def is_slow(link, limit):
    """Return whether a link is slow; one that left no number always is (however noisy the others are)."""
    return limit is not None and (not value_of(link) or value_of(link) < limit)


def touching(links, node):
    return [link for link in links if node in link["nodes"]]


def without(links, *nodes):
    return [link for link in links if not set(nodes) & set(link["nodes"])]


def judge(links, nodes, min_ratio, mad_factor):
    """Return ``{"nodes": {name: judgement}, "slow_links": [...], "median_gbps": ...}``.

    ``links`` is ``[{"nodes": [a, b], "bandwidth_gbps": number, 0 for a dead link, or None}]``. A judgement has ``verdict`` (one of the four
    above), ``pairs``, ``measured_pairs``, ``median_gbps``, ``best_gbps``, ``others_median_gbps``, ``ratio``,
    ``bound_gbps`` (slow below it) and ``slow_pairs``; a number that cannot be told is None.
    """
    links = [dict(link, bandwidth_gbps=as_rate(link["bandwidth_gbps"])) for link in links]
    judged = {node: _node(links, nodes, node, min_ratio, mad_factor) for node in nodes}
    suspects = [node for node in nodes if judged[node]["verdict"] == SUSPECT]
    rest = without(links, *suspects)
    for node in nodes:
        if judged[node]["verdict"] == CLEAR:
            _by_majority(judged[node], rest, node, min_ratio, mad_factor)
    blamed = [node for node in nodes if judged[node]["verdict"] in (SUSPECT, MOSTLY)]
    clean = without(links, *blamed)
    limit = bound([value_of(link) for link in clean], min_ratio, mad_factor) if len(clean) > 1 else None
    # A link that carried nothing is dead, whatever the others reach.
    slow = [link for link in clean if is_slow(link, limit) or link["bandwidth_gbps"] == 0]
    known = [link["bandwidth_gbps"] for link in links if link["bandwidth_gbps"] is not None]
    return {
        "nodes": judged,
        "slow_links": [dict(link, bound_gbps=limit) for link in slow],
        "median_gbps": median(known) if known else None,
    }


def _node(links, nodes, node, min_ratio, mad_factor):
    mine, others = touching(links, node), without(links, node)
    known = [link["bandwidth_gbps"] for link in mine if link["bandwidth_gbps"] is not None]
    reached = [link["bandwidth_gbps"] for link in others if link["bandwidth_gbps"] is not None]
    result = {
        "verdict": UNKNOWN,
        "pairs": len(mine),
        "measured_pairs": len(known),
        "median_gbps": median(known) if known else None,
        "best_gbps": max(known) if known else None,
        "others_median_gbps": median(reached) if reached else None,
        "ratio": None,
        "bound_gbps": None,
        "slow_pairs": [],
    }
    # Fewer than two pairs do not tell a node from a link.
    if not reached or len(mine) < 2 or not (any(reached) or any(known)):
        return result
    best = [max(map(value_of, touching(others, peer))) for peer in nodes if touching(others, peer)]
    limit = bound(best, min_ratio, mad_factor)
    if known and result["others_median_gbps"]:
        result["ratio"] = result["median_gbps"] / result["others_median_gbps"]
    result["bound_gbps"] = limit
    result["slow_pairs"] = [link["nodes"] for link in mine if is_slow(link, limit)]
    result["verdict"] = SUSPECT if len(result["slow_pairs"]) == len(mine) else CLEAR
    return result


def _by_majority(judgement, links, node, min_ratio, mad_factor):
    """Turn a clear judgement into ``mostly slow`` where the median of a node's pairs is slow; suspects' pairs are left out."""
    mine = [value_of(link) for link in touching(links, node)]
    others = [value_of(link) for link in without(links, node)]
    limit = bound(others, min_ratio, mad_factor)
    if limit is not None and len(mine) > 2 and len(others) > 2 and median(mine) < limit:
        judgement.update(verdict=MOSTLY, bound_gbps=limit)
