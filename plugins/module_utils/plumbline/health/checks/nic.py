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
        return [reason("nic.state", "incomplete", text, "one interface, up", "set ansible_host to an address of the node")]
    found = []
    # Drivers that do not follow the link report "unknown" (lo does): then the carrier decides.
    up = seen["operstate"] in ("up", "unknown") and seen["carrier"] == 1
    if seen["operstate"] is None or (up is False and seen["carrier"] is None and seen["operstate"] != "down"):
        found.append(reason("nic.state", "incomplete", "%s: its state is not readable in /sys/class/net" % name, "up, carrier"))
    else:
        text = "%s (%s, by %s) is %s, carrier %s" % (
            name,
            seen["address"] or "no address",
            seen["how"],
            seen["operstate"],
            seen["carrier"],
        )
        found.append(
            reason(
                "nic.state",
                "healthy" if up else "failed",
                text,
                "up, carrier 1",
                None if up else "ip link show %s; then the cable, port or virtual network" % name,
            )
        )
    found.append(
        bound(
            "nic.mtu",
            seen["mtu"],
            expect.get("nic_mtu_min_bytes"),
            True,
            "MTU {}".format,
            "ip link set %s mtu …, or correct the virtual network" % name,
            where=name,
        )
    )
    if seen["speed_mbit_s"] is None and expect.get("nic_speed_min_mbit_s") is None:
        found.append(reason("nic.speed", "skipped", "%s: the driver does not report a speed" % name, NO_EXPECTATION))
    else:
        found.append(
            bound(
                "nic.speed",
                seen["speed_mbit_s"],
                expect.get("nic_speed_min_mbit_s"),
                True,
                "{} Mbit/s".format,
                "look for accelerated networking switched off (ethtool -i %s)" % name,
                where=name,
            )
        )
    for check, limit, counters in (
        ("nic.errors", "nic_error_ratio_max", ("rx_errors", "tx_errors")),
        ("nic.drops", "nic_drop_ratio_max", ("rx_dropped", "tx_dropped")),
    ):
        found.append(_ratio(check, name, seen, counters, expect.get(limit)))
    return found


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
