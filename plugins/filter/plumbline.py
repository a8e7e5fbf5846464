"""Filters that read Plumbline's results out of Ansible's variables."""

from __future__ import annotations

# As in module_utils/plumbline/fact.py, from best to worst.
STATUSES = ("skipped", "healthy", "degraded", "incomplete", "failed")

# Registered by the roles: the variables that hold the verdict of one phase on one node. The head of the model sync has a manifest,
# the others have a copy.
PHASES = {
    "health": ("node_health_result", "node_health_fleet_result"),
    "clocks": ("gpu_clocks_result",),
    "fabric": ("fabric_baseline_verdicts",),
    "model": ("model_sync_manifest_result", "model_sync_result"),
}


def verdict_of(result):
    """Return the status in a registered result; a module that crashed or a node that was gone is ``failed``, no run is None."""
    if isinstance(result, (list, tuple)):
        return max(result, key=STATUSES.index, default=None)
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
        for phase, names in PHASES.items():
            found = [verdict for verdict in (verdict_of(variables.get(name)) for name in names) if verdict is not None]
            if found:
                verdicts[phase] = max(found, key=STATUSES.index)
        address = variables.get("plumbline_address") or variables.get("ansible_host") or host
        candidates.append({"name": host, "address": address, "verdicts": verdicts})
    return candidates


def plumbline_addresses(hosts, hostvars, own_variable="plumbline_address"):
    """Return the addresses of ``hosts``, in order, by which the nodes reach each other.

    Of each node the first that is given: the variable ``own_variable``, ``plumbline_address``, ``ansible_host``, and its name.
    """
    names = (own_variable, "plumbline_address", "ansible_host")
    return [next(filter(None, (hostvars[host].get(name) for name in names)), host) for host in hosts]


class FilterModule:
    """Ansible's entry point."""

    def filters(self):
        """Return the filters by name."""
        return {"plumbline_candidates": plumbline_candidates, "plumbline_addresses": plumbline_addresses}
