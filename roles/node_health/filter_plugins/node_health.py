"""The filter that hands the health facts of a play's nodes to ``fleet_health``."""

from __future__ import annotations

import os

import ansible.module_utils

# Ansible finds our module_utils for modules by itself; a plugin on the controller has to say where they are.
_MODULE_UTILS = os.path.join(os.path.dirname(os.path.realpath(__file__)), "..", "..", "..", "plugins", "module_utils")
if os.path.realpath(_MODULE_UTILS) not in map(os.path.realpath, ansible.module_utils.__path__):
    ansible.module_utils.__path__.append(os.path.realpath(_MODULE_UTILS))

from ansible.module_utils.plumbline.controller import fleet  # noqa: E402


def node_health_fleet(hosts, hostvars):
    """Return ``{host: fleet.summary(fact)}`` for each of ``hosts`` whose ``node_health_result`` holds a fact."""
    found = {}
    for host in hosts:
        result = hostvars[host].get("node_health_result")
        fact = result.get("fact") if isinstance(result, dict) else None
        if isinstance(fact, dict):
            found[host] = fleet.summary(fact)
    return found


class FilterModule:
    """Ansible's entry point."""

    def filters(self):
        """Return the filters by name."""
        return {"node_health_fleet": node_health_fleet}
