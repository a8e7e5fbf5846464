"""The interface that holds a node's address."""

from __future__ import annotations

from ...core.fact import reason
from .bound import NO_EXPECTATION, bound


def check_nic(evidence, expect):
    """The interface that holds the node's address: up, with carrier, fast enough, without errors."""
    seen = evidence["nic"]
    name = seen["interface"]
    if name is None:
        text = "no interface holds %s, took this SSH connection or has the default route" % (seen["wanted"] or "an address")
        remedy = "set ansible_host or plumbline_address to an address of the node"
        return [reason("nic.state", "incomplete", text, "one interface, up", remedy)]
    found = [_state(name, seen), _mtu(name, seen, expect), _speed(name, seen, expect)]
    for check, limit, counters in (
        ("nic.errors", "nic_error_ratio_max", ("rx_errors", "tx_errors")),
        ("nic.drops", "nic_drop_ratio_max", ("rx_dropped", "tx_dropped")),
    ):
        found.append(_ratio(check, name, seen, counters, expect.get(limit)))
    return found


def _state(name, seen):
    # Drivers that do not follow the link report "unknown" (lo does): then the carrier decides.
    up = seen["operstate"] in ("up", "unknown") and seen["carrier"] == 1
    if seen["operstate"] is None or (up is False and seen["carrier"] is None and seen["operstate"] != "down"):
        return reason("nic.state", "incomplete", "%s: its state is not readable in /sys/class/net" % name, "up, carrier")
    address = seen["address"] or "no address"
    text = "%s (%s, by %s) is %s, carrier %s" % (name, address, seen["how"], seen["operstate"], seen["carrier"])
    remedy = None if up else "ip link show %s; then the cable, port or virtual network" % name
    return reason("nic.state", "healthy" if up else "failed", text, "up, carrier 1", remedy)


def _mtu(name, seen, expect):
    remedy = "ip link set %s mtu …, or correct the virtual network" % name
    return bound("nic.mtu", seen["mtu"], expect.get("nic_mtu_min_bytes"), True, "MTU {}".format, remedy, where=name)


def _speed(name, seen, expect):
    speed, least = seen["speed_mbit_s"], expect.get("nic_speed_min_mbit_s")
    if speed is None and least is None:
        return reason("nic.speed", "skipped", "%s: the driver does not report a speed" % name, NO_EXPECTATION)
    remedy = "look for accelerated networking switched off (ethtool -i %s)" % name
    return bound("nic.speed", speed, least, True, "{} Mbit/s".format, remedy, where=name)


def _ratio(check, name, seen, counters, limit):
    """Errors or drops in either direction, as a share of the packets since boot."""
    numbers = [seen[key] for key in counters + ("rx_packets", "tx_packets")]
    threshold = NO_EXPECTATION if limit is None else "<= %g per packet" % limit
    if None in numbers:
        return reason(check, "incomplete", "%s: its counters are not readable" % name, threshold)
    bad, packets = numbers[0] + numbers[1], max(numbers[2] + numbers[3], 1)
    text = "%s: %d received, %d sent, of %d packets" % (name, numbers[0], numbers[1], numbers[2] + numbers[3])
    if limit is None:
        return reason(check, "skipped", text, threshold)
    good = bad / packets <= limit
    return reason(
        check,
        "healthy" if good else "degraded",
        text,
        threshold,
        None if good else "watch whether it grows (ip -s link show %s)" % name,
    )
