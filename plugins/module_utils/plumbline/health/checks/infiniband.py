"""The InfiniBand ports of a node: present, active, fast, and not flapping."""

from __future__ import annotations

from ...core.fact import reason
from ...machine.infiniband import LINK_LAYER
from .bound import NO_EXPECTATION

ACTIVE = "4: ACTIVE"
# Carrier changes of an interface that came up once, with a margin for one restart of the driver during boot: each loss of
# the link afterwards counts two, one down and one up.
CARRIER_AT_BOOT = 3


def check_ib(evidence, expect):
    """The ports that the SKU has: there, active, at their rate, and steady."""
    ports = {item["name"]: item for item in evidence["ib"]}
    wanted = expect.get("ib_ports")
    others = expect.get("ib_ethernet_ports") or {}
    if wanted is None:
        layer = [item for item in evidence["ib"] if item["link_layer"] == LINK_LAYER]
        if not layer:
            return [reason("ib.state", "skipped", "no InfiniBand port", NO_EXPECTATION)]
        wanted = [item["name"] for item in layer]
    if not wanted and not others:
        return [reason("ib.state", "skipped", "not looked at", "no InfiniBand on this SKU")]
    found = [_state(ports, wanted, expect.get("ib_rate_min_gbit_s"))]
    present = [ports[name] for name in wanted if name in ports]
    if present:
        found.append(_flaps(present, expect))
    for name, rate in sorted(others.items()):
        found.append(_state(ports, [name], rate, "ib.ethernet"))
    return found


def _state(ports, wanted, rate, check="ib.state"):
    threshold = "%s: %s" % (", ".join(wanted), ACTIVE)
    if rate is not None:
        threshold += ", >= %g Gbit/s" % rate
    missing = [name for name in wanted if name not in ports]
    down, slow, blind = [], [], []
    for name in wanted:
        port = ports.get(name)
        if port is None:
            continue
        if port["state"] is None or (rate is not None and port["rate_gbit_s"] is None):
            blind.append(name)
        elif port["state"] != ACTIVE:
            down.append("%s is %s, %s" % (name, port["state"], port["phys_state"]))
        elif rate is not None and port["rate_gbit_s"] < rate:
            slow.append("%s at %g Gbit/s" % (name, port["rate_gbit_s"]))
    texts = (["missing: %s" % ", ".join(missing)] if missing else []) + down + slow
    if texts:
        code = "NHC2002" if missing else "NHC2004" if down else "NHC2003"
        remedy = "reboot; if it stays so, replace the node: report it to Azure (fault code %s)" % code
        return reason(check, "failed", "; ".join(texts), threshold, remedy)
    if blind:
        return reason(check, "incomplete", "not readable: %s" % ", ".join(blind), threshold, "look at ibstat")
    return reason(check, "healthy", "%d active" % len(wanted), threshold)


def lost_links(port):
    """Return how often a port lost its link since the driver came up, by the counter that saw most; None without one."""
    seen = []
    if port["link_downed"] is not None:
        seen.append(port["link_downed"])
    if port["carrier_changes"] is not None:
        seen.append(max(0, port["carrier_changes"] - CARRIER_AT_BOOT + 1) // 2)
    return max(seen) if seen else None


def _flaps(ports, expect):
    most, failing = expect.get("ib_flaps_max", 0) or 0, expect.get("ib_flaps_failed_min")
    threshold = "<= %d lost links since boot" % most + (", failed from %d" % failing if failing else "")
    lost = {port["name"]: lost_links(port) for port in ports}
    bad = {name: count for name, count in lost.items() if count is not None and count > most}
    if bad:
        words = "%s lost its link %d times (link_downed %s, carrier_changes %s)"
        text = ", ".join(
            words % (port["name"], bad[port["name"]], port["link_downed"], port["carrier_changes"]) for port in ports if port["name"] in bad
        )
        worst = failing is not None and max(bad.values()) >= failing
        remedy = "watch whether it grows; from %s on replace the node (fault code NHC2005)" % (failing or "a few")
        return reason("ib.flaps", "failed" if worst else "degraded", text, threshold, remedy)
    blind = [name for name, count in lost.items() if count is None]
    if blind:
        return reason("ib.flaps", "incomplete", "no counters: %s" % ", ".join(blind), threshold, "look at the port in sysfs")
    return reason("ib.flaps", "healthy", "no link lost on %d ports" % len(ports), threshold)
