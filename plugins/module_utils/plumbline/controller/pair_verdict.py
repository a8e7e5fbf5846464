"""The words for what controller/suspect.py found about a node: seen, threshold, what to do."""

from __future__ import annotations

from ..core.fact import Measurement
from ..fabric.pairs import pair_links
from ..fabric.perftest.output import port_links
from . import suspect

LOOK = (
    "keep %s out of the layouts; look at its NIC and cable: link width, speed and error counters (ethtool -S, ibstat, "
    "perfquery -x), PCIe width and speed (lspci -vv), a shaper (tc qdisc), clocks, and what else runs there"
)
AGAIN = "measure again (fabric_baseline_pairwise: always): a node that is slow at times, or a switch that only some share; "

NUMBERS = ("pairs", "measured_pairs", "median_gbps", "best_gbps", "others_median_gbps", "ratio", "bound_gbps")


def gbps(value):
    return "no number" if value is None else "%.4g GB/s" % value


def facts(nodes, links, by, min_ratio, mad_factor, suspect_status):
    """Return ``[(node, fact)]``, the verdict on each of ``nodes`` from the link facts of all their pairs, ``by`` ``pair`` or ``port``.

    Raises ValueError for a ``min_ratio`` outside of 0 to 1, a negative ``mad_factor`` and facts that are none of pairs.
    """
    if not 0 < min_ratio < 1 or mad_factor < 0:
        raise ValueError("min_ratio=%s must lie between 0 and 1, mad_factor=%s must not be negative" % (min_ratio, mad_factor))
    try:
        groups = port_links(links) if by == "port" else {None: pair_links(links)}
    except (KeyError, TypeError) as error:
        raise ValueError("facts must be link facts of pairs, with context.nodes and measured: %r" % error) from error
    return [(node, measurement(node, nodes, groups, min_ratio, mad_factor, suspect_status).fact()) for node in nodes]


def measurement(node, nodes, groups, min_ratio, mad_factor, suspect_status):
    """Return the measurement of kind ``link`` about ``node``, from ``{port: links}``; the port None is the pair as a whole."""
    whole = set(groups) == {None}
    found = Measurement("link", "pairwise" if whole else "ib.pairwise")
    found.context = {"node": node, "nodes": list(nodes), "min_ratio": min_ratio, "mad_factor": mad_factor}
    ports, verdicts, slow_links = [], [], []
    for port, links in groups.items():
        judged = suspect.judge(links, nodes, min_ratio, mad_factor)
        mine = judged["nodes"][node]
        ports.append(dict({key: mine[key] for key in NUMBERS}, port=port))
        verdicts.append(mine["verdict"])
        slow_links += [link["nodes"] for link in judged["slow_links"]]
        about = Reasons(found, node, nodes, port, {"min_ratio": min_ratio, "mad_factor": mad_factor})
        about.judge(mine, suspect_status)
        about.say_unread(links)
        about.name_links(judged["slow_links"])
    if whole:
        found.measured = {key: ports[0][key] for key in NUMBERS}
    else:
        found.measured = {"ports": ports}
    found.context.update(suspect=suspect.SUSPECT in verdicts, verdicts=verdicts, slow_links=slow_links)
    return found


class Reasons:
    """Adds reasons about one node to a measurement; about one port of it where ``port`` is given."""

    def __init__(self, measurement, node, nodes, port, limits):
        self.measurement, self.node, self.nodes, self.limits = measurement, node, nodes, limits
        self.what = node if port is None else "%s of %s" % (port, node)
        self.suffix = "" if port is None else "." + port

    def add(self, check, status, seen, threshold, remedy=None):
        self.measurement.add("pairwise.%s%s" % (check, self.suffix), status, seen, threshold, remedy)

    def judge(self, mine, suspect_status):
        """Add the reason on the node itself."""
        what, node, count = self.what, self.node, len(self.nodes)
        threshold = "at least %s: %g %% of the other pairs' median and within %g deviations of it" % (
            gbps(mine["bound_gbps"]), 100 * self.limits["min_ratio"], self.limits["mad_factor"],
        )  # fmt: skip
        pairs = "its %d pairs: median %s, best %s; pairs without it: median %s" % (
            mine["pairs"], gbps(mine["median_gbps"]), gbps(mine["best_gbps"]), gbps(mine["others_median_gbps"]),
        )  # fmt: skip
        if mine["verdict"] == suspect.SUSPECT:
            seen = "%s is slow with every other node; %s" % (what, pairs)
            if mine["best_gbps"] == 0:
                seen = "%s carries nothing with any other node; %s" % (what, pairs)
            if not mine["measured_pairs"]:
                seen = "no pair with %s works, others do; %s" % (what, pairs)
            if count == 3:
                seen += "; with three nodes, bad links from it to both others would look the same"
            self.add("node", suspect_status, seen, threshold, LOOK % node)
        elif mine["verdict"] == suspect.MOSTLY:
            seen = "%s is slow with most other nodes, not with all; %s" % (what, pairs)
            self.add("node", "degraded", seen, threshold, AGAIN + LOOK % node)
        elif mine["verdict"] == suspect.CLEAR:
            self.add("node", "healthy", "%s is not slower than the others; %s" % (what, pairs), threshold)
        elif count < 3 and mine["best_gbps"] == 0:
            seen = "%s and the other node carry nothing between them: %s" % (what, gbps(0))
            remedy = "do not serve across them; look at the NICs and cables of both, and at the path between them: routes, switches, ports"
            self.add("node", "failed", seen, "more than 0 GB/s", remedy)
        elif count < 3:
            seen = "%s: a slow pair does not say which of the two it is" % ("two nodes" if count == 2 else "one node")
            self.add("node", "skipped", seen, "three nodes", "add a spare node to have a third to compare with")
        else:
            self.add(
                "node", "incomplete", "%s: nothing to compare it with; %s" % (what, pairs),
                "two pairs of this node, and one of the others that left a number", "read the reasons of the pairs' own facts",
            )  # fmt: skip

    def say_unread(self, links):
        """Say which of this node's pairs have a value that is no rate: a fault of the measurement, and evidence that lacks."""
        for link in suspect.touching(links, self.node):
            value = link["bandwidth_gbps"]
            if value is None or suspect.as_rate(value) is not None:
                continue
            other = next((name for name in link["nodes"] if name != self.node), self.node)
            seen = "the pair with %s left %r, which is no rate" % (other, value)
            self.add("value", "incomplete", seen, "a number of at least 0", "measure again (fabric_baseline_pairwise: always)")

    def name_links(self, slow_links):
        """Name this node's slow links, which accuse neither end: a warning on both, which may serve with others."""
        for link in slow_links:
            if self.node not in link["nodes"]:
                continue
            other = next(name for name in link["nodes"] if name != self.node)
            words = "carries nothing" if link["bandwidth_gbps"] == 0 else "is slow, both nodes are not"
            self.add(
                "link", "degraded",
                "the way to %s %s: %s" % (other, words, gbps(link["bandwidth_gbps"])),
                "more than 0 GB/s" if link["bound_gbps"] is None else "at least %s" % gbps(link["bound_gbps"]),
                "do not serve across %s and %s; look at the path between them: routes, switches and ports on it" % (self.node, other),
            )  # fmt: skip
