"""Collectives: bandwidth formulas, statistics of a sweep, and the verdict.

The formulas are those of nccl-tests, doc/PERFORMANCE.md
(https://github.com/NVIDIA/nccl-tests/blob/master/doc/PERFORMANCE.md):
``algbw = size / time``; ``busbw = algbw * factor``, where the factor makes the number comparable with the
speed of the hardware whatever the number of ranks. Bandwidths are in 10^9 **bytes** per second.

torch's time of an operation is the *median* over the batches of a size, each of them timed as a whole and divided by its
operations, as nccl-tests time the one batch of which they print the mean; so one stall does not hide the link's speed. The
spread is in the fact beside it. What decoding sends is also measured in a CUDA graph: ``graph_time_us``.
"""

from __future__ import annotations

import re

from ..core.scrub import scrub_text
from ..core.stats import quantile
from . import alpha_beta

OPS = ("all_reduce", "sendrecv")
SCOPES = ("within", "across")

# The least share of the computed traffic that must show on an interface's counter to call it evidence.
# In-network reduction (SHARP) halves what an all-reduce sends, and counters are read around the whole run.
EVIDENCE_SHARE = 0.5


def wrong_addresses(scope, addresses):
    """Return what is wrong with the addresses of a collective's nodes, None when nothing is."""
    count = len(addresses)
    if scope == "within" and count != 1:
        return f"scope=within takes one address, got {count}: {addresses}"
    if scope == "across" and (count < 1 or len(set(addresses)) != count):
        return f"scope=across takes different addresses, got {addresses}"
    return None


def needs_no_run(measurement, check_mode, scope, addresses):
    """Return whether there is nothing to run, after saying why."""
    if check_mode:
        measurement.add("check_mode", "skipped", "a collective starts processes, which check mode does not do")
    elif scope == "across" and len(addresses) < 2:
        measurement.add(
            "collective.nodes",
            "skipped",
            "one serving node: there is nothing to measure across",
            "two nodes",
            "if more nodes should serve, see why they were not selected",
        )
    return bool(measurement.reasons)


def busbw_factor(op, ranks):
    """Return busbw / algbw for ``op`` over ``ranks`` ranks (nccl-tests doc/PERFORMANCE.md)."""
    if ranks < 2:
        raise ValueError(f"a collective needs at least 2 ranks, got {ranks}")
    if op == "all_reduce":
        return 2 * (ranks - 1) / ranks
    if op == "sendrecv":
        return 1.0
    raise ValueError(f"unknown op {op!r}, expected one of {', '.join(OPS)}")


def significant(value):
    """Return ``value`` with 6 significant digits: bandwidths of 8 B and of 64 MB differ by a factor of a million."""
    return None if value is None else float(f"{value:.6g}")


def statistics_us(times_us):
    """Return the statistics of the samples of one size, in µs."""
    return {
        "min": round(min(times_us), 3),
        "median": round(quantile(times_us, 0.5), 3),
        "p90": round(quantile(times_us, 0.9), 3),
        "max": round(max(times_us), 3),
    }


def row(op, ranks, sample):
    """Return one row of the sweep: times in microseconds, bandwidths in 10^9 bytes/s.

    A sample's time is that of a batch of ``operations_per_sample`` divided by them. Bandwidths are of the plain time.
    """
    times_us, operations = sample["times_us"], sample.get("operations_per_sample", 1)
    median = quantile(times_us, 0.5)
    algbw = sample["size_bytes"] / (median * 1000) if median > 0 else None
    found = {
        "size_bytes": sample["size_bytes"],
        "iterations": len(times_us) * operations,
        "operations_per_sample": operations,
        "time_us": statistics_us(times_us),
        "algbw_gbps": significant(algbw),
        "busbw_gbps": significant(None if algbw is None else algbw * busbw_factor(op, ranks)),
    }
    if sample.get("graph_times_us"):
        found["graph_time_us"] = statistics_us(sample["graph_times_us"])
        found["graph_operations_per_sample"] = sample["graph_operations_per_sample"]
    return found


def method(samples):
    """Return what torch's numbers are: which clock took them, over what, and whether some are of a CUDA graph too."""
    return {
        "clock": samples[0].get("clock", "host"),
        "time_us": "a batch of operations_per_sample operations, queued one behind the other, divided by them",
        "over_ranks": "max",
        "operations_per_sample": max(item.get("operations_per_sample", 1) for item in samples),
        "graph": any(item.get("graph_times_us") for item in samples),
    }


def measured(op, ranks, nodes, samples):
    """Return a fact's ``measured`` from the worker's samples ``[{size_bytes, times_us, ...}]``.

    Without samples only ``ranks`` and ``nodes`` are there: nothing is made up.
    """
    result = {"ranks": ranks, "nodes": nodes}
    if not samples:
        return result
    result["method"] = method(samples)
    return dict(result, **summary([row(op, ranks, item) for item in samples]))


