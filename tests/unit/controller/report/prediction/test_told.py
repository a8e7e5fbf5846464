"""What was kept before serving is what is compared; what the facts of a served layout say against the model keeps a number away."""

from __future__ import annotations

import json

import pytest
from ansible.module_utils.plumbline.controller.report.prediction.compare import NAMES, comparison, parts
from project import ROOT
from report_runs import fact, put, whole_run

SERVED = ROOT / "tests/captures/h200x2/served"


def capture(name):
    return json.loads((SERVED / name).read_text())


def run_of(*names, change=None):
    """Return a run folder with the real start and benchmark of layouts on two H200s."""
    files = {path: content for path, content in whole_run().items() if "/benchmark." not in path and "/startup." not in path}
    files["selection.json"]["layouts"] = [{"name": name, "nodes": ["node1"]} for name in names]
    for name in names:
        for kind in ("startup", "benchmark"):
            made = capture("%s.%s.json" % (kind, name))
            (change or (lambda *_: None))(kind, made)
            put(files, "node1", made)
    return files


def one(records, files):
    (found,) = comparison(records(files))
    return found


@pytest.mark.parametrize("name", ["tp2", "pp2"])
def test_a_healthy_layout_of_real_gpus_is_within_its_range(records, name):
    found = one(records, run_of(name))
    assert found["told"]["before"] is False
    assert abs(found["off"]) < 0.01 and found["place"] == "within"


def test_two_nodes_of_two_h200s_are_within_their_range_and_take_nccl(records):
    """vLLM's own executor over two lab nodes: TCP between them, and no kernel of its own within."""
    files = run_of()
    for kind in ("startup", "benchmark"):
        put(files, "node1", json.loads((ROOT / ("tests/captures/h200x4/%s.tp2_pp2_across.json" % kind)).read_text()))
    found = one(records, files)
    assert found["place"] == "within" and abs(found["off"]) < 0.06
    assert found["told"]["all_reduce_us"] == 7.1


def test_what_was_said_before_is_compared_whatever_would_be_said_now(records):
    files = run_of("tp2")
    terms = [{"name": "weights", "ms": 10.0, "how": "said so"}, {"name": "all_reduces", "ms": 2.0, "how": "said so"}]
    numbers = {"tpot_ms": 12.0, "tpot_low_ms": 11.0, "tpot_high_ms": 13.0, "decode_tok_s": 83.3, "terms": terms, "all_reduces": 161,
               "read_gbps": 4322, "all_reduce_us": 12.4, "message_bytes": 16384, "group_nodes": 1, "fits": True}  # fmt: skip
    put(files, "node1", fact("prediction", "tp2", measured=numbers, context={"missing": [], "tp": 2}))
    found = one(records, files)
    assert found["told"]["before"] and found["told"]["tpot_ms"] == 12.0 and found["place"] == "slower"
    assert found["rest_ms"] == pytest.approx(21.105 - 12.0, abs=0.001)
    assert found["implied_us"] == pytest.approx((21.105 - 10.0) / 161 * 1e3, abs=0.01)


def test_a_prediction_that_breaks_its_schema_is_none(records):
    files = run_of("tp2")
    put(files, "node1", fact("prediction", "tp2", measured={"tpot_ms": "fast"}))
    assert one(records, files)["told"]["before"] is False


def test_a_layout_that_was_foretold_and_never_served_is_shown(records):
    files = run_of()
    put(files, "node1", fact("prediction", "tp8", "skipped", context={"against": ["no GPU: there is none"]}))
    found = one(records, files)
    assert (found["name"], found["layout"], found["measured_ms"], found["told"]["tpot_ms"]) == ("tp8", None, None, None)


@pytest.mark.parametrize(
    ("kind", "change", "words"),
    [
        ("startup", {"enforce_eager": True}, "without CUDA graphs"),
        ("startup", {"async_scheduling": False}, "without asynchronous scheduling"),
        ("startup", {"kv_cache_dtype": "fp8"}, "a KV cache in fp8"),
        ("benchmark", {"gpu_name": "NVIDIA B200"}, "NVIDIA B200"),
        ("benchmark", {"gpu_name": None}, "which GPU"),
        ("benchmark", {"extra_args": "-cc '{\"mode\": 0}'"}, "-cc"),
        ("benchmark", {"model_dtype": "float32"}, "weights in float32"),
        ("benchmark", {"model_bytes_unknown": "config.json: experts"}, "config.json: experts"),
        ("benchmark", {"tokens_per_step_unknown": "a drafter"}, "a drafter"),
        ("benchmark", {"hbm_read_gbps": None}, "no rate at which this GPU"),
    ],
)
def test_what_the_facts_say_against_the_model_keeps_a_number_away(records, kind, change, words):
    found = one(records, run_of("tp2", change=lambda of, made: made["context"].update(change) if of == kind else None))
    assert found["told"]["tpot_ms"] is None and found["place"] is None
    assert any(words in sentence for sentence in found["told"]["against"]), found["told"]["against"]


def test_several_requests_at_a_time_are_neither_predicted_nor_compared(records):
    found = one(records, run_of("tp2", change=lambda of, made: made["measured"].update(concurrency=8) if of == "benchmark" else None))
    assert found["told"]["tpot_ms"] is None and found["measured_ms"] is None


@pytest.mark.parametrize("name", ["tp2", "pp2"])
def test_the_parts_of_a_bar_add_up_to_what_was_foretold_and_to_what_was_measured(records, name):
    """TP2 was foretold to be slower than it was, PP2 was foretold exactly."""
    found = one(records, run_of(name))
    predicted, measured = parts(found)
    assert sum(ms for _name, ms in predicted) == pytest.approx(found["told"]["tpot_ms"])
    assert sum(ms for _name, ms in measured) == pytest.approx(found["measured_ms"])
    assert {part for part, _ms in predicted + measured} <= set(NAMES)


def test_the_labs_made_up_run_has_no_prediction(records):
    """Its facts name no GPU."""
    assert all(found["told"]["tpot_ms"] is None for found in comparison(records(whole_run())))
