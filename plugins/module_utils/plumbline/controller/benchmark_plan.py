"""What the task of ``roles/serve_benchmark`` is told, from the start of the server, the lock of the clocks and the role's variables."""

from __future__ import annotations

from ..benchmark.client import most_calls
from ..core.fact import PASSING

# Seconds beside the client's calls: counters, clocks, and the log.
SPARE_S = 300
# Of the start, what is noted beside the numbers as well; None where the start did not say.
FROM_STARTUP = ("node_addresses", "runtime", "image_id", "vllm_version")


def locked_mhz(result):
    """Return what ``gpu_clocks`` locked in this run, from its registered ``result``, in MHz.

    0 where it did not, was not asked to, or could not prove it.
    """
    fact = _mapping(_mapping(result).get("fact"))
    asked = _mapping(fact.get("context")).get("requested_mhz")
    known = isinstance(asked, (int, float)) and not isinstance(asked, bool) and 0 < asked < 1e6
    return int(asked) if known and fact.get("status") in PASSING else 0


def _mapping(value):
    return value if isinstance(value, dict) else {}


def plan(startup, clocks, given):
    """Return what the benchmark is told: the server's place and marks, ``context``, ``expected_mhz`` and ``limit_s``.

    ``startup`` and ``clocks`` are the registered results of ``vllm_server`` and ``gpu_clocks``. ``given`` are the role's variables
    without their prefix: runs, max_runs, sweep, timeout_s, expected_clock_mhz and context. In check mode, and where the server could
    not be started, it has no pid and no log.
    """
    server = _mapping(_mapping(_mapping(startup).get("fact")).get("context"))
    missing = [key for key in ("program", "container", "node_addresses", "url") if key not in server]
    if missing:
        said = _mapping(startup).get("msg") or "its fact lacks %s" % ", ".join(missing)
        raise ValueError("the start of the server cannot be read: %s" % said)
    context = {key: server.get(key) for key in FROM_STARTUP}
    calls = most_calls(int(given["runs"]), int(given["max_runs"]), given["sweep"])
    return {
        "program": server["program"],
        "container": server["container"],
        "node_addresses": server["node_addresses"],
        "url": server["url"],
        "server_pid": server.get("pid") or 0,
        "server_log": server.get("log") or "/nonexistent",
        "context": {**given["context"], **context, "ray_nodes": server.get("ray_nodes") or []},
        "expected_mhz": int(given["expected_clock_mhz"]) or locked_mhz(clocks),
        "limit_s": int(given["timeout_s"]) * calls + SPARE_S,
    }
