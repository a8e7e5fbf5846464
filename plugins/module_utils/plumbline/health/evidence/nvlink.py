"""NVLink: what ``nvidia-smi nvlink -s`` and ``-e`` print.

Both print a block for each GPU: a line that names it (newer drivers without its UUID), then a line for each link (``-s``), or
each link's counters (``-e``), or a message in place of them. The counters of NVLink 4 are errors (replay, recovery, CRC); those
of NVLink 5 (driver 570 and newer) are errors, discards, link recoveries, bit error rates, and raw figures before correction,
which are large on every healthy link. The tool prints nothing at all, with exit code 0, where it sees no link (a real H200 in
pass-through: the capture ``nvidia-smi.nvlink_s.txt``).
"""

from __future__ import annotations

import re

from ...machine import nvidia

GPU = re.compile(r"^\s*GPU (\d+)\s*:.*?(?:\(UUID: ([\w-]+)\))?\s*$")
ROW = re.compile(r"^\s*Link (\d+)\s*:\s*(.*?)\s*$")
RATE = re.compile(r"([0-9]+(?:\.[0-9]+)?) GB/s")
INACTIVE = re.compile(r"<?\s*(?:in-?active|disabled|off|down)\s*>?", re.IGNORECASE)
COUNTER = re.compile(r"(.*\S)\s*:\s*(.*)")
# What counts as an error of a link. FEC errors by bucket and raw errors by lane are figures before correction.
ERRORS = re.compile(r"(?!FEC|Raw)[A-Za-z][A-Za-z ]*(?:Errors?|discards|recovery (?:successful|failed) events)", re.IGNORECASE)
RATES = re.compile(r"(?:Effective|Symbol) BER", re.IGNORECASE)
ALL_INACTIVE = "all links are inactive"
NO_NVLINK = re.compile(
    r"not have or support nvlink|nvlink (?:is )?not supported|not support(?:ed)? nvlink|no nvlink|nvlink.*: not supported", re.IGNORECASE
)


def collect(tool, timeout_s=60):
    """Return ``{"status", "errors", "said"}``: parsed rates and counters, ``said`` why one of them is missing."""
    seen = {"status": None, "errors": None, "said": []}
    for key, flag, parser in (("status", "-s", parse_status), ("errors", "-e", parse_errors)):
        try:
            code, stdout, stderr = nvidia.run(tool, ["nvlink", flag], timeout_s)
        except nvidia.NvidiaError as error:
            seen["said"].append(str(error))
            continue
        if code not in (0, 14):  # 14: a corrupted InfoROM, which nvidia-smi says of every call; the links are told
            said = " ".join((stderr.strip() or stdout.strip() or "no message").split())[:200]
            seen["said"].append("nvidia-smi nvlink %s ended with %d: %s" % (flag, code, said))
            continue
        seen[key] = parser(stdout)
    return seen


def blocks(text):
    """Return ``[({"index", "uuid"}, [line, ...])]``: each GPU and the lines that follow its name, up to the next GPU's.

    A message for all GPUs, without any name before it, is a block whose index is None.
    """
    found = []
    for line in text.splitlines():
        head = GPU.match(line)
        if head:
            found.append(({"index": int(head.group(1)), "uuid": head.group(2)}, []))
        elif found:
            found[-1][1].append(line)
        elif NO_NVLINK.search(line):
            found.append(({"index": None, "uuid": None}, [line]))
    return found


def _rows(lines):
    """Return ``[(link, text)]`` of a block's lines about links."""
    return [(int(row.group(1)), row.group(2)) for row in map(ROW.match, lines) if row]


def parse_status(text):
    """Return ``[{"index", "uuid", "links": {link: GB/s}, "unreadable": [link, ...], "all_inactive", "no_nvlink", "empty"}]``.

    An inactive link has 0, a link whose text is neither is ``unreadable``, an empty text is ``[]``. An ``empty`` block, a name
    alone, is what older drivers print for a GPU without NVLink.
    """
    gpus = []
    for gpu, lines in blocks(text):
        links, unreadable = {}, set()
        for link, said in _rows(lines):
            rate = RATE.fullmatch(said)
            value = float(rate.group(1)) if rate else 0.0 if INACTIVE.fullmatch(said) else None
            if value is None:
                unreadable.add(link)
            else:
                links[link] = min(value, links.get(link, value))  # told twice: the worse one
        said = "\n".join(lines)
        gpus.append(
            dict(
                gpu,
                links=links,
                unreadable=sorted(unreadable),
                all_inactive=ALL_INACTIVE in said.lower(),
                no_nvlink=bool(NO_NVLINK.search(said)),
                empty=not said.strip(),
            )
        )
    return gpus


def parse_errors(text):
    """Return ``[{"index", "uuid", "counters": {link: {name: count or None}}, "rates": {link: {name: rate or None}}, "no_nvlink"}]``.

    Counters are those of :data:`ERRORS`, rates those of :data:`RATES`; an empty text is ``[]``.
    """
    gpus = []
    for gpu, lines in blocks(text):
        counters, rates = {}, {}
        for link, said in _rows(lines):
            row = COUNTER.fullmatch(said)
            if row is None:
                continue
            name, value = row.groups()
            if ERRORS.fullmatch(name):
                _keep(counters, link, name, nvidia.count(value) if re.fullmatch("[0-9]+", value) else None)
            elif RATES.fullmatch(name):
                _keep(rates, link, name, _ratio(value))
        gpus.append(dict(gpu, counters=counters, rates=rates, no_nvlink=any(map(NO_NVLINK.search, lines))))
    return gpus


def _keep(values, link, name, value):
    """Keep a value of a link, the larger one where it is told twice; None does not hide a number."""
    mine = values.setdefault(link, {})
    known = [item for item in (mine.get(name), value) if item is not None]
    mine[name] = max(known) if known else None


def _ratio(text):
    """Return a bit error rate such as ``15e-255``; None for what is none."""
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 <= value <= 1 else None


def of_gpu(parsed, gpu):
    """Return what one of the parsers read of ``gpu`` (``uuid``, ``index``), None where it read nothing; the uuid decides.

    A block without a name is of every GPU.
    """
    same_uuid = [item for item in parsed if item["uuid"] and item["uuid"] == gpu["uuid"]]
    same_index = [item for item in parsed if item["index"] == gpu["index"]]
    both = [item for item in same_uuid if item["index"] == gpu["index"]]
    return (both or same_uuid or same_index or [item for item in parsed if item["index"] is None] or [None])[-1]