def typical(time_us):
    """Return ``(µs, which statistic)`` of a row's ``time_us``: its median where it has one, else its mean."""
    name = "median" if time_us.get("median") is not None else "mean"
    return time_us[name], name


def summary(sweep):
    """Return what both tools' facts say of a whole sweep, which is a part of it.

    The latency is named after its statistic, ``latency_8b_us`` (median) or ``latency_8b_mean_us``, and the fit says over
    which it is, ``time_us``: nccl-tests print means only.
    """
    found = {"sweep": sweep}
    for item in sweep:
        if item["size_bytes"] == 8:
            value, name = typical(item["time_us"])
            found["latency_8b_us" if name == "median" else "latency_8b_mean_us"] = value
            if item.get("graph_time_us"):
                value, name = typical(item["graph_time_us"])
                found["latency_8b_graph_us" if name == "median" else "latency_8b_graph_mean_us"] = value
    found["peak_busbw_gbps"] = max(item["busbw_gbps"] or 0.0 for item in sweep)
    times = [typical(item["time_us"]) for item in sweep]
    fit = alpha_beta.fit([(item["size_bytes"], value) for item, (value, _name) in zip(sweep, times)])  # noqa: B905 -- Python 3.9
    found["fit"] = fit and dict(fit, time_us=" and ".join(sorted({name for _value, name in times})))
    return found


def expected_traffic(op, ranks, samples):
    """Return the bytes that one node sends at least for ``samples``, by a ring: busbw's factor x size x operations."""
    return int(sum(busbw_factor(op, ranks) * item["size_bytes"] * item["operations"] for item in samples))


def judge_values(measurement, samples, sizes):
    """Add the reasons on completeness and on the values that arrived."""
    done = {item["size_bytes"] for item in samples}
    missing = [size for size in sizes if size not in done]
    if missing:
        measurement.add(
            "collective.sweep",
            "incomplete",
            f"{len(done)} of {len(sizes)} sizes measured, missing {', '.join(map(str, missing))} bytes",
            "every size of the sweep",
            "read the reason beside this one, then run it again",
        )
    wrong = [(item["size_bytes"], item["wrong"]) for item in samples if item["wrong"]]
    if wrong:
        text = ", ".join(f"{count} wrong elements at {size} bytes" for size, count in wrong)
        measurement.add(
            "collective.values",
            "failed",
            text,
            "the exact sum, or the sender's values, in every element on every rank",
            "do not use this pair of nodes: memory, NIC or switch corrupts data; look at ECC and link error counters",
        )
    elif samples:
        measurement.add("collective.values", "healthy", f"every element correct at {len(samples)} sizes", "no wrong value")


def judge_traffic(measurement, op, ranks, samples, counters):
    """Add the reason on evidence: did the data leave through an interface that we know?

    ``counters`` maps a counter's name (``eth0``, ``mlx5_ib0/1``) to the bytes it sent during the run,
    or to None where it could not be read.
    """
    if not samples:
        return
    expected = expected_traffic(op, ranks, samples)
    known = {name: value for name, value in counters.items() if value is not None}
    seen = ", ".join(f"{name} sent {value} bytes" for name, value in sorted(known.items())) or "no counter was readable"
    threshold = f"at least {EVIDENCE_SHARE:.0%} of the {expected} bytes that the sweep sends"
    if known and sum(known.values()) >= EVIDENCE_SHARE * expected:
        measurement.add("collective.traffic", "healthy", seen, threshold)
    else:
        measurement.add(
            "collective.traffic",
            "incomplete",
            seen,
            threshold,
            "the data took another way than the interface named in the context: set fabric_baseline_interface",
        )


def judge_fallback(measurement, counters, interface, samples, op, ranks):
    """Add a failure when InfiniBand ports are there and the data went over Ethernet instead."""
    ports = {name: value for name, value in counters.items() if name != interface}
    if not samples or not ports:
        return
    expected = expected_traffic(op, ranks, samples)
    sent = sum(value or 0 for value in ports.values())
    if sent < EVIDENCE_SHARE * expected:
        measurement.add(
            "collective.transport",
            "failed",
            f"InfiniBand ports sent {sent} of {expected} bytes: NCCL fell back to sockets on {interface}",
            "the data on the InfiniBand ports",
            "run with fabric_baseline_env: {NCCL_NET: IB, NCCL_DEBUG: INFO}, which makes the fallback an error and says why",
        )


OTHER_RANK = "other rank(s)"  # as torch_worker says of a rank that did as it should


def graph_error(states):
    """Return why there is no measurement in a CUDA graph, by the rank that knows; None where nothing prevented it."""
    errors = [state["graph_error"] for state in states if state.get("graph_error")]
    return min(errors, key=lambda text: OTHER_RANK in text, default=None)


