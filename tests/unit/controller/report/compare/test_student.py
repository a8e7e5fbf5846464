"""Student's t against printed tables and against itself."""

from __future__ import annotations

import pytest
from ansible.module_utils.plumbline.controller.report.compare import student
from ansible.module_utils.plumbline.core.stats import T_975


@pytest.mark.parametrize("degrees, value", sorted(T_975.items()))
def test_the_bound_is_that_of_the_printed_table(degrees, value):
    assert student.bound(0.05, degrees) == pytest.approx(value, abs=0.0006)


# NIST/SEMATECH e-Handbook 1.3.6.7.2, column 0.999.
@pytest.mark.parametrize("degrees, value", [(1, 318.313), (2, 22.327), (4, 7.173), (8, 4.501), (30, 3.385)])
def test_far_tails_are_those_of_the_table_too(degrees, value):
    assert student.bound(0.002, degrees) == pytest.approx(value, rel=3e-5, abs=0.0006)


def test_degrees_need_not_be_whole_and_a_bound_has_its_probability():
    for degrees in (0.7, 3.3, 17.5, 1e6):
        for share in (0.5, 0.05, 1e-4, 1e-6):
            assert student.two_sided(student.bound(share, degrees), degrees) == pytest.approx(share, rel=1e-6)
