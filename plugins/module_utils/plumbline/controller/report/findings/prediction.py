"""Findings about predictions: what was foretold of a token against what it took, and what to run where they are apart.

Standard library only.
"""

from __future__ import annotations

from ..format import digits, size
from ..prediction.compare import NAMES
from ..prediction.coverage import NO_GPU
from ..records.layouts import describe
from ..records.reading import get, text
from .layouts import finding

# An all-reduce that takes so many times what it should is another wire, not a slow day: sockets take three to five times as long.
ANOTHER_WIRE = 2.0
TELL_WIRE = (
    "serve it again with NCCL_DEBUG: INFO and NCCL_DEBUG_SUBSYS: INIT,NET,ENV in vllm_serve_env and serve_benchmark_expected_transport:"
    " IB, which says what carried it; measure the fabric with fabric_baseline_nccl_force_socket: true, which says what an all-reduce over"
    " sockets takes"
)


def prediction_findings(compared):
    """Return the findings about ``compared`` layouts (``prediction.compare.comparison``)."""
    bare = [record["name"] for record in compared if _no_gpu(record)]
    result = [_told(record) for record in compared if record["told"] and not _no_gpu(record)]
    if bare:
        claim = "No prediction for %s: there is no GPU, and the model is of GPUs, whose memory bounds a token." % ", ".join(bare)
        result.append(finding("layouts.prediction", "no data", claim, missing="a GPU"))
    return result + [_unexplained(record, compared) for record in compared if record["place"] == "slower"]


def _no_gpu(record):
    """Tell whether nothing is predicted because there is no GPU."""
    against = (record["told"] or {}).get("against") or []
    return bool(against) and against[0].startswith(NO_GPU)


def _told(record):
    name, said, measured = "layouts.prediction.%s" % record["name"], record["told"], record["measured_ms"]
    title = describe(record["layout"]) if record["layout"] else record["name"]
    if said["tpot_ms"] is None:
        claim = "Nothing is predicted for %s." % title
        if measured and (record["implied_us"] or 0) > 0:
            claim += " What reading, layers and hand-overs leave of its TPOT of %s is %s for each of %d all-reduces." % (
                digits(measured, "ms"), digits(record["implied_us"], "µs"), said["all_reduces"],
            )  # fmt: skip
        return finding(name, "no data", claim, missing="; ".join(said["against"]) or "a prediction")
    when = "said before it was served" if said["before"] else "by what is known of it, and nothing was said before"
    text = "%s: a token was to take %s (%s), %s" % (title, digits(said["tpot_ms"], "ms"), spoken_range(said), when)
    values = {"layout": record["name"], "predicted_ms": said["tpot_ms"], "measured_ms": measured, "off": record["off"]}
    if measured is None:
        return finding(name, "estimate", text + ". It was not measured.", arithmetic(said), values=values)
    text += "; it took %s, so the prediction is %s %% %s" % (
        digits(measured, "ms"), digits(abs(100 * record["off"])), "above" if record["off"] > 0 else "below",
    )  # fmt: skip
    text += {"within": " and the range holds", "faster": ": faster than the range", "slower": ": slower than the range"}[record["place"]]
    if said["missing"]:
        text += ". Not counted: %s" % "; ".join(said["missing"])
    return finding(name, "estimate", text + ".", arithmetic(said), values=values)


def spoken_range(said):
    """Return the range of a prediction in words."""
    low, high = said["tpot_low_ms"], said["tpot_high_ms"]
    return "%s to %s" % (digits(low), digits(high)) if high is not None else "at least %s" % digits(low)


def arithmetic(said):
    """Return the terms of a prediction as one sum."""
    terms = ["%s %s ms" % (NAMES.get(term["name"], term["name"]), digits(term["ms"])) for term in said["terms"]]
    hows = ["%s: %s" % (NAMES.get(term["name"], term["name"]), term.get("how")) for term in said["terms"]]
    return "%s = %s ms. %s" % (" + ".join(terms), digits(said["tpot_ms"]), "; ".join(hows))


def _unexplained(record, compared):
    """Return the finding about a layout that is slower than its range: how much, whose it may be, and what to run to tell."""
    said, layout = record["told"], record["layout"]
    claim = "%s takes %s ms a token that no term explains." % (describe(layout), digits(record["rest_ms"]))
    if said["group_nodes"] and said["group_nodes"] > 1:
        suspect, more, tell = _wire(record, compared)
    elif layout["executor"] == "ray":
        suspect, more, tell = _executor(record, compared)
    else:
        suspect, more = "node", " Nothing but this node and its software carried it."
        tell = "look at the clocks of its window and at the GPU baseline: a slow memory or a power cap shows there"
    values = {
        "layout": record["name"],
        "rest_ms": record["rest_ms"],
        "implied_us": record["implied_us"],
        "suspect": suspect,
        "to_tell": tell,
    }
    claim += "%s To tell: %s." % (more, tell)
    return finding("layouts.unexplained.%s" % record["name"], "warning", claim, _implied(record), values=values)


