"""From what the ranks of a group left to a fact's results and reasons.

A measurement that could not be made takes no good node away: serving itself comes next and says whether it works. Only a wrong
sum is a failure, and ranks that set out and did not come back are a warning, since serving would do the same with them.
"""

from __future__ import annotations

from ...core.scrub import scrub_text
from ...fabric import collective
from .groups import named

# Before these a rank has reduced nothing: what is missing is missing in the environment.
SETTING_UP = (None, "starting", "importing", "configuring")


def results(group, state):
    """Return ``measured.results`` of a group from its first local rank's ``state``: one for each batch that was measured."""
    return [_result(group, sample) for sample in state.get("samples", []) if sample.get("eager_times_us")]


def _result(group, sample):
    eager = collective.statistics_us(sample["eager_times_us"])
    found = {
        "tp": group["tp"],
        "nodes": group["nodes"],
        "batch": sample["batch"],
        "message_bytes": sample["message_bytes"],
        "dtype": sample["dtype"],
        "custom_all_reduce_asked": group["custom"],
        "layouts": list(group["layouts"]),
        "eager_time_us": eager["median"],
        "eager_path": sample["eager_path"],
        "wrong": sample["wrong"],
    }
    if sample.get("times_us"):
        times = collective.statistics_us(sample["times_us"])
        operations = sample["operations_per_graph"] * sample["replays_per_sample"]
        found.update(method="cuda_graph", path=sample["path"], time_us=times["median"], spread_us=times, operations_per_sample=operations)
    else:
        operations = sample["eager_operations_per_sample"]
        found.update(method="eager", path=sample["eager_path"], time_us=eager["median"], spread_us=eager, operations_per_sample=operations)
    return found


def judge(measurement, group, states, ended):
    """Add the reasons on one group. ``states`` are those of the local ranks, ``ended`` is ``(exit status, seconds, log's end)``."""
    first = states.get(0, {})
    found = results(group, first)
    wrong = ["%d wrong elements at %d bytes by %s" % (one["wrong"], one["message_bytes"], one["path"]) for one in found if one["wrong"]]
    if wrong:
        measurement.add(
            "collective.serving_values", "failed", "%s: %s" % (named(group), "; ".join(wrong)),
            "the exact sum in every element of every all-reduce on every rank",
            "do not serve with these GPUs: look at ECC, NVLink and link error counters; then try --disable-custom-all-reduce",
        )  # fmt: skip
    if ended[0] != 0 or first.get("stage") != "done":
        _judge_end(measurement, group, states, ended, found)
    for sample in first.get("samples", []):
        if sample.get("graph_error"):
            measurement.add(
                "collective.serving_graph", "skipped",
                "%s: not measured in a CUDA graph at %d bytes: %s; launched one by one it stands"
                % (named(group), sample["message_bytes"], sample["graph_error"]),
                "the all-reduce captured as vLLM captures it", "to see all it says, run the fact's command on the node",
            )  # fmt: skip
            break
    if found and not wrong:
        measurement.add("collective.serving", "healthy", "%s: %s" % (named(group), "; ".join(map(said, found))), "every result exact")


def said(result):
    """Return one result in words: ``16384 bytes 4.4 µs by custom in a CUDA graph``."""
    how = "in a CUDA graph" if result["method"] == "cuda_graph" else "launched one by one"
    return "%d bytes %s µs by %s %s" % (result["message_bytes"], result["time_us"], result["path"], how)


def _judge_end(measurement, group, states, ended, found):
    """Say why a run did not end well: what could not be set up is skipped, what set out and did not come back is degraded."""
    status, took_s, tail = ended
    # A rank that says what went wrong tells more than one that only lost its connection.
    errors = [state for state in states.values() if state.get("error")]
    teller = next((one for one in errors if not collective.blames_peer(one["error"])), errors[0] if errors else states.get(0, {}))
    stage, text = teller.get("stage"), teller.get("error") or collective.clean(collective.last_line(tail)) or "nothing was said"
    how = "not done after %.0f s" % took_s if status is None else "ended with status %s after %.0f s" % (status, took_s)
    setting_up = stage in SETTING_UP and status is not None
    measurement.add(
        "collective.serving", "skipped" if setting_up else "degraded",
        "%s: %s, %s: %s" % (named(group), how, "in the stage %s" % (stage or "starting"), text),
        "vLLM makes its group and reduces %s" % ("every message" if not found else "the other messages too"),
        "run the fact's command on the node to see everything it says"
        + ("" if setting_up else "; serving makes the same group: if it hangs as well, try VLLM_ALLREDUCE_USE_SYMM_MEM=0 or "
           "--disable-custom-all-reduce"),
    )  # fmt: skip
    measurement.context.setdefault("errors", []).append(
        {
            "group": named(group),
            "stage": stage,
            "error": scrub_text(text),
            "trace": scrub_text(teller.get("trace") or "") or None,
            "log": tail[-3000:],
        }
    )
