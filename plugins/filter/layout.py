"""Filters that say what is known of a serving layout between its tasks, from what they registered."""

from __future__ import annotations

from ansible.module_utils.plumbline.controller import benchmark_plan, layout


class FilterModule:
    """Ansible's entry point."""

    def filters(self):
        """Return the filters by name; arguments and results are those of the functions."""
        return {
            "layout_prepared": layout.prepared,
            "plumbline_gpu_env": layout.gpu_environment,
            "layout_ended": layout.ended,
            "benchmark_plan": benchmark_plan.plan,
            "locked_mhz": benchmark_plan.locked_mhz,
        }
