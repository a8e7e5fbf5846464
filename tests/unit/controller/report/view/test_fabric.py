"""How a fit is told: by how much it is off, also where that is more than the value."""

from __future__ import annotations

import pytest
from ansible.module_utils.plumbline.controller.report.view import fabric


@pytest.mark.parametrize("median, most, said", [
    (0.0206, 0.1208, "off by 2.1\N{NO-BREAK SPACE}%, at most 12\N{NO-BREAK SPACE}%"),
    (0.089, 0.996, "off by 8.9\N{NO-BREAK SPACE}%, at most 100\N{NO-BREAK SPACE}%"),
    (1.1, 12.34, "off by 110\N{NO-BREAK SPACE}%, at most 1,234\N{NO-BREAK SPACE}%"),
])  # fmt: skip
def test_a_fit_that_is_off_by_more_than_its_value_has_no_exponent(median, most, said):
    fit = {"alpha_us": 21.4, "beta_gbps": 2.4, "residual_rel_median": median, "residual_rel_max": most}
    assert said in fabric._fit(fit)
