"""Which wire carried the data: read off NCCL's log, cross-checked with the ports' counters.

NCCL falls back from InfiniBand to TCP without a word at its default log level, and everything still works, slower.
With ``NCCL_DEBUG=INFO NCCL_DEBUG_SUBSYS=INIT,NET,ENV`` it says what it uses; the lines are those of NCCL's
src/transport/{net,net_ib,net_socket,p2p,shm,nvls}.cc and src/init.cc (https://github.com/NVIDIA/nccl).

InfiniBand is believed only on three lines that agree: ``NET/IB : Using [0]mlx5_ib0:1/IB`` (a device by name: without
``[0]`` there is none, whatever the line starts with), ``Using network IB``, and ``via NET/IB/...`` on the channels
between nodes. Standard library only; everything here but :func:`snapshot` works on text and numbers.
"""

from __future__ import annotations

import re

from ..machine import net

# What makes NCCL say what this module reads. In the environment of everything whose transport is to be proven.
LOG_ENVIRONMENT = {"NCCL_DEBUG": "INFO", "NCCL_DEBUG_SUBSYS": "INIT,NET,ENV"}
# The negative control: what a fallback looks like, on purpose.
SOCKET_ENVIRONMENT = {"NCCL_NET": "Socket", "NCCL_IB_DISABLE": "1"}

MESSAGE = re.compile(r"NCCL (INFO|WARN) ")
# The beginning of another line of NCCL that follows on the same one: log viewers double lines, processes write into each other's.
NEXT = re.compile(r"\s*(?:\|\s*)?(?:\[[\d-]+ [\d:.]+\] )?\S+:\d+:\d+ (?:\[-?\d+\] )?(?:\S+:\d+ (?:\(\w+\) )?)?$")
# mpirun's tag, which may stand in the middle of a line.
TAG = re.compile(r"\[(?:[\w.-]+@)?\d+,\d+\](?:<\w+>)?:?")
# What Ray puts around a worker's line: colours, and behind it how often it came.
RAY = re.compile(r"\x1b\[[0-9;]*m|\s*\[repeated \d+x across cluster\].*")
DEVICE = re.compile(r"\[(\d+)\]\s*([\w.+-]+:\d+(?::\d*)*/\w+)")
VIA = re.compile(r"via (NET/[\w .-]+?/\d+\S*|COLLNET/[\w .-]+?/\d+\S*|P2P/\S+(?: pointer)?|SHM\S*)")
# How GPUs of a node reach each other, as NCCL names it (p2p.cc). Another process's line may begin in the middle of the name.
P2P_WAYS = ("CUMEM", "IPC", "direct", "indirect")
VERSION = re.compile(r"NCCL version:? ?(\d+\.\d+(?:\.\d+)?(?:[+-][\w.]*\w)?)")
# Plugins that carry InfiniBand verbs under another name: those of HPC-X (IBext, IBext_v6 to _v8, the UCX ones open the same ports).
VERBS = re.compile(r"(?:IB|IBext(?:_v\d+)?|UCX(?:[-_]\w+)*|NCCL RDMA Plugin.*)$")
OTHER_NAMES = {"efa": "libfabric", "ofi": "libfabric", "aws libfabric": "libfabric"}

# Warnings of a run that tell of hardware: an event of a port or a device, a completion with an error, a call of the verbs that failed.
EVENT = re.compile(r"async (?:fatal |error )?event ?: ?(.*)", re.I)
QUIET_EVENTS = (
    "port active", "client reregistration", "gid table change", "gid change", "lid change", "p_key change", "pkey change", "sm change",
    "communication established", "path migrat", "last wqe reached", "srq limit",
)  # fmt: skip
FATAL_EVENTS = ("catastrophic", "fatal")
ALARM = re.compile(
    r"got completion .*(?:status|error)|completion with error|ibv_\w+ failed|port \S+ .*(?:not active|is down|inactive)|flapping|vendor.err"
    r"|link (?:is )?down|uncorrectable|ECC error|Cuda failure.*(?:ECC|uncorrectable|NVLink|hardware)",
    re.I,
)
TAIL_LENGTH = 400  # characters that hold it
EVIDENCE_LINES = 8
EVIDENCE_SHARE = 0.5  # of the computed traffic; in-network reduction halves what an all-reduce sends


