"""The verdicts as JUnit XML, which Azure DevOps, GitHub's reporters, GitLab and Jenkins show: a test case for each. Standard library only.

Elements and their order are those of the schema that Jenkins' xUnit plugin validates with (jenkinsci/xunit-plugin, junit-10.xsd).
``failed`` is a failure. ``incomplete`` is an error: the test could not say. ``skipped`` is skipped, and ``degraded`` passes with its reason
in ``system-out``.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET

from ...core.fact import PASSING, headline, sentence
from .records.reading import get, num

# What XML 1.0 has no way to write (its production [2], Char).
NO_CHARACTER = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
ELEMENTS = {"failed": "failure", "incomplete": "error"}


def junit(records, found):
    """Return the file as bytes: a suite of nodes, one of layouts, and one of what the run as a whole missed."""
    run, facts = records.data["run"], records.data["facts"]
    took = {}
    for entry in facts:
        took[entry["host"]] = took.get(entry["host"], 0) + (num(get(entry["fact"], "duration_s")) or 0)
    suites = [
        ("nodes", [_case("node", name, verdict, took.get(name, 0)) for name, verdict in found["nodes"].items()]),
        ("layouts", [_case("layout", name, verdict, 0) for name, verdict in found["layouts"].items()]),
        ("run", [_of_run(item) for item in found["failed"] if item["what"] not in ("node", "layout")]),
    ]
    root = ET.Element("testsuites", name=_text("Plumbline %s" % run["run_id"]))
    for name, cases in suites:
        if cases:
            root.append(_suite(name, cases, run))
    for key in ("tests", "failures", "errors"):
        root.set(key, str(sum(int(suite.get(key)) for suite in root)))
    ET.indent(root, " ")
    return ET.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n"


def _suite(name, cases, run):
    counts = {key: sum(case.find(element) is not None for case in cases) for key, element in (
        ("failures", "failure"), ("errors", "error"), ("skipped", "skipped"),
    )}  # fmt: skip
    suite = ET.Element("testsuite", name="plumbline.%s" % name, tests=str(len(cases)), **{key: str(value) for key, value in counts.items()})
    started = re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", str(run["started_at"] or ""))
    suite.set("time", "%.3f" % sum(float(case.get("time")) for case in cases))
    if started:
        suite.set("timestamp", started.group())
    suite.extend(cases)
    return suite


def _case(what, name, verdict, seconds):
    case = ET.Element("testcase", classname="plumbline.%s" % what, name=_text(name), time="%.3f" % seconds)
    status, said = verdict["status"], headline(verdict, "no reason was recorded")
    reasons = [item for item in verdict["reasons"] if item["status"] not in ("healthy", "skipped")]
    lines = "\n".join("%s: %s%s" % (item["status"], sentence(item), " → %s" % item["remedy"] if item["remedy"] else "") for item in reasons)
    if status in ELEMENTS:
        _problem(case, status, said, lines)
    elif status == "skipped":
        ET.SubElement(case, "skipped", message=_text(said))
    elif status in PASSING and lines:
        ET.SubElement(case, "system-out").text = _text(lines)
    return case


def _of_run(item):
    case = ET.Element("testcase", classname="plumbline.%s" % item["what"], name=_text(item["name"]), time="0.000")
    _problem(case, item["status"], item["why"], item["why"] + (" → %s" % item["remedy"] if item["remedy"] else ""))
    return case


def _problem(case, status, message, lines):
    ET.SubElement(case, ELEMENTS[status], type=status, message=_text(" ".join(message.split()))).text = _text(lines)


def _text(value):
    """Return text without the characters that XML cannot hold."""
    return NO_CHARACTER.sub("\ufffd", str(value))
