"""Pairwise rounds: who measures with whom, and what a pair's measurement is as a fact.

Every node meets every other once. The circle method (round-robin tournaments; also how Azure's and NVIDIA's pairwise
NCCL scripts schedule nodes) makes that n - 1 rounds of n / 2 pairs that share no node, so a round's pairs run at the same
time without taking each other's link; with an odd n each node rests in one of n rounds.

Bandwidths are bus bandwidths in 10^9 **bytes** per second (collective.py); times are medians in microseconds.
"""

from __future__ import annotations

from ..core import fact as facts

# What a pair is not judged by: it has no baseline of its own, the other pairs are its measure (controller/suspect.py).
NOT_FOR_PAIRS = ("collective.baseline",)


def rounds(nodes):
    """Return the rounds, each a list of pairs ``(first, second)`` in the order of ``nodes``.

    ``ValueError`` when a node is named twice: it would have to be at two places in one round.
    """
    if len(set(nodes)) != len(nodes):
        raise ValueError("a node is named twice: %s" % ", ".join(nodes))
    if len(nodes) < 2:
        return []
    place = {node: index for index, node in enumerate(nodes)}
    circle = list(nodes) + ([None] if len(nodes) % 2 else [])
    found = []
    for _turn in range(len(circle) - 1):
        half = len(circle) // 2
        meetings = zip(circle[:half], reversed(circle[half:]))
        pairs = [tuple(sorted(pair, key=place.get)) for pair in meetings if None not in pair]
        found.append(sorted(pairs, key=lambda pair: place[pair[0]]))
        circle = [circle[0], circle[-1]] + circle[1:-1]
    return found


def places(nodes):
    """Return ``[{node: {"pair": [first, second], "rank": 0 or 1}}]``, one dictionary a round; who rests is not in it."""
    plan = []
    for pairs in rounds(nodes):
        plan.append({node: {"pair": list(pair), "rank": rank} for pair in pairs for rank, node in enumerate(pair)})
    return plan


def pair_name(kind, nodes):
    """Return the name of a pair's fact: ``pair.node1.node2``."""
    return facts.slug(".".join([kind, *nodes]))


def latency_us(sweep):
    """Return the median time at the smallest size in µs, None without a sweep."""
    return min(sweep, key=lambda row: row["size_bytes"])["time_us"]["median"] if sweep else None


def link_fact(collective, nodes, round_number):
    """Return the fact of kind ``link`` for a pair, from the ``collective`` fact of its two ranks.

    ``bandwidth_gbps`` is the bus bandwidth at the largest size. The baseline is left out; every other reason counts:
    a wrong value, a lost peer or missing evidence is the pair's too.
    """
    measured = collective["measured"]
    sweep = measured.get("sweep") or []
    largest = max(sweep, key=lambda row: row["size_bytes"]) if sweep else None
    reasons = [item for item in collective["reasons"] if item["check"] not in NOT_FOR_PAIRS]
    kept = dict(collective["context"], nodes=list(nodes), round=round_number)
    values = {"ranks": measured.get("ranks")}
    if largest:
        values.update(
            bandwidth_gbps=largest["busbw_gbps"],
            size_bytes=largest["size_bytes"],
            latency_us=latency_us(sweep),
            latency_size_bytes=min(row["size_bytes"] for row in sweep),
            sweep=sweep,
        )
    return dict(
        collective,
        schema="plumbline.link/1",
        name=pair_name("pair", nodes),
        status=facts.worst(item["status"] for item in reasons) if reasons else "incomplete",
        reasons=reasons,
        measured=values,
        context=kept,
    )


def pair_links(found):
    """Return ``[{nodes, bandwidth_gbps, status}]``, one for each pair, from the pair facts of all nodes.

    Both ranks may have kept a fact when one failed; the one with a number counts.
    """
    links = {}
    for fact in found:
        nodes = tuple(fact["context"]["nodes"])
        value = fact["measured"].get("bandwidth_gbps")
        link = {"nodes": list(nodes), "bandwidth_gbps": value if usable(fact) else None, "status": fact["status"]}
        if nodes not in links or links[nodes]["bandwidth_gbps"] is None:
            links[nodes] = link
    return list(links.values())


def usable(fact):
    """Return whether a pair's number may be compared: the data was right and its way is known."""
    return fact["status"] in facts.PASSING and fact["measured"].get("bandwidth_gbps") is not None