def family(network):
    """Return what a network by NCCL's name is: the plugins of HPC-X (``IBext``, ``IBext_v8``, ``UCX``) are InfiniBand verbs too."""
    if not network:
        return None
    return "IB" if VERBS.match(network) else network


def same(name, other):
    """Return whether two names mean one network: a site writes ``EFA``, NCCL ``AWS Libfabric`` or ``Libfabric``."""
    names = [str(each).lower() for each in (name, other)]
    return OTHER_NAMES.get(names[0], names[0]) == OTHER_NAMES.get(names[1], names[1])


def channel(via):
    """Return a channel's way without the numbers of devices and ranks: ``NET/IB/3(7)/GDRDMA`` is ``NET/IB/GDRDMA``."""
    parts = via.split("/")
    if parts[0] in ("NET", "COLLNET"):
        rest = [part for part in parts[2:] if not re.match(r"\d+(\(\d+\))?$", part)]
        return "/".join(parts[:2] + [re.sub(r"\(PCI\)$", "", part) for part in rest])
    if parts[0] == "P2P" and "(" in parts[-1]:
        name = parts[1].partition("(")[0]
        meant = [way for way in P2P_WAYS if name and way.startswith(name)]
        return "P2P/%s" % (meant[0] if len(meant) == 1 else name)
    return "/".join(parts[:2])


def messages(text):
    """Return ``[(level, message)]`` of NCCL's lines; a line that stands twice on one line (log viewers) counts once."""
    found = []
    for line in TAG.sub("\n", text).splitlines():
        marks, mine = list(MESSAGE.finditer(line)), []
        for place, mark in enumerate(marks):
            last = place + 1 == len(marks)
            message = line[mark.end() : None if last else marks[place + 1].start()]
            if not last:  # the other line's beginning is at the end: host, process, device
                message = message[:-TAIL_LENGTH] + NEXT.sub("", message[-TAIL_LENGTH:])
            item = (mark.group(1), RAY.sub("", message).strip())
            if item not in mine:
                mine.append(item)
        found += mine
    return found


def _version(text):
    """Return NCCL's version, by the line that says most: ``2.23.4+cuda12.4`` before ``2.23.4``."""
    found = VERSION.findall(text)
    return next((version for version in found if "+" in version), found[0] if found else None)


class Log:
    """What NCCL's log lines say; ``found`` is what :func:`parse` returns."""

    def __init__(self):
        self.seen_ways = set()
        self.found = {
            "nccl_version": None, "networks": [], "devices": [], "interfaces": [], "channels": {}, "nvls_channels": None,
            "ranks": None, "nodes": None, "ib_absent": False, "failed_plugins": [], "environment": {}, "warnings": [],
            "evidence": [], "link_layers": [],
        }  # fmt: skip
        # Which link a device's number has (nodes may count differently: then it is not known), and which numbers carried data.
        self.links, self.numbers = {}, set()

    def keep(self, line):
        """Keep a line that decides, once."""
        if line not in self.found["evidence"] and len(self.found["evidence"]) < EVIDENCE_LINES:
            self.found["evidence"].append(line[:300])

    def add(self, key, value):
        """Add what is not there yet."""
        if value and value not in self.found[key]:
            self.found[key].append(value)

    def warn(self, line):
        """Keep a warning once, those that tell of hardware before all others."""
        warnings = self.found["warnings"]
        if line and line[:300] not in warnings:
            warnings.append(line[:300])
            warnings.sort(key=lambda item: alarm(item) is None)
            del warnings[EVIDENCE_LINES:]

    def info(self, line):
        """Read one message."""
        via = VIA.search(line)
        if via:
            number = re.match(r"NET/([^/]+)/(\d+)", via.group(1))
            if number and family(number.group(1)) == "IB":
                self.numbers.add(int(number.group(2)))
            self._channel(channel(via.group(1)), line)
        elif re.match(r"NET/\S+ ?: No device found", line):
            self.found["ib_absent"] = True
            self.keep(line)
        elif re.match(r"NET/(?:IB|UCX)\S* ?: Using", line):
            for number, name in DEVICE.findall(line.split("; OOB")[0]):
                self.add("devices", name)
                self.links.setdefault(int(number), set()).add(name.rpartition("/")[2])
            self.keep(line)
        elif re.match(r"NET/Socket ?: Using \[", line):
            for name in re.findall(r"\[\d+\]([^:\s]+):", line):
                self.add("interfaces", name)
            self.keep(line)
        elif line.startswith("Using network "):
            self.add("networks", line[len("Using network ") :].split("|")[0].strip())
            self.keep(line)
        elif line.startswith("Failed to initialize NET plugin "):
            self.add("failed_plugins", line[len("Failed to initialize NET plugin ") :].strip())
            self.keep(line)
        elif " set by environment to " in line:
            name, _set, value = line.partition(" set by environment to ")
            if re.match(r"NCCL_[A-Z0-9_]+$", name):
                self.found["environment"][name] = value.strip().rstrip(".")
        else:
            _init(self.found, line)

    def _channel(self, way, line):
        self.found["channels"][way] = self.found["channels"].get(way, 0) + 1
        if way not in self.seen_ways:
            self.seen_ways.add(way)
            self.keep(line)


