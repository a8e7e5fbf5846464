"""Whether the other nodes of a layout are still there, seen from the head.

A serving layout over several nodes keeps TCP connections between them as long as its processes live: torch.distributed's store, message
queues, Ray. When a worker's process or container dies its kernel closes them at once; when a whole machine dies they stay open and
retransmit. vLLM itself does not always notice: in native multi-node serving the head of 0.32.0 answers nothing and does not end.
So the connections are counted in ``/proc/net/tcp``: nothing is sent, nothing has to run on the other side.
"""

from __future__ import annotations

import ipaddress
import time

ESTABLISHED = 1  # include/net/tcp_states.h
# The n-th retransmission comes after 0.2 s x (2^n - 1): a peer that has not acknowledged the eighth is silent for 25 s and more.
MOST_RETRANSMITS = 7
# Connections that are no evidence of serving: Ansible's and rsync's.
IGNORED_PORTS = frozenset({22})
TABLES = ("/proc/net/tcp", "/proc/net/tcp6")


def _address(text):
    """Return the address of hexadecimal text such as ``0B00620A`` (words in host order), IPv4 where it is mapped into IPv6."""
    raw = bytes.fromhex(text)
    packed = b"".join(raw[index : index + 4][::-1] for index in range(0, len(raw), 4))
    address = ipaddress.ip_address(packed)
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def parse(table):
    """Yield ``(remote address, remote port, local port, state, retransmits)`` for each line of ``/proc/net/tcp`` or ``tcp6`` text."""
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 7:
            continue
        local, remote = fields[1], fields[2]
        address, port = remote.split(":")
        yield _address(address), int(port, 16), int(local.split(":")[1], 16), int(fields[3], 16), int(fields[6], 16)


def live(addresses, tables):
    """Return ``{address: number of established connections that still get through}``."""
    found = dict.fromkeys(addresses, 0)
    for table in tables:
        for address, port, local_port, state, retransmits in parse(table):
            if address not in found or state != ESTABLISHED or retransmits > MOST_RETRANSMITS:
                continue
            if port not in IGNORED_PORTS and local_port not in IGNORED_PORTS:
                found[address] += 1
    return found


def read_tables():
    """Return the text of the kernel's connection tables; one that is not there (no IPv6) is left out."""
    texts = []
    for path in TABLES:
        try:
            with open(path, encoding="ascii", errors="replace") as stream:
                texts.append(stream.read())
        except OSError:
            continue
    return texts


class Watch:
    """Remembers which peers had connections and says when one has had none for ``grace_s`` seconds.

    ``addresses`` are those of the other nodes, as they appear in connections. A peer that never had one proves nothing, unless
    the start of the server has seen it take part (``proven``).
    """

    def __init__(self, addresses, grace_s=5.0, proven=False, read=read_tables, clock=time.monotonic):
        self.addresses = list(addresses)
        self.most = dict.fromkeys(self.addresses, 1 if proven else 0)
        self._grace_s = grace_s
        self._read = read
        self._clock = clock
        self._gone_since = {}

    def lost(self):
        """Look, and return a sentence naming the nodes that are gone; empty when none is."""
        if not self.addresses:
            return ""
        now, gone = self._clock(), []
        for address, count in live(self.addresses, self._read()).items():
            self.most[address] = max(self.most[address], count)
            if count or not self.most[address]:
                self._gone_since.pop(address, None)
            elif now - self._gone_since.setdefault(address, now) >= self._grace_s:
                gone.append("%s (no connection of its serving processes is left)" % address)
        return "lost the node %s" % ", ".join(gone) if gone else ""
