"""perftest's ib_write_bw: its text, its command line, and the verdict on a port. Rates in 10^9 **bits** per second.

The text is parsed, not the JSON: what ``--out_json`` of the versions in Azure's images writes is not valid JSON. Format
from linux-rdma/perftest, src/perftest_parameters.h: a header of column names (RESULT_FMT_G with ``--report_gbits``,
RESULT_FMT with MiB/sec without, ``CPU_Util[%]`` at the end with ``--cpu_util``, ``#sl`` after the size with QoS) and under
it one row a size. Columns are found by name, so an added one does no harm.
"""

from __future__ import annotations

import math
import re

COLUMN = re.compile(r"#\w+|(?:BW peak|BW average|MsgRate|BW Port\d|MsgRate Port\d|CPU_Util)\[[^\]]*\]")
AVERAGE = "BW average[Gb/sec]"

# What ib_write_bw says when the other side does not listen yet (perftest_communication.c).
NOT_YET = ("couldn't connect to", "unable to open file descriptor for socket connection")
# ... and lines that say nothing about why it ended.
SILENT = re.compile(
    r"^[-\s*]*$|^(libibverbs: )?WARNING|^Perftest doesn't support|Conflicting CPU frequency"
    r"|^\s*(Dual-port|Number of qps|Connection type|local|remote|GID)\b",
    re.I,
)

ERROR = re.compile(r"error|fail|couldn't|unable|not found|cannot|unrecognized", re.I)
# What follows from an error that was named before it: told after all others.
CONSEQUENCE = re.compile(
    r"couldn't create IB resources|failed to create mr|unable to (?:init|read|open file|connect the HCA)"
    r"|failed to (?:exchange|complete run_iter)|^got completion with error",
    re.I,
)
FAULT = re.compile(r"completion with error|failed status \d+|failed to complete run_iter", re.I)
BOTH_WAYS = re.compile(r"^\s*\S+ .*Bidirectional BW Test", re.M)
CLOSING = re.compile(r"\s*-{20,}\s*$")

# What to do, by what the text says.
REMEDIES = (
    (r"allocate MR|create mr|reg_mr|memory region",
     "GPU memory needs nvidia-peermem (lsmod; modprobe nvidia-peermem) or DMA-BUF; host memory a memlock limit of unlimited (ulimit -l)"),
    (r"modify QP|to RTR|to RTS",
     "the two ports do not reach each other: look at the GID index (-x), the MTU, the partition keys, and the subnet manager (sminfo)"),
    (r"Failed status (?:12|13)\b|retry|transport retry",
     "the peer did not answer on the link: look at both ports' error counters (perfquery -x), the cable, and the switch port"),
    (r"Failed status (?:4|10)\b|syndrom 0x(?:51|88)",
     "the card may not reach the memory: with GPU memory look at nvidia-peermem or DMA-BUF, PCIe ACS and the IOMMU"),
    (r"read remote address|exchange data|closed|reset by peer|Broken pipe",
     "the other side ended in the middle: look at the same task there, its memory (dmesg: OOM killer) and whether it was stopped"),
    (r"device \S+ not found|find the Infiniband|No IB devices",
     "look at ibstat and /sys/class/infiniband: another name, a driver that is not loaded, or a container without /dev/infiniband"),
)  # fmt: skip
BY_HAND = "run the fact's command by hand; look at ibstat, the port's error counters (perfquery -x) and the partition keys"


class Unfinished(ValueError):
    """The text is not whole, cannot be read, or is more than one run's: it says nothing against the port."""


def rows(text):
    """Return the rows as dictionaries by column name; ``ValueError`` says why there is none in Gbit/s.

    A table ends with a line of dashes, which is printed last: a text without it is :class:`Unfinished`.
    """
    columns, found, closed = None, [], False
    for line in text.splitlines():
        if line.lstrip().startswith("#bytes"):
            columns, closed = COLUMN.findall(line), False
            if AVERAGE not in columns:
                # Another unit is a mistake in the command; no average at all is a line that was cut.
                cut = not any(column.startswith("BW average[") for column in columns)
                raise (Unfinished if cut else ValueError)("the header has no %s: %s" % (AVERAGE, line.strip()))
        elif columns and not closed and re.match(r"\s*\d", line):
            found.append(_row(columns, line))
        elif columns and found and CLOSING.match(line):
            closed = True
    if not columns:
        raise Unfinished("no header that starts with #bytes")
    if not found:
        raise Unfinished("a header and no row")
    if not closed:
        raise Unfinished("the line that closes the table is not there: the text is not whole")
    return found


def _row(columns, line):
    values = line.split()
    if len(values) != len(columns):
        raise Unfinished("a row has %d values for %d columns: %s" % (len(values), len(columns), line.strip()))
    return dict(zip(columns, map(number, values)))  # noqa: B905 -- Python 3.9


def number(text):
    """Return a printed rate or count; :class:`Unfinished` for anything else, a decimal comma included."""
    value = float(text) if re.match(r"\d+(\.\d+)?(e[+-]?\d+)?$", text) else math.nan
    if not math.isfinite(value):
        raise Unfinished("%s is no rate" % text)
    return value