def parse(text):
    """Return what NCCL's log lines in ``text`` say; other lines and prefixes (mpirun's, vLLM's, Ray's) do not disturb.

    ``networks`` are the names after "Using network", ``devices`` those of NET/IB, ``channels`` counts the ways of
    channels, ``link_layers`` are those of the devices that channels name by number, ``evidence`` holds the lines that decide, each
    once, without host and process.
    """
    log = Log()
    for level, line in messages(text):
        if level == "WARN":
            log.warn(line)
        else:
            log.info(line)
    log.found["nccl_version"] = _version(text)
    known = [log.links[number] for number in sorted(log.numbers & set(log.links)) if len(log.links[number]) == 1]
    log.found["link_layers"] = sorted(set().union(*known)) if known else []
    return log.found


def _init(found, line):
    """Read a line of the communicator's start."""
    match = re.match(r"comm \S+ rank \d+ nRanks (\d+) nNodes (\d+)", line)
    if match:
        found["ranks"] = max(int(match.group(1)), found["ranks"] or 0)
        found["nodes"] = max(int(match.group(2)), found["nodes"] or 0)
    match = re.search(r"(\d+) coll channels,(?: \d+ collnet channels,)? (\d+) nvls channels", line)
    if match:
        found["nvls_channels"] = max(int(match.group(2)), found["nvls_channels"] or 0)


def alarm(warning):
    """Return what a warning says of hardware: ``fatal``, ``error``, or None where it says nothing of it."""
    warning = warning[:300]
    event = EVENT.search(warning)
    if event:
        name = event.group(1).lower()
        if any(quiet in name for quiet in QUIET_EVENTS):
            return None
        return "fatal" if any(word in warning.lower() for word in FATAL_EVENTS) else "error"
    return "error" if ALARM.search(warning) else None


def judge_warnings(measurement, warnings, check):
    """Add a reason where NCCL warned of ports, links or devices during the run; results that came all the same do not undo that."""
    found = {warning: alarm(warning) for warning in dict.fromkeys(warnings) if alarm(warning)}
    if not found or any(reason["check"] == check for reason in measurement.reasons):
        return
    measurement.add(
        check, "failed" if "fatal" in found.values() else "degraded", "NCCL warned: " + "; ".join(list(found)[:4]),
        "no event of a port, and no completion with an error, during the run",
        "look at the port that it names at both ends: ibstat, link_downed and symbol errors (perfquery -x), the kernel's log, the cable; "
        "then run it again",
    )  # fmt: skip


