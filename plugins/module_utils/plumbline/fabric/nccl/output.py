"""What nccl-tests print, as text and as JSON (``-J``, since 2.17.3), in one shape.

Known formats: text of 2.13 to 2.19.6 (13 columns; ``-S 1`` adds a date and a time, ``-I 1`` four columns for each
placement; ``-c 0`` and in-place sendrecv print ``N/A`` for ``#wrong``; since 2.17 large numbers shrink to ``2e+06``),
JSON schemas 1 (with ``average_bus_bandwidith``/``bandwidith`` before 2.17.9), 2 and 3, in which booleans and ``root``
are strings. Read off https://github.com/NVIDIA/nccl-tests, src/util.cu and src/common.cu.

A result is ``{"format", "tests_version", "nccl_version", "program", "iterations", "warmup_iterations", "validation",
"devices", "rows", "out_of_bounds", "avg_busbw_gbps", "reduced_max_bytes", "problems"}``; a row is ``{"size_bytes",
"count", "type", "redop", "root", "out_of_place", "in_place"}``, a placement ``{"time_us", "algbw_gbps", "busbw_gbps",
"wrong", "times_us"}`` or None. Times are µs, bandwidths 10^9 bytes/s; ``wrong`` is None where nothing was checked.
``avg_busbw_gbps`` averages all sizes and both placements: it says nothing about a link and gates nothing.
"""

from __future__ import annotations

import json
import math
import re

from ...core.scrub import scrub_text

PLACEMENTS = ("out_of_place", "in_place")

# One NCCL log line: host:pid:tid [device] NCCL INFO ..., or since 2.27 with a timestamp in front of it.
LOG = r"(?:\[[\d-]+ [\d:.]+\] )?%s:\d+:\d+ (?:\[-?\d+\] )?(?:\S+:\d+ (?:\(\w+\) )?)?NCCL (?:INFO|WARN|CALL|TRACE|ABORT|VERSION)[^\n]*\n?"
RANK = re.compile(r"^#\s+Rank\s+(\d+)\s+(?:Group\s+(\d+)\s+)?Pid\s+(\d+) on\s+(\S+) device\s+(\d+) \[([^\]]*)\] (.*)$")
TAG = re.compile(r"^\[\d+,\d+\](?:<\w+>)?:\s?", re.M)  # mpirun --tag-output
ROW = re.compile(r"^\s*(\d+)\s+(\d+)\s+([a-z]\w*)\s+(\S+)\s+(.*)$")
SETTINGS = re.compile(r"warmup iters: (\d+) iters: (\d+) agg iters: (\d+) validation: (\d+)")


def number(text):
    """Return a printed number, None for what is none (``N/A``, ``nan``, ``inf``, missing)."""
    try:
        value = float(text)
    except (TypeError, ValueError):
        return None
    return value if math.isfinite(value) else None


def count(value):
    """Return a count that was printed as text, as a float, or as ``2e+06``; None where nothing was counted."""
    value = number(value)
    return None if value is None else int(value)


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
    }  # fmt: skip


def without_log(text):
    """Return the text without NCCL's log lines, and rows whole again that a log line cut in two.

    A row's first columns are printed before the measurement: what NCCL logs meanwhile lands behind them, on the same
    line. The rest of the row follows the log. A host name that starts with a digit would run into ``root``, so names
    that the tests themselves print are taken exactly.
    """
    hosts = sorted({match.group(4) for line in text.splitlines() for match in [RANK.match(TAG.sub("", line))] if match}, key=len)
    for host in reversed(hosts):
        text = re.sub(LOG % re.escape(host), "", text)
    return re.sub(LOG % r"[A-Za-z_][\w.-]*", "", text)


def _placement(tokens, timed):
    return {
        "time_us": number(tokens[0]),
        "algbw_gbps": number(tokens[1]),
        "busbw_gbps": number(tokens[2]),
        "wrong": count(tokens[3]),
        "times_us": None,
        **({"min_us": number(tokens[4]), "max_us": number(tokens[5]), "p99_us": number(tokens[6])} if timed else {}),
    }


def _row(match):
    """Return one row of the table, or None when its columns are not known."""
    size, elements, kind, redop, rest = match.groups()
    tokens = rest.split()
    if len(tokens) >= 3 and re.match(r"\d{4}-\d\d-\d\d$", tokens[-2]) and re.match(r"\d\d:\d\d:\d\d$", tokens[-1]):
        tokens = tokens[:-2]  # -S 1
    if not re.match(r"-?\d+$", tokens[0]) or len(tokens) not in (5, 9, 17):
        return None
    root, body = int(tokens[0]), tokens[1:]
    width = 8 if len(body) == 16 else 4
    halves = [body[start : start + width] for start in range(0, len(body), width)]
    if any(number(half[0]) is None for half in halves):
        return None
    found = [_placement(half, width == 8) for half in halves]
    return {
        "size_bytes": int(size), "count": int(elements), "type": kind, "redop": redop, "root": root,
        # With one half only, the test measured in place alone.
        "out_of_place": found[0] if len(found) == 2 else None, "in_place": found[-1],
    }  # fmt: skip


