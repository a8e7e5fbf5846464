"""The arithmetic of a token: golden numbers by hand, and what must hold whatever the numbers are."""

from __future__ import annotations

import hypothesis.strategies as st
import pytest
from ansible.module_utils.plumbline.controller.report.prediction.constants import COSTS, CUSTOM_US
from ansible.module_utils.plumbline.controller.report.prediction.token import Rates, Token, predict
from hypothesis import assume, given
from prediction_captures import FITTED, capture, rates

# Qwen2.5-72B in FP16, a prompt of 57 and half of 512 tokens.
WEIGHTS, KV = 142_920_990_720, 327_680 * (57 + 256)


def of_72b(tp, pp=1, nodes=1, executor="mp"):
    return Token(80, 16384, WEIGHTS, KV, tp, pp, nodes, executor)


def terms(made):
    return {term.name: term.ms for term in made.terms}


def test_the_terms_of_the_studys_a_by_hand():
    made = predict(of_72b(4), Rates(3125, "measured on an H100", 4.9, "published"), COSTS)
    assert terms(made) == pytest.approx(
        {
            "weights": 142.92099 / 4 / 3.125,  # GB over four GPUs of 3.125 GB a ms
            "kv_cache": 0.10256384 / 4 / 3.125,
            "layers": 80 * 0.05039,
            "all_reduces": 161 * 4.9e-3,
        },
        rel=1e-6,
    )
    assert made.tpot_ms == pytest.approx(16.262, abs=0.001)


def test_a_pipeline_hands_over_once_less_than_it_has_stages():
    made = terms(predict(of_72b(1, pp=4), Rates(4322, ""), COSTS))
    assert made["hand_overs"] == pytest.approx(3 * 1.539)
    assert "all_reduces" not in made
    # The stages follow each other, so they read the whole model.
    assert made["weights"] == pytest.approx(33.068, abs=0.001)


@pytest.mark.parametrize(
    ("tp", "pp", "nodes", "spans"), [(4, 1, 1, 1), (8, 2, 2, 1), (16, 1, 2, 2), (2, 2, 2, 1), (4, 1, 2, 2), (4, 2, 4, 2), (8, 1, 8, 8)]
)
def test_a_group_of_tensor_parallelism_spans_nodes_only_where_they_are_too_small(tp, pp, nodes, spans):
    assert of_72b(tp, pp, nodes).group_nodes == spans


@pytest.mark.parametrize("name", FITTED)
def test_the_captures_are_within_their_range(name):
    token, measured = capture(FITTED[name])
    made = predict(token, rates(token), COSTS)
    assert made.low_ms < measured < made.high_ms
    assert (made.high_ms - made.low_ms) / made.tpot_ms < 0.10


def test_under_ray_a_prediction_is_the_least_unless_its_server_schedules_asynchronously():
    token, given = of_72b(8, pp=2, nodes=2, executor="ray"), Rates(3125, "", 5.2, "")
    for unknown in (None, False):
        made = predict(token._replace(async_scheduling=unknown), given, COSTS)
        assert made.high_ms is None and "asynchronous scheduling" in made.missing[0]
    made = predict(token._replace(async_scheduling=True), given, COSTS)
    assert made.missing == () and made.high_ms > made.tpot_ms


sizes = st.floats(1e6, 1e13)
rate = st.floats(100, 20_000)
ranks = st.sampled_from([1, 2, 4, 8, 16])
tokens = st.builds(
    Token,
    layers=st.integers(1, 200),
    message_bytes=st.sampled_from([1024, 16384, 32768]),
    weight_bytes=sizes,
    kv_bytes=st.floats(0, 1e11),
    tp=ranks,
    pp=st.integers(1, 8),
    nodes=st.just(1),
    executor=st.sampled_from(["mp", "ray"]),
)
microseconds = st.floats(0, 10_000)


@given(tokens, rate, rate, microseconds)
def test_more_bandwidth_never_predicts_slower(token, one, other, time_us):
    slow, fast = (predict(token, Rates(value, "", time_us, ""), COSTS).tpot_ms for value in sorted((one, other)))
    assert fast <= slow


@given(tokens, rate, microseconds, microseconds)
def test_a_faster_all_reduce_never_predicts_slower(token, read, one, other):
    fast, slow = (predict(token, Rates(read, "", value, ""), COSTS).tpot_ms for value in sorted((one, other)))
    assert fast <= slow


@given(tokens, st.integers(1, 200), rate, microseconds)
def test_more_layers_never_predict_faster(token, more, read, time_us):
    few, many = (predict(one, Rates(read, "", time_us, ""), COSTS).tpot_ms for one in (token, token._replace(layers=token.layers + more)))
    assert few < many


@given(tokens, rate, microseconds)
def test_more_stages_never_predict_faster(token, read, time_us):
    few, many = (predict(one, Rates(read, "", time_us, ""), COSTS).tpot_ms for one in (token, token._replace(pp=token.pp + 1)))
    assert few < many


@given(tokens, rate, microseconds)
def test_the_sum_of_the_terms_is_the_prediction_and_lies_in_its_range(token, read, time_us):
    made = predict(token, Rates(read, "", time_us, ""), COSTS)
    assert sum(term.ms for term in made.terms) == pytest.approx(made.tpot_ms, rel=1e-12)
    assert all(term.ms >= 0 and term.how for term in made.terms)
    assert made.low_ms < made.tpot_ms
    assert made.high_ms is None or made.tpot_ms < made.high_ms


@given(tokens, rate)
def test_twice_the_gpus_read_in_half_the_time(token, read):
    assume(token.tp in CUSTOM_US)
    one, two = (predict(each, Rates(read, "", 1, ""), COSTS) for each in (token, token._replace(tp=2 * token.tp)))
    assert terms(one)["weights"] == pytest.approx(2 * terms(two)["weights"])
