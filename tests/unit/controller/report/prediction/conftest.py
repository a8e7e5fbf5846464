"""How Hypothesis looks for counterexamples: the same ones each time, and on a machine with other work as well."""

from __future__ import annotations

from hypothesis import HealthCheck, settings

settings.register_profile("plumbline", deadline=None, derandomize=True, database=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("plumbline")
