"""Reasons of a fact on the counters of InfiniBand ports: which ports, each counter with a limit, and which way the bytes took."""

from __future__ import annotations

from ..core.fact import worst
from . import ib_counters, ib_limits

# Below this a phase moved too little to say which way its data took.
MEANT_BYTES = 2**30
GB = 1e9
AGAIN = "run the fabric phase again on this node: `--tags fabric --limit <node>`"
CLEARED = "stop what clears or reloads them (perfquery -R, ibqueryerrors -k, a restart of openibd); then " + AGAIN
LOST = "look at the kernel log (journalctl -k | grep mlx5) and reboot; replace the node if it comes back (fault code NHC2002)"
AT_END = "clear them (perfquery -R) or reboot; then " + AGAIN


def judge(measurement, seen, expected, expected_transport, limits):
    """Put the reasons and the numbers of ``seen`` (:func:`ib_counters.difference`) into the fact.

    ``expected`` names the InfiniBand devices that the SKU has, None where nothing is known; ``limits`` are those of ``ib_limits``.
    """
    measurement.measured.update(_numbers(seen))
    _ports(measurement, seen, expected)
    if seen["rebooted"]:
        return
    for counter in dict.fromkeys(limit.counter for limit in limits):
        _counter(measurement, seen, [limit for limit in limits if limit.counter == counter])
    _traffic(measurement, seen, expected_transport)


def _numbers(seen):
    """Return ``measured``: the window, each port's bytes and growths, and the Ethernet interface beside them."""
    ports = [
        {
            "port": name,
            "sent_bytes": port["sent_bytes"],
            "received_bytes": port["received_bytes"],
            "errors": {counter: grown["count"] for counter, grown in port["errors"].items()},
        }
        for name, port in seen["ports"].items()
    ]
    return {"window_s": round(seen["window_s"], 3), "ports": [] if seen["rebooted"] else ports, "ethernet": seen["interface"]}


def _ports(measurement, seen, expected):
    """Say which ports were there from the first reading to the last, and which came, went or were registered anew."""
    check, threshold = "ib_counters.ports", "the same ports at both ends, without a restart of their driver"
    devices = {name.partition("/")[0] for name in list(seen["ports"]) + seen["came"]}
    missing = sorted(set(expected or ()) - devices)
    if seen["rebooted"]:
        measurement.add(check, "incomplete", "the node was booted between the two readings", threshold, AGAIN)
        return
    if seen["gone"] or missing:
        texts = ["went away: %s" % ", ".join(seen["gone"])] if seen["gone"] else []
        lacking = [name for name in missing if not any(gone.partition("/")[0] == name for gone in seen["gone"])]
        texts += ["not there: %s" % ", ".join(lacking)] if lacking else []
        measurement.add(check, "failed", "; ".join(texts), threshold, LOST)
        return
    blind = [name for name, port in seen["ports"].items() if not _tells(port)]
    texts = ["came: %s" % ", ".join(seen["came"])] if seen["came"] else []
    texts += ["registered anew by its driver: %s" % ", ".join(seen["restarted"])] if seen["restarted"] else []
    texts += ["no error counter can be read: %s" % ", ".join(blind)] if blind else []
    texts += ["its link layer cannot be read: %s" % ", ".join(seen["unlayered"])] if seen["unlayered"] else []
    if texts:
        measurement.add(check, "incomplete", "; ".join(texts), threshold, CLEARED)
        return
    measurement.add(check, "healthy", "%d ports over %.0f s" % (len(seen["ports"]), seen["window_s"]), threshold)


def _tells(port):
    """Return whether any counter of the port's own link was read at both ends."""
    own = [name for name in ib_limits.COUNTERS if ib_counters.ERRORS[name][0] == ib_counters.PORT]
    return any(port["errors"].get(name, {"why": "unreadable"})["why"] not in ("unreadable", "read at one end only") for name in own)


def _counter(measurement, seen, limits):
    """Judge one counter on all ports by its limits; the worst counts, and each port that is beyond one is named."""
    name, window_s = limits[0].counter, seen["window_s"]
    check = "ib_counters.%s" % name.lower()
    threshold = "; ".join("%s (%s)" % (limit.words(), limit.source) for limit in limits)
    told = {port: item["errors"][name] for port, item in seen["ports"].items() if name in item["errors"]}
    counted = {port: grown for port, grown in told.items() if grown["count"] is not None}
    status = {port: worst(ib_limits.exceeded(limit, grown["count"], window_s) for limit in limits) for port, grown in counted.items()}
    beyond = [port for port in counted if status[port] != "healthy"]
    broken = {
        port: grown["why"]
        for port, grown in told.items()
        if not grown["whole"] and grown["why"] != "unreadable" and port not in beyond + seen["restarted"]
    }
    found = worst(status[port] for port in beyond)
    if beyond and not (broken and found == "degraded"):
        text = ", ".join("%s %s" % (port, _grew(counted[port], window_s)) for port in beyond)
        measurement.add(check, found, text, threshold, limits[0].remedy)
    elif broken:
        text = ", ".join("%s %s" % pair for pair in sorted(broken.items()))
        ended = all(why.startswith("stands") for why in broken.values())
        measurement.add(check, "incomplete", text, threshold, AT_END if ended else CLEARED)
    elif not counted:
        measurement.add(check, "skipped", "the driver does not tell it", threshold)
    else:
        total = sum(grown["count"] for grown in counted.values())
        measurement.add(check, "healthy", "%d on %d ports in %.0f s" % (total, len(counted), window_s), threshold)


def _grew(grown, window_s):
    """Return a growth with its rate: ``+12 (144/h) in 300 s``, and what is not whole about it."""
    rate = " (%.3g/h)" % (grown["count"] * 3600 / window_s) if window_s > 0 else ""
    return "%s%d%s in %.0f s%s" % (
        "+" if grown["whole"] else "at least +", grown["count"], rate, window_s, "" if grown["whole"] else ": " + grown["why"],
    )  # fmt: skip


def _traffic(measurement, seen, expected):
    """Say how many bytes passed the InfiniBand ports, and how many the Ethernet interface meanwhile.

    Where NCCL is expected on InfiniBand and the phase moved more over Ethernet, that is told; who did it, the collectives' own windows say.
    """
    check, beside = "ib_counters.traffic", seen["interface"]
    threshold = "more over InfiniBand than over Ethernet" if expected == "IB" else "no InfiniBand expected for NCCL"
    own = [port[key] for port in seen["ports"].values() for key in ("sent_bytes", "received_bytes")]
    other = [beside[key] for key in ("sent_bytes", "received_bytes")] if beside else [None]
    carried = None if None in own else sum(own)
    passed = None if None in other else sum(other)
    text = "InfiniBand %s, %s %s" % (_size(carried), beside["name"] if beside else "Ethernet", _size(passed))
    if expected != "IB":
        measurement.add(check, "skipped", text, threshold)
    elif carried is None:
        remedy = "look at counters/port_xmit_data and port_rcv_data below /sys/class/infiniband; then " + AGAIN
        measurement.add(check, "incomplete", text, threshold, remedy)
    elif passed is None or carried + passed < MEANT_BYTES:
        measurement.add(check, "skipped", text + (": too little to compare" if passed is not None else ": nothing to compare"), threshold)
    elif passed > carried:
        remedy = "look at collective.transport of this run's facts: did NCCL fall back to TCP? Or what else used %s?" % beside["name"]
        measurement.add(check, "degraded", text, threshold, remedy)
    else:
        measurement.add(check, "healthy", text, threshold)


def _size(count):
    return "not readable" if count is None else "%.3f GB" % (count / GB)
