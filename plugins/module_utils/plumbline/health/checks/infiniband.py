"""The InfiniBand ports of a node: present, active, fast, and not flapping."""

from __future__ import annotations

from ...core.fact import reason
from ...machine import infiniband
from ...machine.infiniband import LINK_LAYER
from .bound import NO_EXPECTATION

ACTIVE = "4: ACTIVE"
# Carrier changes of an interface that came up once, with a margin for one restart of the driver during boot: each loss of
# the link afterwards counts two, one down and one up.
CARRIER_AT_BOOT = 3
# Where a counter of 8, 16 or 32 bits stops: it lost its link that often, or more (IBA: these counters do not wrap).
COUNTER_ENDS = (255, 65535, 4294967295)
# What a port that is not active takes first, by what it says; then a reboot, then another node.
NO_MANAGER = "no subnet manager has brought the port up: look at the fabric's (sminfo, ibstat)"
ENABLE = "the port is switched off: enable it (ibportstate, mlxlink)"
CABLE = "no signal from the other end: look at cable, transceiver and the switch's port"
NAMES = "InfiniBand ports are there under other names: let the rule that names them run (udev, the image's rdma naming service); then "


def check_ib(evidence, expect):
    """The ports that the SKU has: there, active, at their rate, and steady."""
    ports = {item["name"]: item for item in evidence["ib"]}
    wanted = expect.get("ib_ports")
    others = expect.get("ib_ethernet_ports") or {}
    if wanted is None:
        # A port whose layer cannot be read may be one: it is judged, not left out.
        layer = [item for item in evidence["ib"] if item["link_layer"] in (LINK_LAYER, None)]
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


def has_infiniband(evidence, expect):
    """Return whether the node has a port to use: one of InfiniBand's layer, unless the SKU says that none is its own.

    A node of the lab sees the machine's ports, and uses none of them.
    """
    return expect.get("ib_ports") != [] and any(item["link_layer"] == LINK_LAYER for item in evidence["ib"])


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
        elif not infiniband.is_state(port["state"], infiniband.ACTIVE) or _is_off(port):
            down.append("%s is %s, %s" % (name, port["state"], port["phys_state"]))
        elif rate is not None and port["rate_gbit_s"] < rate:
            slow.append("%s at %g Gbit/s" % (name, port["rate_gbit_s"]))
    texts = (["missing: %s" % ", ".join(missing)] if missing else []) + down + slow
    if texts:
        code = "NHC2002" if missing else "NHC2004" if down else "NHC2003"
        remedy = _first(ports, wanted, missing) + "reboot; if it stays so, replace the node: report it to Azure (fault code %s)" % code
        return reason(check, "failed", "; ".join(texts), threshold, remedy)
    if blind:
        return reason(check, "incomplete", "not readable: %s" % ", ".join(blind), threshold, "look at ibstat")
    return reason(check, "healthy", "%d active" % len(wanted), threshold)


def _is_off(port):
    """Return whether a port has no physical link, whatever its state still says; where the kernel does not tell, its state counts."""
    physical = port["phys_state"]
    return physical is not None and not infiniband.is_state(physical, infiniband.LINK_UP)


def _first(ports, wanted, missing):
    """Return what to do before a reboot, for what is missing or down; an empty text where nothing is known to help."""
    spare = [name for name, port in ports.items() if name not in wanted and port["link_layer"] == LINK_LAYER]
    if missing and len(spare) >= len(missing):
        return NAMES
    for port in (ports[name] for name in wanted if name in ports):
        if infiniband.is_state(port["phys_state"], infiniband.DISABLED):
            return ENABLE + "; "
        if infiniband.is_state(port["phys_state"], infiniband.POLLING):
            return CABLE + "; "
        active = infiniband.is_state(port["state"], infiniband.ACTIVE)
        if infiniband.is_state(port["phys_state"], infiniband.LINK_UP) and not active and port["link_layer"] == LINK_LAYER:
            return NO_MANAGER + "; "
    return ""


def lost_links(port):
    """Return how often a port lost its link since the driver came up, by the counter that saw most; None without one."""
    seen = []
    if port["link_downed"] is not None:
        seen.append(port["link_downed"])
    if port["carrier_changes"] is not None and port["carrier_changes"] >= 0:
        seen.append(max(0, port["carrier_changes"] - CARRIER_AT_BOOT + 1) // 2)
    return max(seen) if seen else None


def _flap_words(port, count):
    more = " or more, where its counter ends" if port["link_downed"] in COUNTER_ENDS else ""
    return "%s lost its link %d times%s (link_downed %s, carrier_changes %s)" % (
        port["name"], count, more, port["link_downed"], port["carrier_changes"],
    )  # fmt: skip


def _flaps(ports, expect):
    most, failing = expect.get("ib_flaps_max", 0) or 0, expect.get("ib_flaps_failed_min")
    threshold = "<= %d lost links since boot" % most + (", failed from %d" % failing if failing else "")
    lost = {port["name"]: lost_links(port) for port in ports}
    bad = {name: count for name, count in lost.items() if count is not None and count > most}
    if bad:
        text = ", ".join(_flap_words(port, bad[port["name"]]) for port in ports if port["name"] in bad)
        worst = failing is not None and max(bad.values()) >= failing
        remedy = "watch whether it grows; from %s on replace the node (fault code NHC2005)" % (failing or "a few")
        return reason("ib.flaps", "failed" if worst else "degraded", text, threshold, remedy)
    blind = [name for name, count in lost.items() if count is None]
    if blind:
        return reason("ib.flaps", "incomplete", "no counters: %s" % ", ".join(blind), threshold, "look at the port in sysfs")
    return reason("ib.flaps", "healthy", "no link lost on %d ports" % len(ports), threshold)
