"""Filters that read Plumbline's variables out of Ansible's."""

from __future__ import annotations

# Other names of this machine's own loopback: an IPv6 address is no part of a URL as it is.
LOOPBACK = {"::1": "127.0.0.1", "localhost": "127.0.0.1", "ip6-localhost": "127.0.0.1"}


def plumbline_addresses(hosts, hostvars, own_variable="plumbline_address"):
    """Return one address for each of ``hosts``, in order."""
    found = [
        next(filter(None, (hostvars[host].get(name) for name in (own_variable, "plumbline_address", "ansible_host"))), host)
        for host in hosts
    ]
    return [LOOPBACK.get(address, address) for address in found]


def plumbline_ssh_hosts(hosts, hostvars, own_variable, registered):
    """Return ``[{"address", "port", "host_keys"}]`` of ``hosts`` for the module ``ssh_key``.

    ``registered`` names the variable with the result of ``ssh_host_keys`` on each; one that failed there has no host keys, and ssh refuses
    it. The port is ``ansible_port`` at ``ansible_host``, where it may be forwarded, and sshd's own at any other address.
    """
    found = []
    for host, address in zip(hosts, plumbline_addresses(hosts, hostvars, own_variable)):
        known = hostvars[host].get(registered) or {}
        port = known.get("port") or 22
        if address == hostvars[host].get("ansible_host", host):
            port = hostvars[host].get("ansible_port") or port
        found.append({"address": address, "port": int(port), "host_keys": known.get("host_keys") or []})
    return found


class FilterModule:
    """Ansible's entry point."""

    def filters(self):
        """Return the filters by name."""
        return {"plumbline_addresses": plumbline_addresses, "plumbline_ssh_hosts": plumbline_ssh_hosts}
