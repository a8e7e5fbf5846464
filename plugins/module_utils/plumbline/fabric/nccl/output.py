"""What nccl-tests print, as text and as JSON (``-J``, since 2.17.3), in one shape.

Known formats: text of 2.13 to 2.19.6 (13 columns; ``-S 1`` adds a date and a time, ``-I 1`` four columns for each
placement; ``-c 0`` and in-place sendrecv print ``N/A`` for ``#wrong``; since 2.17 large numbers shrink to ``2e+06``),
JSON schemas 1 (with ``average_bus_bandwidith``/``bandwidith`` before 2.17.9), 2 and 3, in which booleans and ``root``
are strings. Read off https://github.com/NVIDIA/nccl-tests, src/util.cu and src/common.cu.

A result is ``{"format", "tests_version", "nccl_version", "program", "iterations", "warmup_iterations", "validation",
"devices", "rows", "out_of_bounds", "avg_busbw_gbps", "reduced_max_bytes", "graph", "problems"}``, with ``graph`` the launches of
``-G`` (0: no graph); a row is ``{"size_bytes",
"count", "type", "redop", "root", "out_of_place", "in_place"}``, a placement ``{"time_us", "algbw_gbps", "busbw_gbps",
"wrong", "times_us"}`` or None. Times are µs, bandwidths 10^9 bytes/s; ``wrong`` is None where nothing was checked.
``avg_busbw_gbps`` averages all sizes and both placements: it says nothing about a link and gates nothing.
"""

from __future__ import annotations

import json
import re

from ...core.scrub import scrub_text
from . import streams, table

PLACEMENTS = table.PLACES
number, count = table.number, table.count

# One NCCL log line: host:pid:tid [device] NCCL INFO ..., or since 2.27 with a timestamp in front of it.
LOG = r"(?:\[[\d-]+ [\d:.]+\] )?%s:\d+:\d+ (?:\[-?\d+\] )?(?:\S+:\d+ (?:\(\w+\) )?)?NCCL (?:INFO|WARN|CALL|TRACE|ABORT|VERSION)[^\n]*\n?"
# The end of a row behind a log line that it ran into: one half or both, in the widths that the tests print.
TAIL = re.compile(r"(?:(?: {2,}\d[\d.]*(?:e[+-]\d+)?){3} {2,}(?:N/A|\d+(?:e\+\d+)?)){1,2}\s*$")
WARNING = re.compile(r"NCCL WARN ([^\n]*)")
RANK = re.compile(r"^#\s+Rank\s+(\d+)\s+(?:Group\s+(\d+)\s+)?Pid\s+(\d+) on\s+(\S+) device\s+(\d+) \[([^\]]*)\] (.*)$")
SETTINGS = re.compile(r"warmup iters: (\d+) iters: (\d+) agg iters: (\d+) validation: (\d+)")
GRAPH = re.compile(r"validation: \d+ graph: (\d+)")
PROCESS = re.compile(r"nThread (\d+) nGpus (\d+)")
BOUNDS = re.compile(r"#?\s*Out of bounds values\s*:\s*(\d+)\s+(OK|FAILED)\s*$")
FAILURE = re.compile(
    r"skipping json|invalid option|.*(?:Test (?:NCCL|CUDA) failure|Test failure |Test timeout|MPI_ABORT was invoked|Invalid number of GPUs"
    r"|exited with non-zero status|Segmentation fault|exited on signal)"
)
DEVICE_LINE = "a line of the device list that cannot be read: "
UNENDED = "the text ends before # Avg bus bandwidth: the test did not come to its end, or its end was not kept"


def release(code):
    """Return NCCL's version code 22809 as ``2.28.9``."""
    code = count(code)
    if not code:
        return None
    if code < 10000:  # before 2.9 the code was major * 1000 + minor * 100 + patch
        return f"{code // 1000}.{code % 1000 // 100}.{code % 100}"
    return f"{code // 10000}.{code % 10000 // 100}.{code % 100}"


def empty(form):
    """Return a result with nothing in it."""
    return {
        "format": form, "tests_version": None, "nccl_version": None, "program": None, "iterations": None,
        "warmup_iterations": None, "validation": None, "devices": [], "rows": [], "out_of_bounds": None,
        "avg_busbw_gbps": None, "reduced_max_bytes": None, "problems": [],
        "row_problems": [], "warnings": [], "devices_per_process": 1, "devices_from": form.partition("/")[0],
        "devices_listed": None, "graph": None,
    }  # fmt: skip


def without_log(text, hosts=()):
    """Return the text without NCCL's log lines, and rows whole again that a log line cut in two.

    A row's first columns are printed before the measurement: what NCCL logs meanwhile lands behind them, on the same
    line. The rest of the row follows the log, on the next line or behind its last one. A host name that starts with a digit
    would run into ``root``, so names that the tests themselves print (``hosts``) are taken exactly.
    """
    names = [re.escape(host) for host in sorted(hosts, key=len, reverse=True)]
    pattern = re.compile(LOG % ("(?:%s)" % "|".join([*names, r"[A-Za-z_][\w.-]{0,252}"])))
    # Line by line, and only where the word is: what is no log may be long.
    return "".join(pattern.sub(_tail, line) if "NCCL " in line else line for line in text.splitlines(keepends=True))


