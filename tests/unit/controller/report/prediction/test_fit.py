"""The constants are those that this project's own captures give, and none of them predicts only itself."""

from __future__ import annotations

import pytest
from ansible.module_utils.plumbline.controller.report.prediction import constants
from ansible.module_utils.plumbline.controller.report.prediction.fit import Seen, fit, layer_alone
from prediction_captures import FITTED, H200, seen

SEEN = {name: seen(path) for name, path in FITTED.items()}


def test_the_constants_are_the_fit_of_the_captures():
    found, costs = fit(SEEN.values()), constants.COSTS
    assert found.layer_ms == pytest.approx(costs.layer_ms, rel=5e-4)
    assert found.hand_over_ms == pytest.approx(costs.hand_over_ms, rel=5e-4)
    assert found.residual == pytest.approx(costs.residual, rel=1e-3)
    assert found.student == costs.student
    assert found.inverse == pytest.approx(costs.inverse, rel=1e-3)


@pytest.mark.parametrize("name", ["7B TP1", "32B TP1", "72B TP2"])
def test_a_layer_fitted_without_a_capture_predicts_that_capture(name):
    layer = layer_alone([one for other, one in SEEN.items() if other != name])
    one = SEEN[name]
    assert one.known_ms + one.layers * layer == pytest.approx(one.tpot_ms, rel=0.015)


def test_the_captures_by_themselves_say_at_which_rate_a_servers_products_read():
    """The rate with which they fit best is that of a plain kernel, and not that of the fast one of the GPU baseline."""
    best = min(range(4000, 4800), key=lambda rate: fit([seen(path, rate) for path in FITTED.values()]).residual)
    assert best == pytest.approx(H200, rel=0.02)
    assert best < 0.97 * H200 / constants.SERVED_SHARE["NVIDIA H200"]


def test_without_its_own_capture_a_hand_over_costs_nothing_and_the_pipeline_is_still_near():
    one = SEEN["72B PP2"]
    off = (one.known_ms + one.layers * layer_alone(SEEN.values())) / one.tpot_ms - 1
    assert off == pytest.approx(-0.04, abs=0.005)


def test_a_fit_finds_the_costs_that_tokens_were_made_with():
    made = [
        Seen(layers, hops, known, known + layers * 0.07 + hops * 2.5)
        for layers, hops, known in ((10, 0, 3), (20, 0, 9), (30, 1, 5), (40, 2, 1))
    ]
    found = fit(made)
    assert (found.layer_ms, found.hand_over_ms) == pytest.approx((0.07, 2.5))
    assert found.residual == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize("few", [2, 3])
def test_a_fit_without_an_answer_says_so(few):
    """Too few tokens, or none with a hand-over."""
    with pytest.raises(ValueError, match="no single answer"):
        fit([Seen(10 * (index + 1), 0 if few == 3 else index, 1.0, 3.0) for index in range(few)])
