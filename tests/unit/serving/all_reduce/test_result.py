"""From what ranks left to results and reasons."""

from __future__ import annotations

import pytest
from ansible.module_utils.plumbline.core.fact import Measurement
from ansible.module_utils.plumbline.serving.all_reduce import result

GROUP = {"tp": 2, "nodes": 1, "ranks_per_node": 2, "custom": True, "env": {}, "used_by": 1, "layouts": ["tp2"]}
EAGER = {
    "batch": 1, "message_bytes": 16384, "dtype": "bfloat16", "eager_path": "custom", "eager_times_us": [21.0, 20.0, 22.0],
    "eager_operations_per_sample": 50, "wrong": 0,
}  # fmt: skip
GRAPH = dict(EAGER, path="custom", times_us=[4.4, 4.5, 4.3], operations_per_graph=50, replays_per_sample=80)


def judged(states, status=0, tail="", took_s=12.0):
    measurement = Measurement("collective", "serving_all_reduce")
    result.judge(measurement, GROUP, states, (status, took_s, tail))
    return measurement


def done(*samples, **more):
    return {rank: dict({"stage": "done", "error": None, "samples": list(samples)}, **more) for rank in (0, 1)}


def test_a_time_in_a_graph():
    (found,) = result.results(GROUP, done(GRAPH)[0])
    assert (found["time_us"], found["method"], found["path"], found["nodes"], found["tp"]) == (4.4, "cuda_graph", "custom", 1, 2)
    assert found["spread_us"]["min"] == 4.3 and found["operations_per_sample"] == 4000 and found["eager_time_us"] == 21.0
    measurement = judged(done(GRAPH))
    assert measurement.fact()["status"] == "healthy"
    assert measurement.reasons[0]["seen"] == "TP2 on 1 node: 16384 bytes 4.4 µs by custom in a CUDA graph"


def test_without_a_graph_the_plain_one_stands_and_is_called_so():
    (found,) = result.results(GROUP, done(EAGER)[0])
    assert (found["time_us"], found["method"], found["operations_per_sample"]) == (21.0, "eager", 50)
    fact = judged(done(dict(EAGER, graph_error="RuntimeError: operation not permitted"))).fact()
    assert fact["status"] == "healthy" and [item["status"] for item in fact["reasons"]] == ["skipped", "healthy"]
    assert "operation not permitted" in fact["reasons"][0]["seen"] and "launched one by one" in fact["reasons"][1]["seen"]


def test_a_wrong_sum_fails_and_is_no_time():
    fact = judged(done(GRAPH, dict(GRAPH, message_bytes=262144, wrong=3, path="nccl"))).fact()
    assert fact["status"] == "failed"
    assert "3 wrong elements at 262144 bytes by nccl" in fact["reasons"][0]["seen"] and len(fact["reasons"]) == 1


@pytest.mark.parametrize(
    ("states", "status", "tail", "expected", "words"),
    [
        # No vLLM in that environment, or one whose functions have other names: nothing was reduced, and no node is accused.
        ({0: {"stage": "importing", "error": "ModuleNotFoundError: No module named 'vllm'", "samples": []}}, 1, "", "skipped", "'vllm'"),
        ({}, 1, "torchrun: error: unrecognized arguments", "skipped", "unrecognized arguments"),
        # They set out and did not come back: serving would do the same.
        ({0: {"stage": "groups", "error": None, "samples": []}}, None, "", "degraded", "not done after 12 s, in the stage groups"),
        ({0: {"stage": "graph", "error": "RuntimeError: CUDA error", "samples": [EAGER]}}, 1, "", "degraded", "CUDA error"),
        ({}, None, "", "degraded", "in the stage starting"),
    ],
)
def test_ranks_that_did_not_end_well(states, status, tail, expected, words):
    measurement = judged(states, status, tail)
    first = measurement.reasons[0]
    assert first["status"] == expected and words in first["seen"] and first["remedy"]
    assert measurement.fact()["status"] in ("skipped", "degraded"), "what was not measured takes no node away"
    assert measurement.context["errors"][0]["group"] == "TP2 on 1 node"


def test_a_rank_that_says_what_went_wrong_tells_more_than_one_that_lost_its_connection():
    states = {
        0: {"stage": "measuring", "error": "RuntimeError: Connection closed by peer [127.0.0.1]", "samples": []},
        1: {"stage": "measuring", "error": "RuntimeError: CUDA error: an illegal memory access", "trace": "Traceback ...", "samples": []},
    }
    measurement = judged(states, 1)
    assert "illegal memory access" in measurement.reasons[0]["seen"] and measurement.context["errors"][0]["trace"] == "Traceback ..."
