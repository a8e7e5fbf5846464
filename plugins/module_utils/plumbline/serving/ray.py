"""Asks a Ray cluster, through the Python that has ray, which nodes it has and on which of them vLLM's workers run."""

from __future__ import annotations

import json
import subprocess

from ..core.scrub import scrub_text

# Runs under the serving environment's Python, since a module's own Python has no ray. `ray status` and the state API need the
# dashboard, which is off; the driver API does not.
PROBE = r"""
import json, sys
import ray
from ray.util import placement_group_table
from ray._private import state
ray.init(address=sys.argv[1], _node_ip_address=sys.argv[2], log_to_driver=False, logging_level="ERROR")
address = {n["NodeID"]: n["NodeManagerAddress"] for n in ray.nodes()}
alive = [n for n in ray.nodes() if n["Alive"]]
actors = [a for a in state.actors().values() if a.get("State") == "ALIVE"]
groups = placement_group_table()
print("PLUMBLINE " + json.dumps({
    "nodes": sorted(({"address": n["NodeManagerAddress"], "node_id": n["NodeID"],
                      "slots": n["Resources"].get("GPU", 0)} for n in alive), key=lambda n: n["address"]),
    "workers": sorted({(a["ActorClassName"], address.get(a["Address"]["NodeID"], ""), a["Pid"]) for a in actors}),
    "placement_groups": sorted(g["state"] for g in groups.values()),
}))
"""


class RayProbeError(Exception):
    """The cluster did not answer; the text says how."""


def probe(runtime, python, address, node_ip, env, timeout_s=60.0):
    """Return ``{"nodes": [...], "workers": [[class, address, pid], ...], "placement_groups": [state, ...]}``.

    ``runtime`` is the ``runtime.Runtime`` that has ``python``, ``address`` is ``host:port`` of the head. Raises
    :class:`RayProbeError` when there is no answer in ``timeout_s`` seconds.
    """
    try:
        done = runtime.run([python, "-c", PROBE, address, node_ip], env, timeout_s)
    except subprocess.TimeoutExpired:
        raise RayProbeError("Ray at %s did not answer within %.0f s" % (address, timeout_s)) from None
    except OSError as error:
        raise RayProbeError("%s cannot be started: %s" % (python, error)) from error
    for line in done.stdout.splitlines():
        if line.startswith("PLUMBLINE "):
            return json.loads(line[len("PLUMBLINE ") :])
    said = (done.stderr.strip() or done.stdout.strip() or "exit status %d" % done.returncode).splitlines()[-1]
    raise RayProbeError("Ray at %s: %s" % (address, scrub_text(said)[:300]))