def verdict(found):
    """Return ``{"network", "between", "inside", "gdrdma"}`` of a parsed log.

    ``network`` is what NCCL chose for traffic between nodes, ``between`` what the channels between nodes really use
    (None without one), ``inside`` the ways within a node. ``IB`` needs a device whose link is InfiniBand, ``RoCE`` has
    only Ethernet ones; ``mixed`` means that ranks or channels differ; None means that the log does not say.
    """
    links = {name.rpartition("/")[2] for name in found["devices"]}

    def named(name):
        kind = family(name)
        if kind == "IB" and not found["devices"] and not found["channels"]:
            return None  # it says IB and names no device: no evidence
        return "RoCE" if kind == "IB" and links and "IB" not in links else kind

    chosen = {named(name) for name in found["networks"]}
    ways = [way for way in found["channels"] if way.startswith(("NET/", "COLLNET/"))]
    between = {named(way.split("/")[1]) for way in ways if way.startswith("NET/")}
    if "IB" in between and "RoCE" in found.get("link_layers", ()):
        # By their numbers, channels went over an Ethernet port though InfiniBand ports are there too.
        between = between - {"IB"} | set(found["link_layers"])
    inside = sorted({way for way in found["channels"] if not way.startswith(("NET/", "COLLNET/"))})
    if found["nvls_channels"]:
        inside.append("NVLS")
    return {
        "network": "mixed" if len(chosen) > 1 else next(iter(chosen), None),
        "between": "mixed" if len(between) > 1 else next(iter(between), None),
        "inside": inside,
        "gdrdma": all("/GDRDMA" in way for way in ways) if ways else None,
    }


def described(found, said=None):
    """Return the verdict in words: ``Socket (eth0): NET/IB : No device found.``"""
    said = said or verdict(found)
    between = said["between"] or said["network"]
    parts = []
    if between:
        names = found["interfaces"] if between == "Socket" else found["devices"]
        parts.append(between + (" without a channel between nodes" if not said["between"] else ""))
        if names:
            parts[-1] += " (%s)" % ", ".join(names[:8])
        if said["gdrdma"] is not None and between in ("IB", "RoCE"):
            parts.append("GPUDirect RDMA" if said["gdrdma"] else "no GPUDirect RDMA on some channels")
    if said["inside"]:
        parts.append("within a node " + ", ".join(said["inside"]))
    if found["ib_absent"]:
        parts.append("NET/IB : No device found")
    if found["failed_plugins"]:
        parts.append("failed to initialize: %s" % ", ".join(found["failed_plugins"]))
    return "; ".join(parts) or "NCCL's log names no transport"


FALLBACK_REMEDY = (
    "give the processes /dev/infiniband, IPC_LOCK and memlock -1, set NCCL_IB_HCA to the ports whose link_layer is InfiniBand, "
    "and NCCL_NET=IB, which makes the fallback an error that says why"
)


def judge(measurement, found, expected, nodes, ranks, check="collective.transport"):
    """Add the reason on the transport.

    ``expected`` is ``{"across": "IB", "within": "P2P"}``, either or both, or empty where nothing is known of the
    machine. Without an expectation the verdict is told and not judged (``skipped``); with one, silence is ``incomplete``.
    """
    said = verdict(found)
    seen = described(found, said)
    across, within = expected.get("across"), expected.get("within")
    silent = not (found["networks"] or found["channels"])
    judge_warnings(measurement, found["warnings"], check.partition(".")[0] + ".warnings")
    if not across and not within:
        measurement.add(
            check, "skipped", seen + " (not judged)", None, "set what is expected: nccl.transport of the SKU (sku_name, sku_overrides)"
        )
        return
    if silent:
        measurement.add(
            check, "incomplete", seen, "what carries the data, by NCCL's log",
            "set %s where the processes run" % " ".join("%s=%s" % item for item in sorted(LOG_ENVIRONMENT.items())),
        )  # fmt: skip
        return
    if across:
        _judge_across(measurement, found, said, seen, across, nodes, check)
    if within and ranks > nodes:
        _judge_within(measurement, said, within, nodes, check + "_within")


def _judge_across(measurement, found, said, seen, expected, nodes, check):
    threshold = "%s%s" % (expected, " on every channel between nodes, by device name" if expected == "IB" else "")
    nvlink = [way for way in said["inside"] if way == "P2P/MNNVL"]
    if nodes > 1 and nvlink and not said["between"]:
        _judge_mnnvl(measurement, seen, expected, threshold, check)
        return
    used = {said["network"], said["between"]} - {None}
    if used and not all(same(name, expected) for name in used):
        measurement.add(check, "failed", seen + ": " + " | ".join(found["evidence"][:6]), threshold, FALLBACK_REMEDY)
    elif (
        not same(said["network"], expected)
        or (nodes > 1 and not same(said["between"], expected))
        or (expected == "IB" and not found["devices"])
    ):
        measurement.add(check, "incomplete", seen, threshold, "read the log: the lines that prove it are not there")
    elif expected == "IB" and said["gdrdma"] is False:
        measurement.add(
            check, "degraded", seen, threshold + ", with GPUDirect RDMA",
            "load nvidia-peermem (or use a kernel with DMA-BUF), and check NCCL_NET_GDR_LEVEL and NCCL_TOPO_FILE",
        )  # fmt: skip
    else:
        measurement.add(check, "healthy", seen, threshold)


