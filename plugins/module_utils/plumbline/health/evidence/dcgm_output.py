"""Reads what ``dcgmi diag -j`` printed, of DCGM 3 and of DCGM 4, into one shape. It judges nothing.

Both are read from DCGM's own source (NVIDIA/DCGM, ``dcgmi/Diag.cpp`` of v3.3.9 and of v4.0.0 to v4.6.0). What differs:

- DCGM 3 has ``DCGM GPU Diagnostic``, display names (``GPU Memory``), ``gpu_id`` as a text, ``version`` beside it, and ten deployment
  checks of the whole node, whose errors stand under ``warnings`` where all others have ``warning``.
- DCGM 4 has ``DCGM Diagnostic``, plugin names (``memory``), ``entity_group`` and ``entity_id``, ``version`` under ``metadata``, and for
  each test a ``test_summary`` with the errors of all entities.
- Either prints ``runtime_error`` instead of results where the diagnostic did not come to an end.
"""

from __future__ import annotations

import json
import re

ROOTS = {"DCGM GPU Diagnostic": 3, "DCGM Diagnostic": 4}
# Names of DCGM 3 and of older ones, after slug(), by the name of today.
OLDER_NAMES = {"gpu_memory": "memory", "eud_test": "eud", "cpu_eud_test": "cpu_eud", "blacklist": "denylist"}
WHOLE_NODE = None  # the GPU of a result that is of no GPU by itself


class UnreadableOutput(ValueError):
    """There is no whole answer in what was printed; the text says what there was."""


def parse(text):
    """Return the answer in ``text``; raise :class:`UnreadableOutput`.

    The answer is ``{"generation": 3 or 4, "version", "driver", "runtime_error", "tests", "info_count", "errors_count"}``, texts or
    None. ``tests`` is ``{name: {"results": [result], "errors": [error], "info": [text], "summary": status or None}}``. A result is
    ``{"gpu": id or None, "status", "errors", "info"}`` and an error ``{"code", "severity", "text"}``, numbers or None. ``gpu`` is DCGM's
    own number; results of processors are left out. A test's own ``errors`` repeat those of its results, and have those of none; its
    ``info`` is of none.
    """
    document = _document(text)
    name = next(name for name in ROOTS if name in document)
    found = {"generation": ROOTS[name], "tests": {}, "info_count": 0, "errors_count": 0}
    root = document[name] if isinstance(document[name], dict) else {}
    places = [place for place in (document.get("metadata"), root, document) if isinstance(place, dict)]
    for key, words in (("version", "version"), ("driver", "Driver Version Detected")):
        found[key] = next((place[words] for place in places if isinstance(place.get(words), str) and place[words]), None)
    error = root.get("runtime_error")
    found["runtime_error"] = " ".join(error.split()) if isinstance(error, str) else None if error is None else str(error)
    for category in _rows(root.get("test_categories")):
        for test in _rows(category.get("tests")):
            _add(found, test)
    return found


def _document(text):
    """Return the JSON object of a diagnostic: dcgmi may print a line before it."""
    begins = re.search(r"^[ \t]*\{", text, re.M)
    if not begins:
        raise UnreadableOutput("no JSON in it: %s" % tail(text) if text.strip() else "nothing was printed")
    try:
        document, _end = json.JSONDecoder().raw_decode(text[begins.start() :].lstrip())
    except (ValueError, RecursionError) as error:
        raise UnreadableOutput("JSON that does not come to its end (%s): %s" % (str(error)[:120], tail(text))) from error
    if not any(name in document for name in ROOTS):
        raise UnreadableOutput("JSON without %s" % " or ".join(map(repr, ROOTS)))
    return document


def tail(text, most=300):
    """Return the end of a text in one line."""
    return " ".join(text.split())[-most:]


def _rows(value):
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []


def name_of(text):
    """Return a test's name as this project has it: ``GPU Memory`` and ``memory`` are one."""
    name = re.sub(r"[^a-z0-9]+", "_", str(text).lower()).strip("_")
    return OLDER_NAMES.get(name, name)


def _add(found, test):
    into = found["tests"].setdefault(name_of(test.get("name", "")), {"results": [], "errors": [], "info": [], "summary": None})
    errors_count = 0
    for item in _rows(test.get("results")):
        result = _result(item)
        found["info_count"] += len(result["info"])
        errors_count += len(result["errors"])
        if result.pop("of_gpu"):
            into["results"].append(result)
    summary = test.get("test_summary") if isinstance(test.get("test_summary"), dict) else {}
    in_summary = _errors(summary.get("warnings"))
    into["errors"] += in_summary
    into["info"] += _texts(summary.get("info"))
    found["info_count"] += len(into["info"])
    # The summary repeats the errors of all entities, and has those of none.
    found["errors_count"] += max(errors_count, len(in_summary))
    if isinstance(summary.get("status"), str):
        into["summary"] = summary["status"]


def _result(item):
    """Return one result; ``of_gpu`` is false for an entity that is no GPU, a processor."""
    gpu, of_gpu = WHOLE_NODE, True
    if "gpu_id" in item:
        gpu = _number(item["gpu_id"])
    elif "entity_id" in item:
        of_gpu = str(item.get("entity_group", "GPU")).upper() == "GPU"
        gpu = _number(item["entity_id"])
    return {
        "gpu": gpu,
        "of_gpu": of_gpu,
        "status": str(item.get("status", "")),
        "errors": _errors(item.get("warnings")),
        "info": _texts(item.get("info")),
    }


def _texts(value):
    """Return messages: DCGM 3 has one text, DCGM 4 a list."""
    value = [value] if isinstance(value, str) else value if isinstance(value, list) else []
    return [" ".join(str(part).split()) for part in value]


def _errors(value):
    return [
        {
            "code": _number(item.get("error_id")),
            "severity": _number(item.get("error_severity")),
            "text": " ".join(str(item.get("warning", item.get("warnings", ""))).split()),
        }
        for item in _rows(value)
    ]


def _number(value):
    """Return a whole number that is not negative, also from a text; None for anything else."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value if 0 <= value < 2**31 else None
    return int(value) if isinstance(value, str) and re.fullmatch("[0-9]{1,9}", value) else None
