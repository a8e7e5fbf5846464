"""Whether the other nodes of a layout are still there, seen from the head.

A serving layout over several nodes keeps TCP connections between them as long as its processes live: torch.distributed's store, message
queues, Ray. When a worker's process or container dies its kernel closes them at once. When a whole machine or its link dies they stay open,
so every few seconds a closed port of it is asked: a kernel that lives refuses. vLLM itself does not always notice either: in native
multi-node serving the head of 0.32.0 answers nothing and does not end. Nothing has to run on the other side.
"""

from __future__ import annotations

import ipaddress
import socket
import time

ESTABLISHED = 1  # include/net/tcp_states.h
# Connections that are no evidence of serving: Ansible's and rsync's.
IGNORED_PORTS = frozenset({22})
TABLES = ("/proc/net/tcp", "/proc/net/tcp6")
# The discard service, which nobody runs: the kernel answers by itself, and no process of the other node wakes up.
ASKED_PORT = 9
ASK_EVERY_S = 5.0
ASK_TIMEOUT_S = 2.0
SILENT_S = 20.0


def _address(text):
    """Return the address of hexadecimal text such as ``0B00620A`` (words in host order), IPv4 where it is mapped into IPv6."""
    raw = bytes.fromhex(text)
    packed = b"".join(raw[index : index + 4][::-1] for index in range(0, len(raw), 4))
    address = ipaddress.ip_address(packed)
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)


def parse(table):
    """Yield ``(remote address, remote port, local port, state)`` for each line of ``/proc/net/tcp`` or ``tcp6`` text."""
    for line in table.splitlines()[1:]:
        fields = line.split()
        if len(fields) < 4:
            continue
        address, port = fields[2].split(":")
        yield _address(address), int(port, 16), int(fields[1].split(":")[1], 16), int(fields[3], 16)


def live(addresses, tables):
    """Return ``{address: number of established connections}``."""
    found = dict.fromkeys(addresses, 0)
    for table in tables:
        for address, port, local_port, state in parse(table):
            if address in found and state == ESTABLISHED and not IGNORED_PORTS & {port, local_port}:
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


def answers(address):
    """Tell whether the kernel at ``address`` answers: it accepts or refuses within :data:`ASK_TIMEOUT_S`."""
    try:
        with socket.create_connection((address, ASKED_PORT), timeout=ASK_TIMEOUT_S):
            return True
    except ConnectionRefusedError:
        return True
    except OSError:
        return False


class Watch:
    """Says when a node's serving processes, or the node itself, are gone for some seconds.

    ``addresses`` are those of the other nodes, as they appear in connections. A peer that never had a connection proves nothing, unless
    the start of the server has seen it take part (``proven``). A node that does not answer at first (a firewall) is not asked again.
    """

    def __init__(self, addresses, grace_s=5.0, proven=False, read=read_tables, ask=answers, clock=time.monotonic):
        self.addresses = list(addresses)
        self._had = dict.fromkeys(self.addresses, proven)
        self._grace_s = grace_s
        self._read, self._ask, self._clock = read, ask, clock
        self._gone_since, self._silent_since = {}, {}
        self._asked = None  # those that answered at first
        self._ask_at = 0.0

    def lost(self):
        """Look, and return a sentence naming the nodes that are gone; empty when none is."""
        if not self.addresses:
            return ""
        gone = self._without_connections() + self._silent()
        return "lost the node %s" % ", ".join(gone) if gone else ""

    def _without_connections(self):
        now, gone = self._clock(), []
        for address, count in live(self.addresses, self._read()).items():
            self._had[address] = self._had[address] or count > 0
            if count or not self._had[address]:
                self._gone_since.pop(address, None)
            elif now - self._gone_since.setdefault(address, now) >= self._grace_s:
                gone.append("%s (no connection of its serving processes is left)" % address)
        return gone

    def _silent(self):
        if self._asked is None:
            self._asked = [address for address in self.addresses if self._ask(address)]
            self._ask_at = self._clock() + ASK_EVERY_S
        if self._clock() >= self._ask_at:
            for address in self._asked:
                if self._ask(address):
                    self._silent_since.pop(address, None)
                else:
                    self._silent_since.setdefault(address, self._clock())
            self._ask_at = self._clock() + ASK_EVERY_S
        now = self._clock()
        return [
            "%s (the machine has not answered for %d s)" % (address, now - since)
            for address, since in self._silent_since.items()
            if now - since >= SILENT_S
        ]