def _tail(match):
    tail = TAIL.search(match.group())
    return "\n%s\n" % tail.group().rstrip() if tail else ""


def parse_text(text):
    """Return the result in the text that a test printed; what it does not know is in ``problems``."""
    result = empty("text")
    pieces = streams.streams(text)
    hosts = {match.group(4) for piece in pieces for line in piece.splitlines() for match in [RANK.match(line.strip())] if match}
    for warning in WARNING.findall(text):
        if warning.strip()[:300] not in result["warnings"]:
            result["warnings"].append(warning.strip()[:300])
    for piece in pieces:
        _process(result, without_log(piece, hosts))
    result["problems"] = result["row_problems"] + result["problems"]
    return result


def _process(result, text):
    """Read what one process printed."""
    rows, ends = table.Table(), 0
    for line in text.splitlines():
        comment = line.strip()
        if FAILURE.match(comment):
            result["problems"].append(comment[:300])
        elif rows.line(line):
            continue
        elif comment.startswith(("#", "Out of bounds", "Avg bus")):
            _comment(result, comment)
            ends += re.match(r"#?\s*Avg bus bandwidth\s*: \S", comment) is not None
    rows.end()
    result["rows"] += rows.rows
    result["row_problems"] += rows.problems
    if (rows.rows or rows.tables) and ends < max(rows.tables, 1):
        result["problems"].append(UNENDED)


def _comment(result, line):
    """Read one line that starts with #."""
    if _device(result, line) or _bounds(result, line):
        return
    match = PROCESS.search(line)
    if match:
        result["devices_per_process"] = int(match.group(1)) * int(match.group(2))
    match = SETTINGS.search(line)
    if match:
        warmup, iterations, _aggregated, validation = map(int, match.groups())
        launches = GRAPH.search(line)
        result.update(warmup_iterations=warmup, iterations=iterations, validation=validation)
        result["graph"] = int(launches.group(1)) if launches else None
        return
    for pattern, key, convert in (
        (r"nccl-tests version (\S+)", "tests_version", str),
        (r"nccl-library=(\d+)", "nccl_version", release),
        (r"Collective test starting: (\S+)", "program", str),
        (r"Avg bus bandwidth\s*: (\S+)", "avg_busbw_gbps", number),
        (r"Reducing maxBytes to (\d+)", "reduced_max_bytes", int),
    ):
        match = re.search(pattern, line)
        if match:
            result[key] = convert(match.group(1))
    match = re.match(r"# (skipping json output.*|error: .*)", line)
    if match:
        result["problems"].append(match.group(1)[:300])


def _device(result, line):
    """Read a line of the list of devices; return whether it is one."""
    match = RANK.match(line)
    if match:
        rank, group, _pid, host, device, pci, name = match.groups()
        result["devices"].append(
            {"rank": int(rank), "group": int(group or 0), "host": host, "device": int(device), "pci": pci, "name": name.strip()}
        )
    elif re.match(r"#\s+Rank\s+\d+\s+(?:Group|Pid)", line):
        result["problems"].append(DEVICE_LINE + line[:120])
    else:
        return False
    return True


def _bounds(result, line):
    """Read the line on values out of bounds; return whether it is one. A cut one says nothing, also not that values are bad."""
    if "Out of bounds" not in line:
        return False
    match = BOUNDS.match(line)
    if match:
        wrong, before = int(match.group(1)), result["out_of_bounds"] or {"count": 0, "ok": True}
        result["out_of_bounds"] = {"count": wrong + before["count"], "ok": match.group(2) == "OK" and not wrong and before["ok"]}
    else:
        result["problems"].append("the line on values out of bounds is not whole: %s" % line[:120])
    return True


def json_path(text):
    """Return the file that the JSON was really written to: an existing one is never overwritten (``file.0``, ``file.1``)."""
    match = re.search(r"# Writing JSON output to (.+)", text)
    return match.group(1).strip() if match else None


def load_json(text):
    """Return the document in a JSON output. An infinite bandwidth is printed as ``inf``, which is no JSON: null here."""
    try:
        return json.loads(text)
    except ValueError:
        return json.loads(re.sub(r"(?<=[:\[,])\s*-?(?:inf|nan)(?=\s*[,}\]])", "null", text))


def scrubbed(document):
    """Return the document without the environment, which nccl-tests dump whole, tokens included, and without secrets elsewhere."""
    return _clean({key: value for key, value in document.items() if key not in ("env", "environment")})


