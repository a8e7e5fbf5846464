"""Figures are of the median batch and of their own phase's clocks; what is missing is None and never a number."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ansible.module_utils.plumbline.gpus import clock_samples, figures

GPU = {"kind": "cuda", "index": 0, "uuid": "GPU-0", "bus_id": "0000:01:00.0", "model": "NVIDIA H200", "mig": None}


def sample(sm, **more):
    base = {"bus_id": GPU["bus_id"], "sm_mhz": sm, "sm_max_mhz": 1980, "memory_mhz": 3201, "power_w": 690.0, "temperature_c": 60}
    return dict(base, reasons=["sw_power_cap"], **more)


@pytest.fixture
def samples():
    """Return samples, one each 0.2 s from second 0 to 20: 1980 MHz until second 10, then 1425."""
    now = [0.0]
    window = SimpleNamespace(samples=[], _keep=None)
    window._keep = window.samples.append
    found = clock_samples.Samples(window, now=lambda: now[0])
    for tick in range(100):
        now[0] = tick / 5
        window._keep([sample(1980 if tick < 50 else 1425)])
    return found


def matrix(**more):
    return dict({
        "size": 8192, "operations": 10**12, "times_s": [1 / 800] * 10 + [1 / 700] * 10, "began": 0.0, "ended": 20.0, "compared": 21,
        "wrong": 0, "exact_wrong": 0, "exact_elements": 64, "inputs_sha256": "a", "product_sha256": "b",
    }, **more)  # fmt: skip


def test_the_sustained_rate_and_its_clock_are_those_of_the_second_half(samples):
    row = figures.row(GPU, {"phases": {"matrix": matrix()}, "about": {"sm_count": 132}}, samples)
    assert row["bf16_first_tflops"] == 800 and row["bf16_tflops"] == 700 and row["sm_count"] == 132
    assert row["matrix_clocks"]["sm_mhz"] == 1425 and row["matrix_clocks"]["reasons"] == {"sw_power_cap": 1.0}
    assert row["tflops_per_ghz"] == pytest.approx(700 / 1.425, rel=1e-4)


def test_too_few_samples_say_nothing_of_the_clock(samples):
    row = figures.row(GPU, {"phases": {"matrix": matrix(began=9.0, ended=11.0)}}, samples)
    assert row["tflops_per_ghz"] is None and row["matrix_clocks"]["samples"] < figures.LEAST_SAMPLES and row["bf16_tflops"] == 700
    other = figures.row(dict(GPU, bus_id="0000:02:00.0"), {"phases": {"matrix": matrix()}}, samples)
    assert other["matrix_clocks"]["samples"] == 0 and other["matrix_clocks"]["sm_mhz"] is None and other["tflops_per_ghz"] is None


def test_copies_count_what_is_read_and_written_and_reads_only_once():
    phase = {"size_bytes": 2 * 10**9, "times_s": [1.0, 2.0, 4.0], "began": 0, "ended": 7, "wrong": 1}
    there = {"size_bytes": 2 * 10**9, "turns_s": [[1.0, 2.0, 4.0]], "wrong": 1}
    row = figures.row(GPU, {"phases": {"read": dict(phase, method="torch.sum"), "copy": phase, "h2d": there, "h2d_alone": there}})
    assert (row["read_gbps"], row["read_best_gbps"], row["copy_gbps"], row["h2d_gbps"]) == (1, 2, 2, 1)
    assert row["wrong_memory"] == 2 and row["wrong_transfers"] == 2 and row["d2h_gbps"] is None and row["read_clocks"] is None


def test_the_best_of_a_devices_turns_counts_and_all_are_kept():
    """One direction of one of four healthy H100s came to 43.3 GB/s in one turn, and to 41.5 with all at once, as the others did."""
    alone = {"size_bytes": 10**9, "turns_s": [[1 / 43.3], [1 / 54.5, 1 / 54.5, 1 / 20], [1 / 54.9]], "wrong": 0}
    row = figures.row(GPU, {"phases": {"h2d_alone": alone, "d2h_alone": dict(alone, turns_s=[[1 / 27.0]] * 3)}})
    assert row["h2d_gbps"] == 54.9 and row["h2d_turns_gbps"] == [43.3, 54.5, 54.9]
    assert row["d2h_gbps"] == 27.0 and row["h2d_together_gbps"] is None


def test_a_device_that_left_nothing_has_no_number():
    row = figures.row(GPU, {})
    assert {key for key, value in row.items() if value is not None} == {
        "index", "uuid", "bus_id", "model", "h2d_turns_gbps", "d2h_turns_gbps"
    }  # fmt: skip
    assert figures.row(GPU, {})["h2d_turns_gbps"] == []
    assert figures.row(GPU, {"phases": {"matrix": matrix(times_s=[])}})["bf16_tflops"] is None
