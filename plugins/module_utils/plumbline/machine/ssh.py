"""How one node reaches another by ssh with a key made for it: this key, these host keys, no question asked and nothing else tried."""

from __future__ import annotations

import ipaddress
import os
import shlex
import shutil
import socket

# Host keys are pinned: what another machine at the address shows is refused, never learned.
STRICT = {
    "BatchMode": "yes",
    "IdentitiesOnly": "yes",
    "StrictHostKeyChecking": "yes",
    "GlobalKnownHostsFile": "/dev/null",
    "UpdateHostKeys": "no",
    "ConnectTimeout": "15",
    "ServerAliveInterval": "5",
    "ServerAliveCountMax": "3",
}


def command(port, identity_file, known_hosts):
    """Return the ssh command for programs that take one, as rsync does."""
    argv = ["ssh", "-F", "none", "-p", str(port), "-i", identity_file]
    for key, value in dict(STRICT, UserKnownHostsFile=known_hosts).items():
        argv += ["-o", f"{key}={value}"]
    return shlex.join(argv)


def canonical(host):
    """Return an IPv6 address as getnameinfo(3) writes it, anything else as it is."""
    try:
        return socket.inet_ntop(socket.AF_INET6, socket.inet_pton(socket.AF_INET6, host))
    except OSError:
        return host


def known_hosts_text(host, port, keys):
    """Return a known_hosts file for one host; a port other than 22 is written as ``[host]:port``.

    ssh looks for an address in its canonical form, however it was given.
    """
    spellings = list(dict.fromkeys([host, canonical(host)]))
    name = ",".join(item if int(port) == 22 else f"[{item}]:{port}" for item in spellings)
    return "".join(f"{name} {' '.join(key.split()[:2])}\n" for key in keys)


UNTIL = "until"  # the file of a run's folder that says when nobody needs its key any more, in seconds since 1970


def forget(config):
    """Remove a run's folder, with its private key, by the path of its ssh_config: what a user may not remove stays empty.

    Only a folder that says until when it counts is one.
    """
    folder = os.path.dirname(config)
    if os.path.isfile(os.path.join(folder, UNTIL)):
        shutil.rmtree(folder, ignore_errors=True)


def is_address(host):
    """Tell whether ``host`` is a numeric address, and no name."""
    try:
        ipaddress.ip_address(host.split("%")[0])
    except ValueError:
        return False
    return True


def stanza(host):
    """Return the part of one of ``hosts``. Open MPI 4 drops the domain of a name (``orte_keep_fqdn_hostnames``), so both are known."""
    address = host["address"]
    short = address.split(".", 1)[0]
    if is_address(address) or short == address:
        return "Host %s\n    Port %d\n" % (address, int(host["port"]))
    return "Host %s %s\n    HostName %s\n    Port %d\n" % (address, short, address, int(host["port"]))


def config_text(hosts, user, identity_file, known_hosts):
    """Return an ssh_config(5) for ``hosts`` (``[{"address", "port", "host_keys"}]``), whose ports may differ.

    With ``ssh -F`` it stands in the place of the user's and the machine's own. The shared options come last, since ssh takes the
    first value that it finds for an option.
    """
    shared = dict(STRICT, User=user, IdentityFile=f'"{identity_file}"', UserKnownHostsFile=f'"{known_hosts}"', IdentityAgent="none")
    return "".join(map(stanza, hosts)) + "Host *\n" + "".join(f"    {key} {value}\n" for key, value in shared.items())