def parse_text(text):
    """Return the result in the text that a test printed; what it does not know is in ``problems``."""
    result = empty("text")
    for line in without_log(TAG.sub("", text)).splitlines():
        comment = line.strip()
        if comment.startswith("#"):
            _comment(result, comment)
            continue
        if re.match(r"(skipping json|invalid option)", comment) or "Test NCCL failure" in line or "Test CUDA failure" in line:
            result["problems"].append(comment[:300])
            continue
        match = ROW.match(line)
        if match:
            row = _row(match)
            if row:
                result["rows"].append(row)
            else:
                result["problems"].append(f"a row with unknown columns: {comment[:200]}")
    return result


def _comment(result, line):
    """Read one line that starts with #."""
    match = RANK.match(line)
    if match:
        rank, group, pid, host, device, pci, name = match.groups()
        result["devices"].append(
            {"rank": int(rank), "group": int(group or 0), "host": host, "device": int(device), "pci": pci, "name": name.strip()}
        )
        return
    match = SETTINGS.search(line)
    if match:
        warmup, iterations, _aggregated, validation = map(int, match.groups())
        result.update(warmup_iterations=warmup, iterations=iterations, validation=validation)
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
    match = re.search(r"Out of bounds values\s*: (\d+) (\S+)", line)
    if match:
        result["out_of_bounds"] = {"count": int(match.group(1)), "ok": match.group(2) == "OK"}
    match = re.match(r"# (skipping json output.*|error: .*)", line)
    if match:
        result["problems"].append(match.group(1)[:300])


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
    times = [number(value) for value in timed.get("times_us") or []]
    skipped = count(timed.get("skipped_iterations")) or 0
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


def parse_json(document):
    """Return the result in a JSON document of any schema so far."""
    result = empty(f"json/{document.get('version')}")
    config = document.get("config") or {}
    if document.get("version") not in (1, 2, 3):
        result["problems"].append(f"JSON schema {document.get('version')} is not known: read as schema 3")
    args = document.get("args") or [""]
    result.update(
        nccl_version=release(document.get("nccl_version")),
        program=str(args[0]).rpartition("/")[2] or None,
        iterations=config.get("iterations"),
        warmup_iterations=config.get("warmup_iters"),
        validation=config.get("validation"),
        devices=[
            {"rank": item.get("rank"), "group": item.get("group"), "host": item.get("hostname"), "device": item.get("device"),
             "pci": item.get("device_hex"), "name": item.get("device_info")}
            for item in config.get("devices") or []
        ],
    )  # fmt: skip
    for item in document.get("results") or []:
        row = {"size_bytes": count(item.get("size")), "count": count(item.get("count")), "type": item.get("type")}
        row.update(redop=item.get("redop"), root=count(item.get("root")))
        row.update({name: _json_placement(item.get(name), item.get(name + "_per_iter")) for name in PLACEMENTS})
        result["rows"].append(row)
    bounds = document.get("out_of_bounds")
    if isinstance(bounds, dict):
        result["out_of_bounds"] = {"count": count(bounds.get("count")), "ok": truth(bounds.get("okay")) and not count(bounds.get("count"))}
    average = document.get("average_bus_bandwidth") or document.get("average_bus_bandwidith") or {}
    result["avg_busbw_gbps"] = number(average.get("bandwidth", average.get("bandwidith")))
    result["problems"] += [f"error: {text}" for text in document.get("errors") or [] if text]
    return result


def combined(text, document):
    """Return one result of a run's text and JSON (None where there was none): the JSON's numbers, which are exact.

    A text with other sizes than the JSON is a problem: one of the two is not of this run, or not whole.
    """
    printed = parse_text(text)
    if document is None:
        return printed
    exact = parse_json(document)
    sizes = [[row["size_bytes"] for row in result["rows"]] for result in (printed, exact)]
    if sizes[0] != sizes[1]:
        exact["problems"].append(f"the text has {len(sizes[0])} rows, the JSON {len(sizes[1])}")
    for key in ("tests_version", "reduced_max_bytes"):
        exact[key] = printed[key]
    for key in ("devices", "out_of_bounds"):
        exact[key] = exact[key] or printed[key]
    if printed["out_of_bounds"] and not printed["out_of_bounds"]["ok"]:
        exact["out_of_bounds"] = printed["out_of_bounds"]
    exact["problems"] += [problem for problem in printed["problems"] if problem not in exact["problems"]]
    return exact


def supported(usage):
    """Return the option letters in the text of ``-h``: older tests print their usage and exit 0 at one they do not know."""
    return set(re.findall(r"\[-(\w),--", usage))
