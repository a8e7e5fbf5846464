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
SILENT = re.compile(r"^[-\s*]*$|^WARNING|Conflicting CPU frequency|^\s*(Dual-port|Number of qps|Connection type|local|remote|GID)\b", re.I)

ERROR = re.compile(r"error|fail|couldn't|unable|not found|cannot|unrecognized", re.I)


def rows(text):
    """Return the rows as dictionaries by column name; ``ValueError`` says why there is none in Gbit/s."""
    columns, found = None, []
    for line in text.splitlines():
        if line.lstrip().startswith("#bytes"):
            columns = COLUMN.findall(line)
            if AVERAGE not in columns:
                raise ValueError("the header has no %s: %s" % (AVERAGE, line.strip()))
        elif columns and re.match(r"\s*\d", line):
            values = line.split()
            if len(values) != len(columns):
                raise ValueError("a row has %d values for %d columns: %s" % (len(values), len(columns), line.strip()))
            found.append(dict(zip(columns, map(number, values))))
    if not columns:
        raise ValueError("no header that starts with #bytes")
    if not found:
        raise ValueError("a header and no row")
    return found


def number(text):
    value = float(text)
    if not math.isfinite(value) or value < 0:
        raise ValueError("%s is no rate" % text)
    return value


def average_gbit_s(text, size_bytes):
    """Return the average at ``size_bytes`` in Gbit/s, from perftest's text."""
    for row in rows(text):
        if int(row["#bytes"]) == size_bytes:
            return row[AVERAGE]
    raise ValueError("no row of %d bytes" % size_bytes)


def not_listening(text):
    """Return whether a client found nobody at the port."""
    return any(sign in text.lower() for sign in NOT_YET)


def telling_line(text):
    """Return the lines of an output that name an error, else its last line that says something."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not SILENT.search(line)]
    errors = [line for line in lines if ERROR.search(line)]
    return "; ".join(errors[-3:] or lines[-1:])[:300] or "nothing was said"


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
    """Add the reason on one port from what its client left: ``{"gbit_s", "problem", "connected"}``."""
    check = "link.%s" % port
    if run["gbit_s"] is None and not run["connected"]:
        measurement.add(
            check, "incomplete", "%s: nobody at %s answered: %s" % (port, peer, run["problem"]), "a measurement of the port",
            "look at the same task on %s: has it that port, is it Active (ibstat), does a firewall close the TCP port?" % peer,
        )  # fmt: skip
    elif run["gbit_s"] is None:
        measurement.add(
            check, "failed", "%s to %s: %s" % (port, peer, run["problem"]), "ib_write_bw ends with a rate",
            "run the fact's command by hand; look at ibstat, the port's error counters (perfquery -x) and the partition keys",
        )  # fmt: skip
    elif minimum_gbit_s is None:
        measurement.add(
            "%s.baseline" % check, "skipped", "%s: %.2f Gbit/s, no baseline is known for this SKU" % (port, run["gbit_s"]), None,
            "set sku_name, or ib.write_min_gbit_s of the SKU in sku_overrides",
        )  # fmt: skip
        measurement.add(check, "healthy", "%s to %s was measured: %.2f Gbit/s" % (port, peer, run["gbit_s"]), "a rate")
    else:
        good = run["gbit_s"] >= minimum_gbit_s
        measurement.add(
            check, "healthy" if good else "failed", "%s to %s: %.2f Gbit/s" % (port, peer, run["gbit_s"]),
            "at least %g Gbit/s" % minimum_gbit_s,
            None if good else "look at the port at both ends: rate and width (ibstat), error counters (perfquery -x), PCIe width and "
            "speed (lspci -vv), the cable; pairwise rounds tell which end",
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