def _clean(value):
    if isinstance(value, dict):
        return {key: _clean(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_clean(item) for item in value]
    return scrub_text(value) if isinstance(value, str) else value


def _json_placement(item, timed):
    if not isinstance(item, dict):
        return None
    timed = timed if isinstance(timed, dict) else {}
    times = timed.get("times_us")
    times = [number(value) for value in times] if isinstance(times, list) else []
    skipped = max(count(timed.get("skipped_iterations")) or 0, 0)
    return {
        "time_us": number(item.get("time", item.get("cpu_time"))),
        "algbw_gbps": number(item.get("alg_bw")),
        "busbw_gbps": number(item.get("bus_bw")),
        "wrong": count(item.get("nwrong")),
        "times_us": [value for value in times[skipped:] if value is not None] or None,
    }


def truth(value):
    """Return a boolean that was printed as one or as a string."""
    return value is True or str(value).lower() == "true"


def _dict(value):
    return value if isinstance(value, dict) else {}


def _dicts(value):
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def parse_json(document):
    """Return the result in a JSON document of any schema so far."""
    if not isinstance(document, dict):
        result = empty("json")
        result["problems"].append("the JSON is no object")
        return result
    result = empty(f"json/{document.get('version')}")
    config = _dict(document.get("config"))
    if document.get("version") not in (1, 2, 3):
        result["problems"].append(f"JSON schema {document.get('version')} is not known: read as schema 3")
    args = document.get("args")
    result.update(
        nccl_version=release(document.get("nccl_version")),
        program=str(args[0]).rpartition("/")[2] or None if isinstance(args, list) and args else None,
        iterations=count(config.get("iterations")),
        warmup_iterations=count(config.get("warmup_iters")),
        validation=count(config.get("validation")),
        graph=count(config.get("graph")),
        devices_per_process=max((count(config.get("ngpus")) or 1) * (count(config.get("nthreads")) or 1), 1),
        devices=[
            {"rank": count(item.get("rank")), "group": item.get("group"), "host": item.get("hostname"), "device": item.get("device"),
             "pci": item.get("device_hex"), "name": item.get("device_info")}
            for item in _dicts(config.get("devices"))
        ],
    )  # fmt: skip
    for item in _dicts(document.get("results")):
        _json_row(result, item)
    bounds = document.get("out_of_bounds")
    if isinstance(bounds, dict):
        result["out_of_bounds"] = {"count": count(bounds.get("count")), "ok": truth(bounds.get("okay")) and not count(bounds.get("count"))}
    average = _dict(document.get("average_bus_bandwidth") or document.get("average_bus_bandwidith"))
    result["avg_busbw_gbps"] = number(average.get("bandwidth", average.get("bandwidith")))
    errors = document.get("errors")
    result["problems"] += [f"error: {text}" for text in errors if text] if isinstance(errors, list) else []
    return result


def _json_row(result, item):
    """Take a row of the JSON; one without a size, or with neither half, is a problem and no row."""
    row = {"size_bytes": count(item.get("size")), "count": count(item.get("count")), "type": item.get("type")}
    row.update(redop=item.get("redop"), root=count(item.get("root")))
    row.update({name: _json_placement(item.get(name), item.get(name + "_per_iter")) for name in PLACEMENTS})
    halves = [row[name] for name in PLACEMENTS if row[name]]
    if row["size_bytes"] is None or not halves or any(half["time_us"] is None for half in halves):
        result["problems"].append(f"a row of the JSON ({item.get('size')} bytes) has no size, no placement or no time")
    else:
        result["rows"].append(row)


def combined(text, document):
    """Return one result of a run's text and JSON (None where there was none): the JSON's numbers, which are exact.

    A text with other sizes than the JSON is a problem: one of the two is not of this run, or not whole. But rows that other words
    cut to pieces in the text take nothing from the JSON. The list of devices is the longer one: nccl-tests put only the first
    device of each process into the JSON (2.19.6 with ``-g 2``).
    """
    printed = parse_text(text)
    if document is None:
        return printed
    exact = parse_json(document)
    sizes = [sorted(row["size_bytes"] for row in result["rows"]) for result in (printed, exact)]
    torn = bool(printed["row_problems"]) and not [size for size in sizes[0] if size not in sizes[1]]
    if sizes[0] != sizes[1] and not torn:
        exact["problems"].append(f"the text has {len(sizes[0])} rows, the JSON {len(sizes[1])}")
    for key in ("tests_version", "reduced_max_bytes", "warnings"):
        exact[key] = printed[key]
    for key in ("out_of_bounds", "graph"):
        exact[key] = exact[key] or printed[key]
    if len(printed["devices"]) > len(exact["devices"]):
        exact.update(devices=printed["devices"], devices_from="text", devices_listed=len(exact["devices"]))
    if printed["out_of_bounds"] and not printed["out_of_bounds"]["ok"]:
        exact["out_of_bounds"] = printed["out_of_bounds"]
    ignored = set(exact["problems"]) | (set(printed["row_problems"]) if torn else set())
    exact["problems"] += [problem for problem in printed["problems"] if problem not in ignored]
    return exact


def supported(usage):
    """Return the option letters in the text of ``-h``: older tests print their usage and exit 0 at one they do not know."""
    return set(re.findall(r"\[-(\w),--", usage))
