"""How the report's numbers are defined: ``(name, formula)``."""

from __future__ import annotations

FORMULAS = [
    ("throughput", "output tokens of a request / E2E, in tok/s. Includes the wait for the first token."),
    ("decode rate", "1 / TPOT, in tok/s. Leaves out the wait for the first token."),
    ("TTFT", "time from sending a request to its first token."),
    ("TPOT", "(E2E − TTFT) / (output tokens − 1). Some tools print E2E / output tokens under this name."),
    ("E2E", "time from sending a request to its last token."),
    ("± and [ ]", "95 % interval of the mean over runs, from Student's t: mean ± t(n − 1) × stdev / √n."),
    ("algorithm bandwidth", "message size / time, in GB/s = 10⁹ bytes per second."),
    (
        "bus bandwidth",
        "algorithm bandwidth × 2 (n − 1) / n for all-reduce over n ranks, × 1 for send-receive: "
        "what each rank's link carries, as nccl-tests defines it.",
    ),
    (
        "fit",
        "time = α + size / β over the sweep, by least squares of relative errors; off by: median and largest "
        "|model − measured| / measured.",
    ),
    (
        "slow pair",
        "a pair whose bus bandwidth at the largest size is below a share of the other pairs' median and outside their spread; "
        "a node is behind it when even its best pair is slow against the best of each other node without it.",
    ),
    ("TTFT p50, p90, p99", "quantiles over all requests of all runs, linearly interpolated; of ITL over all their tokens."),
    ("goodput", "requests a second that kept every bound of the SLO, each on its own; its share is of the requests completed."),
    ("total throughput", "output tokens of all requests / wall time from the first request to the last token, at so many in flight."),
    ("rate of one user", "output tokens of a request / E2E, at so many requests in flight: how fast an answer comes to one reader."),
    (
        "read floor",
        "(weights read for a token + KV cache of the context) / TP / rate at which a GPU reads its memory; "
        "pipeline stages add up to the whole model.",
    ),
    (
        "prediction",
        "TPOT = (weights + KV cache) / TP / read rate + layers × cost of a layer + all-reduces a token × time of one + (PP − 1) × cost of a"
        " hand-over; its range is Student's 95 % interval from the residuals of the fit (docs/explain.md).",
    ),
    ("all-reduces a token", "2 × layers + 1 under tensor parallelism: attention, MLP, and the embedding once."),
    (
        "per-token estimate",
        "all-reduces a token × median all-reduce time at hidden size × bytes per value: the serving runtime's own, else NCCL in a CUDA "
        "graph, else plain.",
    ),
]
