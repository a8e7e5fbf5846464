"""Filters that read Plumbline's results out of Ansible's variables."""

from __future__ import annotations

# Registered by the roles. Each holds the verdict of one phase on one node, in the order of the phases.
PHASES = {
    "node_health_result": "health",
    "gpu_clocks_result": "clocks",
    "fabric_baseline_within_result": "fabric",
    "model_sync_result": "model",
}


def verdict_of(result):
    """Return the status in a registered result; a module that crashed or a node that was gone is ``failed``, no run is None."""
    if not isinstance(result, dict) or result.get("skipped"):
        return None
    if result.get("unreachable") or (result.get("failed") and "fact" not in result):
        return "failed"
    results = [item for item in result.get("results", ()) if isinstance(item, dict)]
    verdicts = [verdict_of(item) for item in results]
    if any(verdict == "failed" for verdict in verdicts):
        return "failed"
    fact = result.get("fact")
    return fact.get("status") if isinstance(fact, dict) else next(filter(None, verdicts), None)


def plumbline_candidates(hosts, hostvars):
    """Return one dict for each of ``hosts``: name, address and the verdicts so far, for the node_selection module."""
    candidates = []
    for host in hosts:
        variables = hostvars[host]
        verdicts = {}
        if verdict_of(variables.get("preflight_ping")) == "failed":
            verdicts["preflight"] = "failed"
        for name, phase in PHASES.items():
            verdict = verdict_of(variables.get(name))
            if verdict is not None:
                verdicts[phase] = verdict
        address = variables.get("plumbline_address") or variables.get("ansible_host") or host
        candidates.append({"name": host, "address": address, "verdicts": verdicts})
    return candidates


class FilterModule:
    """Ansible's entry point."""

    def filters(self):
        """Return the filters by name."""
        return {"plumbline_candidates": plumbline_candidates}
