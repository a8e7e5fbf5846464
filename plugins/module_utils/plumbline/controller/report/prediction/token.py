"""What one token of one request costs in a layout, term by term. Standard library only.

    TPOT = (weights + KV cache) / TP / read rate              every stage reads its part, one after the other
         + layers × cost of a layer                           what a layer takes beside reading: launches, small kernels, attention
         + (2 × layers + 1) × time of one all-reduce          with TP: after attention, after the MLP, after the embedding
         + (PP − 1) × cost of a hand-over                     with PP: a stage wakes the next one

The first term is the roofline (R. Pope et al., "Efficiently scaling transformer inference", 2022, section 2). The two costs are in
``constants``; rates and times come from the run's own measurements where it has them (``rates``).
"""

from __future__ import annotations

from typing import NamedTuple

# Over what a prediction is a range where something is known to be missing: nothing bounds it from above.
OPEN = None


class Token(NamedTuple):
    """A token of one layout: ``layers``, the bytes of one all-reduce, the bytes that the whole model and the request's KV cache make
    it read (half-way through the answer), how the layout is spread, and whether its server schedules asynchronously (None: not known)."""

    layers: int
    message_bytes: int
    weight_bytes: float
    kv_bytes: float
    tp: int
    pp: int
    nodes: int
    executor: str
    async_scheduling: bool | None = None

    @property
    def all_reduces(self):
        """Return how many all-reduces a token takes."""
        return 2 * self.layers + 1 if self.tp > 1 else 0

    @property
    def hand_overs(self):
        """Return how many times a token goes from one stage to the next."""
        return self.pp - 1

    @property
    def group_nodes(self):
        """Return over how many nodes one group of tensor parallelism spans; ranks fill a node before they take the next."""
        per_node = max(1, self.tp * self.pp // self.nodes)
        return max(1, -(-self.tp // per_node))


class Rates(NamedTuple):
    """What a prediction takes of the machine: 10⁹ bytes/s that a GPU reads, µs of one all-reduce, and where each is from; and which
    share of the rate a server's products read (``constants.SERVED_SHARE``)."""

    read_gbps: float
    read_source: str
    all_reduce_us: float = 0.0
    all_reduce_source: str = ""
    served_share: float = 1.0

    @property
    def served_gbps(self):
        """Return the rate at which a server's products read, in 10⁹ bytes/s."""
        return self.read_gbps * self.served_share


class Term(NamedTuple):
    """One part of a token's time: its name, ms, and how they came about."""

    name: str
    ms: float
    how: str


class Prediction(NamedTuple):
    """The terms of a token, their sum, and the range in which it is expected; ``high_ms`` is None where something has no figure yet."""

    terms: tuple
    tpot_ms: float
    low_ms: float
    high_ms: float | None
    missing: tuple


def reading_ms(bytes_read, tp, read_gbps):
    """Return how long ``tp`` GPUs take to read ``bytes_read`` bytes between them at ``read_gbps`` 10⁹ bytes/s each, in ms."""
    return bytes_read / tp / (read_gbps * 1e9) * 1e3


def terms(token, rates, costs):
    """Return the :class:`Term` of each part of a :class:`Token` under ``rates``, with the fitted ``costs`` (``constants.Costs``)."""
    reads = "/ TP %d / %.4g GB/s (%s)" % (token.tp, rates.read_gbps, rates.read_source)
    if rates.served_share != 1:
        reads += " / %.3g (the share of it that a server's products read)" % rates.served_share
    found = [
        Term("weights", reading_ms(token.weight_bytes, token.tp, rates.served_gbps), "%.4g GB %s" % (token.weight_bytes / 1e9, reads)),
        Term("kv_cache", reading_ms(token.kv_bytes, token.tp, rates.served_gbps), "%.3g GB %s" % (token.kv_bytes / 1e9, reads)),
        Term("layers", token.layers * costs.layer_ms, "%d layers × %.4g ms" % (token.layers, costs.layer_ms)),
    ]
    if token.all_reduces:
        how = "%d × %.3g µs (%s)" % (token.all_reduces, rates.all_reduce_us, rates.all_reduce_source)
        found.append(Term("all_reduces", token.all_reduces * rates.all_reduce_us / 1e3, how))
    if token.hand_overs:
        how = "%d × %.3g ms" % (token.hand_overs, costs.hand_over_ms)
        found.append(Term("hand_overs", token.hand_overs * costs.hand_over_ms, how))
    return tuple(found)


def missing(token):
    """Return what adds to a token and has no figure here, as sentences.

    With asynchronous scheduling Ray added nothing: TP4 on four H200s took 13.02 ms under it and 13.01 ms without, vLLM 0.25.0
    (docs/reference/h200x4.md). Where vLLM turns it off under Ray, as 0.17 does, nobody has measured here what that costs.
    """
    if token.executor == "ray" and token.async_scheduling is not True:
        return ("what it costs under Ray where vLLM has no asynchronous scheduling there (0.17; with it, as in 0.25, Ray added nothing)",)
    return ()


def predict(token, rates, costs):
    """Return the :class:`Prediction` of a :class:`Token`: the sum of its terms, and the 95 % range of the fit (``constants.Costs``)."""
    found = terms(token, rates, costs)
    total = sum(term.ms for term in found)
    half = total * costs.spread(token.layers / total, token.hand_overs / total)
    lacking = missing(token)
    return Prediction(found, total, total - half, OPEN if lacking else total + half, lacking)