def _implied(record):
    said = record["told"]
    if not said["group_nodes"] or said["group_nodes"] == 1:
        return "%s ms measured − %s ms of all terms = %s ms" % (
            digits(record["measured_ms"]),
            digits(said["tpot_ms"]),
            digits(record["rest_ms"]),
        )
    return "(%s − %s ms of all other terms) / %d all-reduces of %s = %s µs each; expected were %s µs (%s)" % (
        digits(record["measured_ms"]), digits(said["least_ms"]), said["all_reduces"], size(said["message_bytes"]),
        digits(record["implied_us"]), digits(said["all_reduce_us"]), said["all_reduce_source"],
    )  # fmt: skip


def _wire(record, compared):
    """Return suspect, sentences and advice of a layout whose all-reduces cross nodes."""
    said, carried = record["told"], _carried(record["layout"])
    implied, expected = record["implied_us"], said["all_reduce_us"]
    more = " That leaves %s for each of its %d all-reduces, which should take %s (%s)." % (
        digits(implied, "µs"), said["all_reduces"], digits(expected, "µs"), said["all_reduce_source"],
    )  # fmt: skip
    share = _of_executor(record, compared)
    if share is not None:
        implied -= share / said["all_reduces"] * 1e3
        more += " Ray may have its part: with the %s ms that %s lacks, %s are left." % (
            digits(share),
            _lender(compared),
            digits(implied, "µs"),
        )
    if implied < ANOTHER_WIRE * expected:
        return "fabric", more, TELL_WIRE
    if carried == "IB":
        more += " NCCL said that InfiniBand carried it: then something slows it down."
        return "fabric", more, "measure the pairs of its nodes (docs/fabric-pairs.md) and read the ports' counters"
    if carried and carried != "P2P":
        return "wire", more + " NCCL said that %s carried it." % carried, "serve it over InfiniBand: NCCL_NET: IB makes a fallback an error"
    more += " That is not InfiniBand: NCCL takes TCP without a word where it finds no device, and nothing here says what it took."
    return "not InfiniBand", more, TELL_WIRE


def _carried(layout):
    """Return what NCCL said carried a layout's data between nodes, None where it said nothing."""
    entries = layout["entries"]["benchmark"]
    return text(get(entries[-1]["fact"], "context", "transport", "verdict")) if entries else None


def _lenders(compared):
    """Return the layouts under Ray whose all-reduces stay within a node: what they lack is no all-reduce's."""
    return [
        item for item in compared
        if item["rest_ms"] is not None and (item["told"]["group_nodes"] or 1) == 1 and item["layout"]["executor"] == "ray"
    ]  # fmt: skip


def _lender(compared):
    return max(_lenders(compared), key=lambda item: item["rest_ms"])["name"]


def _of_executor(record, compared):
    """Return the most that a layout under Ray without all-reduces across nodes lacks, in ms; None without one, or without Ray here."""
    rests = [item["rest_ms"] for item in _lenders(compared) if item["rest_ms"] > 0]
    return max(rests) if rests and record["layout"]["executor"] == "ray" else None


def _executor(record, compared):
    """Return suspect, sentences and advice of a layout under Ray whose all-reduces stay within a node."""
    layout, entries = record["layout"], record["layout"]["entries"]["startup"]
    off = get(entries[-1]["fact"], "context", "async_scheduling") if entries else None
    more = " Its all-reduces stay within a node, and between nodes a token goes once at most: the executor is the suspect."
    more += (
        " Its server ran without asynchronous scheduling." if off is False else " vLLM 0.17 turns asynchronous scheduling off under Ray."
    )
    others = [item["layout"] for item in compared if item["layout"] and item["layout"]["executor"] == "mp" and item["measured_ms"]]
    twin = next((other for other in others if other["tp"] == layout["tp"]), others[0] if others else None)
    tell = "serve %s with executor: ray, which shows what Ray adds" % (twin["name"] if twin else "a layout of one node")
    return "executor", more, "%s; and %s with executor: mp, which shows what the nodes add" % (tell, layout["name"])
