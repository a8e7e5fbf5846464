"""Numbers, sizes, durations and intervals as text."""

from __future__ import annotations

import pytest
from ansible.module_utils.plumbline.controller.report.format import digits, interval, mean_and_error, seconds, size


@pytest.mark.parametrize("value, text", [
    (None, "—"), (float("nan"), "—"), (True, "—"), ("3", "—"), (0, "0"), (5, "5"), (0.11, "0.11"), (0.0004, "4.00e-04"),
    (1.0, "1.00"), (9.994, "9.99"), (9.996, "10.0"), (99.96, "100"), (1234.5, "1,234"), (-12.34, "-12.3"),
])  # fmt: skip
def test_digits(value, text):
    assert digits(value) == text


def test_sizes_and_durations():
    assert [size(value) for value in (8, 1024, 16384, 64 * 2**20, 1.5 * 2**30)] == [
        "8 B",
        "1 KiB",
        "16 KiB",
        "64 MiB",
        "1.5 GiB",
    ]
    assert [seconds(value) for value in (0.42, 41.5, 99.6, 185, 3720)] == [
        "0.42 s",
        "41.5 s",
        "1 min 40 s",
        "3 min 05 s",
        "1 h 02 min",
    ]


@pytest.mark.parametrize("mean, half, text", [
    (211.388, 0.0819, "211.39 ± 0.08"), (18.04384, 0.00143, "18.0438 ± 0.0014"), (9248.33, 0.834, "9,248.3 ± 0.8"),
    (1234.5, 145.2, "1,234 ± 145"), (5.0, 0.5, "5.00 ± 0.50"), (0.4128, 0.0002, "0.41280 ± 0.00020"), (0.04128, 0.02, "0.0413 ± 0.0200"),
    (100.0, 0.0997, "100.00 ± 0.10"), (211.4, 0, "211 ± 0"), (3.0, 1e-15, "3.000000 ± 0.000000"),
])  # fmt: skip
def test_a_mean_and_its_interval_end_at_the_same_decimal(mean, half, text):
    assert "%s ± %s" % mean_and_error(mean, half) == text
    low, high = interval({"mean": mean, "ci95_low": mean - half, "ci95_high": mean + half}).rstrip("]").split(" [")[1].split(", ")
    places = [len(part.partition(".")[2]) for part in (*text.split(" ± "), low, high)]
    assert len(set(places)) == 1


def test_a_mean_without_an_interval_stands_alone():
    assert mean_and_error(5.0, None) == ("5.00", None) and mean_and_error(None, 1.0) == ("—", None)
    assert interval({"mean": 5.0, "ci95_low": 4.5, "ci95_high": 5.5}, "ms") == "5.00 [4.50, 5.50] ms"
    assert interval({"mean": 5.0, "ci95_low": None, "ci95_high": None}) == "5.00"
    assert interval({"mean": None, "ci95_low": 4.5, "ci95_high": 5.5}) == "—"
