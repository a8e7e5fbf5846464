"""The options of a benchmark, as the module's defaults have them, for tests of its steps."""

from __future__ import annotations

from ansible.module_utils.plumbline.benchmark import options as benchmark_options

GIVEN = {
    "program": "/opt/vllm", "container": "", "node_addresses": ["10.0.0.4"], "url": "http://h:1", "served_name": "m", "model": "/m",
    "layout": {"name": "tp1", "tp": 1, "pp": 1, "nodes": 1, "executor": "mp"}, "server_pid": 1, "server_log": "/w/server.log",
    "runs": 5, "max_runs": 0, "interval_percent": 0.0, "prompts": 3, "concurrency": 1, "input_len": 57, "output_len": 64, "seed": 1,
    "slo": {}, "sweep": [], "sweep_prompts_per_slot": 4, "dtype": "auto", "hbm_read_gbps": 0.0, "hbm_read_known": {}, "context": {},
    "env": {}, "work_dir": "/w", "timeout_s": 600, "clock_window": {}, "expected_transport": "",
}  # fmt: skip


def options(**given):
    """Return the ``Options`` of a benchmark with these arguments; those that are not given have the module's defaults."""
    return benchmark_options.read({**GIVEN, **given})
