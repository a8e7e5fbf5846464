"""The alpha-beta fit: exact on data made by the model, honest about data that is not."""

from __future__ import annotations

import pytest
from ansible.module_utils.plumbline.fabric import alpha_beta
from ansible.module_utils.plumbline.fabric.nccl import output as nccl_output
from project import H200 as CAPTURES


def made(alpha_us, beta_gbps, sizes):
    return [(size, alpha_us + size / (beta_gbps * 1000)) for size in sizes]


@pytest.mark.parametrize(("alpha", "beta"), [(7.1, 480.0), (0.5, 2100.0), (28.0, 45.0), (900.0, 0.024)])
def test_exact_data_gives_its_parameters_back(alpha, beta):
    found = alpha_beta.fit(made(alpha, beta, [8 * 2**power for power in range(32)]))
    assert found["alpha_us"] == pytest.approx(alpha, rel=1e-5)
    assert found["beta_gbps"] == pytest.approx(beta, rel=1e-5)
    assert found["residual_rel_max"] < 1e-5
    assert found["sizes_used"] == 32


def test_small_messages_count_as_much_as_large_ones():
    # An absolute fit would give the start-up time away for a hair at 16 GiB.
    points = made(10.0, 400.0, [8 * 4**power for power in range(16)])
    points[-1] = (points[-1][0], points[-1][1] * 1.01)
    found = alpha_beta.fit(points)
    assert found["alpha_us"] == pytest.approx(10.0, rel=0.01)
    assert 0.005 < found["residual_rel_max"] < 0.011


def test_the_residual_shows_a_change_of_protocol():
    points = made(10.0, 400.0, [8 * 2**power for power in range(28)])
    points[14] = (points[14][0], points[14][1] * 2)
    found = alpha_beta.fit(points)
    assert found["residual_rel_max"] > 0.4 and found["residual_rel_median"] < 0.1


def test_no_parameter_is_negative():
    assert alpha_beta.fit([(8, 5.0), (1024, 5.0), (1048576, 5.0)]) == {
        "alpha_us": 5.0, "beta_gbps": None, "residual_rel_median": 0.0, "residual_rel_max": 0.0, "sizes_used": 3,
    }  # fmt: skip
    falling = alpha_beta.fit([(8, 9.0), (1024, 8.0), (1048576, 5.0)])
    assert falling["beta_gbps"] is None and falling["alpha_us"] > 0
    through_zero = alpha_beta.fit([(1000, 1.0), (2000, 2.2), (4000, 4.8)])
    assert through_zero["alpha_us"] == 0.0 and through_zero["beta_gbps"] == pytest.approx(0.9, rel=0.1)


def test_too_few_sizes_are_no_fit():
    assert alpha_beta.fit([(8, 1.0), (16, 2.0), (16, 2.1)]) is None
    assert alpha_beta.fit([(8, 1.0), (16, None), (32, 0.0), (0, 1.0)]) is None


def test_a_real_sweep():
    rows = nccl_output.parse_text((CAPTURES / "nccl.all_reduce_perf.1gpu.sweep.txt").read_text())["rows"]
    found = alpha_beta.fit([(row["size_bytes"], row["out_of_place"]["time_us"]) for row in rows])
    # One GPU copies 8 GiB in 4021 µs; the small sizes take 6 to 20 µs.
    assert found["beta_gbps"] == pytest.approx(8589934592 / 4021.33 / 1000, rel=0.1)
    assert 6 < found["alpha_us"] < 12
    assert found["sizes_used"] == 31 and found["residual_rel_median"] < 0.2