def average_gbit_s(text, size_bytes):
    """Return the average at ``size_bytes`` in Gbit/s, from perftest's text."""
    mine = [row[AVERAGE] for row in rows(text) if int(row["#bytes"]) == size_bytes]
    fault = FAULT.search(text)
    if fault:
        raise ValueError("it says %s, and ended with status 0" % telling_line(text))
    if not mine:
        raise ValueError("no row of %d bytes" % size_bytes)
    if len(set(mine)) > 1:
        raise Unfinished("%d rows of %d bytes with different rates: the text is more than one run's" % (len(mine), size_bytes))
    if not mine[0]:
        raise ValueError("the average at %d bytes is 0: nothing was sent" % size_bytes)
    return mine[0]


def both_ways(text):
    """Return whether the rate is the sum of both directions (``-b``)."""
    return BOTH_WAYS.search(text) is not None


def not_listening(text):
    """Return whether a client found nobody at the port."""
    return any(sign in text.lower() for sign in NOT_YET)


def telling_line(text):
    """Return the lines of an output that name an error, else its last line that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not SILENT.search(line)]
    errors = [line for line in lines if ERROR.search(line)]
    causes = [line for line in errors if not CONSEQUENCE.search(line)]
    told = causes + [line for line in errors if line not in causes]
    return "; ".join(list(dict.fromkeys(told))[:4] or lines[-1:])[:300] or "nothing was said"


def remedy(problem):
    """Return what to do about what a client said."""
    return next((text for pattern, text in REMEDIES if re.search(pattern, problem or "", re.I)), BY_HAND)


def offsets(ports):
    """Return ``{port: offset of its TCP port}`` for ports named ``device/number``.

    Both nodes must come to the same offset without asking, also where one lacks a device: the number at the end of the
    device's name decides; where names have none, or two have the same, the place in the sorted list.
    """
    named = {}
    for port in ports:
        device, _slash, place = port.partition("/")
        digits = re.search(r"(\d+)$", device)
        named[port] = int(digits.group(1)) * 4 + int(place) - 1 if digits else None
    if None in named.values() or len(set(named.values())) != len(named):
        return {port: index for index, port in enumerate(sorted(ports))}
    return named


def command(program, port, tcp_port, size_bytes, duration_s, cuda_device=None, server=None, numa_node=None):
    """Return the argv for one port; with ``server`` (an address) the client's, else the server's.

    The flags are those of Azure NHC's azure_ib_write_bw_gdr.nhc, and a duration.
    """
    device, _slash, place = port.partition("/")
    argv = ["numactl", "-N", str(numa_node), "-m", str(numa_node)] if numa_node is not None else []
    argv += [program, "-d", device, "-i", place, "-p", str(tcp_port), "-s", str(size_bytes), "-D", str(duration_s)]
    argv += ["-x", "0", "-F", "--report_gbits"]
    if cuda_device is not None:
        argv.append("--use_cuda=%d" % cuda_device)
    return argv + ([server] if server else [])


def judge_port(measurement, port, run, minimum_gbit_s, peer):
    """Add the reason on one port from what its client left: ``{"gbit_s", "problem", "connected"}``.

    ``unfinished`` in it means that the text says nothing against the port, ``both_ways`` that the rate is the sum of both directions.
    """
    check = "link.%s" % port
    if run["gbit_s"] is None:
        _judge_silent(measurement, check, port, run, peer)
        return
    both = bool(run.get("both_ways"))
    rate = "%.2f Gbit/s%s" % (run["gbit_s"], " in both directions together" if both else "")
    if minimum_gbit_s is None:
        measurement.add(
            "%s.baseline" % check, "skipped", "%s: %s, no baseline is known for this SKU" % (port, rate), None,
            "set sku_name, or ib.write_min_gbit_s of the SKU in sku_overrides",
        )  # fmt: skip
        measurement.add(check, "healthy", "%s to %s was measured: %s" % (port, peer, rate), "a rate")
        return
    good = run["gbit_s"] >= minimum_gbit_s * (2 if both else 1)
    measurement.add(
        check, "healthy" if good else "failed", "%s to %s: %s" % (port, peer, rate),
        "at least %g Gbit/s%s" % (minimum_gbit_s, " in each direction" if both else ""),
        None if good else "look at the port at both ends: rate and width (ibstat), error counters (perfquery -x), PCIe width and "
        "speed (lspci -vv), the cable; pairwise rounds tell which end",
    )  # fmt: skip


def _judge_silent(measurement, check, port, run, peer):
    """Add the reason on a port without a rate."""
    if not run["connected"]:
        measurement.add(
            check, "incomplete", "%s: nobody at %s answered: %s" % (port, peer, run["problem"]), "a measurement of the port",
            "look at the same task on %s: has it that port, is it Active (ibstat), does a firewall close the TCP port?" % peer,
        )  # fmt: skip
    elif run.get("unfinished"):
        measurement.add(
            check, "incomplete", "%s to %s: %s" % (port, peer, run["problem"]), "the whole text of one run",
            "run it again; nothing else may write into its output, and nothing may end it early",
        )  # fmt: skip
    else:
        measurement.add(
            check, "failed", "%s to %s: %s" % (port, peer, run["problem"]), "ib_write_bw ends with a rate", remedy(run["problem"])
        )  # fmt: skip


def port_links(facts):
    """Return ``{port: links}`` as controller/suspect.py takes them, from the facts of all pairs (in 10^9 bytes/s)."""
    found = {}
    for fact in facts:
        for port in fact["measured"].get("ports") or []:
            value = port["bandwidth_gbit_s"]
            link = {"nodes": fact["context"]["nodes"], "bandwidth_gbps": None if value is None else value / 8}
            found.setdefault(port["port"], []).append(link)
    return found