def judge_graph(measurement, state, sizes, ended_well, said):
    """Say what became of the measurement in a CUDA graph; return whether it explains a run that did not end well.

    It comes after all plain numbers, which stand whatever becomes of it. ``state`` is a rank's last, ``said`` what ended it.
    """
    threshold = "the messages that decoding sends, in a CUDA graph"
    whole = {item["size_bytes"] for item in state.get("samples", [])} >= set(sizes)
    if not ended_well and state.get("stage") in ("graph", "done") and whole:
        seen = f"the ranks did not come back from measuring in a CUDA graph: {state.get('graph_error') or said or 'nothing was said'}"
        remedy = "the plain numbers stand; serving launches graphs too: try vllm serve with --enforce-eager if it hangs as well"
        measurement.add("collective.graph", "degraded", seen, threshold, remedy)
        return True
    if state.get("graph_error"):
        seen = f"not measured in a CUDA graph: {state['graph_error']}; the plain numbers stand"
        measurement.add("collective.graph", "skipped", seen, threshold, "to see all it says, run the fact's command on the node")
    return False


def judge_baseline(measurement, peak_busbw_gbps, minimum_gbps, variable):
    """Add the reason on the threshold; without one it is ``skipped``, which is never a pass."""
    if minimum_gbps is None:
        measurement.add(
            "collective.baseline",
            "skipped",
            "no baseline is known for this fabric",
            None,
            f"set {variable} to have one",
        )
        return
    ok = peak_busbw_gbps is not None and peak_busbw_gbps >= minimum_gbps
    measurement.add(
        "collective.baseline",
        "healthy" if ok else "failed",
        f"peak bus bandwidth {peak_busbw_gbps} GB/s",
        f"at least {minimum_gbps} GB/s",
        None if ok else "compare the sweep with a good pair of nodes; look at link width, speed, errors and topology",
    )


# What torch says when it is the other side that is gone or never came (Gloo, TCPStore, NCCL).
PEER_SIGNS = (
    "connection closed by peer",
    "connection reset by peer",
    "broken pipe",
    "connection refused",
    "no route to host",
    "network is unreachable",
    "timed out",
    "timeout",
    "remote process exited",
    "failed to connect",
    "connectfullmesh failed",
    "socket closed",
)


def blames_peer(text):
    """Return whether an error text says that the other side is gone."""
    lower = (text or "").lower()
    return any(sign in lower for sign in PEER_SIGNS)


def diagnose(state, log_tail, exit_status, peers, waited_s):
    """Return ``(check, seen, remedy)`` for a run that did not end well.

    ``state`` is the first local rank's last state ({} when it never started), ``exit_status`` torchrun's
    (None: stopped at the timeout), ``peers`` the other nodes' addresses, ``waited_s`` seconds.
    """
    stage = state.get("stage")
    error = state.get("error")
    who = ", ".join(peers)
    at = f" while measuring {state['size_bytes']} bytes" if stage == "measuring" and state.get("size_bytes") else ""
    said = clean(error or last_line(log_tail))
    if peers and stage == "measuring" and (exit_status is None or blames_peer(said)):
        return (
            "collective.peer",
            f"lost {who}{at} after {waited_s:.0f} s: {said or 'no answer'}",
            f"look at {who}: is it up, does it answer on this interface, did its process die (dmesg)?",
        )
    if peers and stage in (None, "joining") and (exit_status is None or blames_peer(said)):
        return (
            "collective.peer",
            f"{who} did not join within {waited_s:.0f} s: {said or 'no answer'}",
            f"look at {who}: is it up, does a firewall close the port, did its own task fail?",
        )
    if exit_status is None:
        return (
            "collective.run",
            f"not done after {waited_s:.0f} s{at}: {said or 'nothing was said'}",
            "give it more time (fabric_baseline_timeout_s) or fewer sizes (fabric_baseline_sizes)",
        )
    ended = f"was killed by signal {-exit_status}" if exit_status < 0 else f"ended with status {exit_status}"
    return (
        "collective.run",
        f"torchrun {ended}{at}: {said or 'nothing was said'}",
        "run the fact's command on the node to see everything it says",
    )


def clean(error):
    """Return an error of torch without the place in its source and the advice that Gloo adds to each."""
    text = re.sub(r"\[/\S+:\d+\] ?", "", error or "")
    return text.split(" This is typically caused by")[0].strip()


def last_line(text):
    """Return the line of a log that says most: the last that names an error, else the last that is no warning."""
    lines = [line.strip() for line in (text or "").splitlines() if line.strip()]
    lines = [line for line in lines if not line.startswith("[W")]  # torch's log: [W1124 05:57:18.03 socket.cpp:207]
    errors = [line for line in lines if "Error" in line and "elastic" not in line and "Traceback" not in line]
    return scrub_text((errors or lines or [""])[-1])[:400]