def _judge_mnnvl(measurement, seen, expected, threshold, check):
    """NVLink that spans the nodes (GB200 NVL72) carried everything: no network was needed, and none was proven."""
    if str(expected).upper() == "MNNVL":
        measurement.add(check, "healthy", seen, threshold)
        return
    measurement.add(
        check, "incomplete", seen + ": multi-node NVLink (MNNVL) carried the data, no network did", threshold,
        "expect it (nccl.transport of the SKU in sku_overrides: {across: MNNVL}), or set NCCL_MNNVL_ENABLE=0 to measure the network",
    )  # fmt: skip


def _judge_within(measurement, said, expected, nodes, check):
    ways = {way.split("/")[0] for way in said["inside"]}
    if nodes == 1 and said["between"]:
        ways.add("NET")
    seen = ", ".join(said["inside"] + (["NET/%s" % said["between"]] if "NET" in ways else [])) or "no channel within a node"
    allowed = {expected, "NVLS"}
    if not ways:
        measurement.add(check, "incomplete", seen, expected, "read the log: it names no channel within a node")
    elif ways - allowed:
        measurement.add(
            check, "failed", seen, "%s (NVLink) only" % expected,
            "GPUs do not reach each other directly: check nvidia-smi topo -p2p r, the fabric manager, and that a container has "
            "all GPUs and --ipc=host",
        )  # fmt: skip
    else:
        measurement.add(check, "healthy", seen, expected)


def summary(found, counters=None, expected=None):
    """Return what a fact keeps in ``context.transport``: the verdict, its evidence, and the bytes on each port."""
    said = verdict(found)
    carried = ", ".join(dict.fromkeys(way.split("/")[0] for way in said["inside"]))
    return {
        # What carried data; where nothing did (one rank), what would have between nodes.
        "verdict": said["between"] or carried or said["network"],
        "network": said["network"],
        "between_nodes": said["between"],
        "within_node": said["inside"],
        "gdrdma": said["gdrdma"],
        "devices": found["devices"],
        "interfaces": found["interfaces"],
        "channels": found["channels"],
        "warnings": found["warnings"],
        "environment": {key: value for key, value in found["environment"].items() if key.startswith("NCCL_")},
        "evidence": found["evidence"],
        "expected": (expected or {}).get("across"),
        "sent_bytes": counters,
    }


def snapshot(interface):
    """Return the bytes that an interface and every InfiniBand port have sent so far."""
    return net.sent_bytes(interface, with_infiniband=True) if interface else net.sent_bytes("lo", with_infiniband=True)


def by_counters(counters, interface):
    """Return ``(bytes on InfiniBand ports, bytes on the interface)``; None where there is no counter of that sort."""
    ports = [value for name, value in counters.items() if name != interface and name != "lo" and value is not None]
    return (sum(ports) if ports else None), counters.get(interface)


def judge_counters(measurement, counters, interface, expected_bytes, across, check="collective.transport_counters"):
    """Add the reason on the counters, where InfiniBand is expected to carry at least ``expected_bytes`` away from this node.

    The log says what NCCL meant to do; the ports' counters say where bytes went.
    """
    if across != "IB" or not expected_bytes:
        return
    ports, ethernet = by_counters(counters, interface)
    seen = "InfiniBand ports sent %s bytes, %s %s bytes" % (ports, interface, ethernet)
    threshold = "at least %.0f %% of %d bytes on the InfiniBand ports" % (EVIDENCE_SHARE * 100, expected_bytes)
    if ports is not None and ports >= EVIDENCE_SHARE * expected_bytes:
        measurement.add(check, "healthy", seen, threshold)
    elif ethernet is not None and ethernet >= EVIDENCE_SHARE * expected_bytes:
        measurement.add(check, "failed", seen, threshold, FALLBACK_REMEDY)
    else:
        measurement.add(check, "incomplete", seen, threshold, "check /sys/class/infiniband/*/ports/*/counters/port_xmit_data on this node")
