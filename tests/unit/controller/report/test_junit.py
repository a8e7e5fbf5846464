"""JUnit XML: a case for each verdict, in the shape of junit-10.xsd of Jenkins' xUnit plugin, whatever the texts hold."""

from __future__ import annotations

import xml.etree.ElementTree as ET

import pytest
from ansible.module_utils.plumbline.controller.report.junit import junit
from ansible.module_utils.plumbline.controller.report.verdicts import verdicts
from report_runs import fact, health, pair, put, reason, whole_run

# Element -> (attributes that it must have, that it may have, elements in it), after junit-10.xsd.
SHAPE = {
    "testsuites": (set(), {"name", "time", "tests", "failures", "errors"}, {"testsuite"}),
    "testsuite": ({"name", "tests", "failures", "errors"}, {"time", "skipped", "timestamp", "hostname", "id", "package"}, {"testcase"}),
    "testcase": ({"name"}, {"time", "classname", "group"}, {"skipped", "error", "failure", "system-out", "system-err"}),
    "failure": (set(), {"type", "message"}, set()),
    "error": (set(), {"type", "message"}, set()),
    "skipped": (set(), {"type", "message"}, set()),
    "system-out": (set(), set(), set()),
}
CLOCKS = {"state": "reported", "boot_id": None, "driver": None}


def check(element):
    needed, allowed, inside = SHAPE[element.tag]
    assert needed <= set(element.keys()) <= needed | allowed, element.tag
    for child in element:
        assert child.tag in inside, (element.tag, child.tag)
        check(child)


@pytest.fixture
def made(records):
    def make(files):
        found = records(files)
        root = ET.fromstring(junit(found, verdicts(found)))
        check(root)
        return root, {(case.get("classname"), case.get("name")): case for case in root.iter("testcase")}

    return make


def test_a_good_run_has_a_passed_case_for_each_node_and_layout(made):
    root, cases = made(whole_run())
    assert len(cases) == 7 and all(len(case) == 0 for case in cases.values())
    assert ("plumbline.node", "node3") in cases and ("plumbline.layout", "tp2_across") in cases
    assert (root.get("tests"), root.get("failures"), root.get("errors")) == ("7", "0", "0")
    assert root[0].get("timestamp") == "2026-11-24T12:00:00"


def test_each_verdict_is_what_it_is(made):
    files = whole_run()
    put(files, "node1", health("degraded", [reason("host.governor", "degraded", "powersave", "performance", "set it")]))
    put(files, "node2", health("failed", [reason("disk.free", "failed", "0.4 GiB", "at least 5 GiB", "Remove logs.")]))
    put(files, "node3", health("incomplete", [reason("nhc", "incomplete", "no answer")]))
    root, cases = made(files)
    failure = cases["plumbline.node", "node2"].find("failure")
    assert failure.get("message") == "disk.free: 0.4 GiB (expected at least 5 GiB)" and "→ Remove logs." in failure.text
    assert cases["plumbline.node", "node3"].find("error").get("message") == "nhc: no answer"
    assert "powersave" in cases["plumbline.node", "node1"].find("system-out").text and len(cases["plumbline.node", "node1"]) == 1
    assert (root.get("failures"), root.get("errors")) == ("1", "1")


def test_what_several_missed_together_is_a_case_of_the_run(made):
    files = whole_run()
    put(files, "node1", pair("node1", "node2", 1, None))
    _root, cases = made(files)
    assert cases["plumbline.link", "pair.node1.node2"].find("failure") is not None


def test_a_skipped_run_is_skipped(made):
    files = {"run.json": {"run_id": "x", "hosts": ["n1"], "tags": ["preflight"]}}
    put(files, "n1", fact("clocks", "node", "skipped", context=CLOCKS, reasons=[reason("gpu", "skipped", "no GPU")]))
    _root, cases = made(files)
    assert cases["plumbline.node", "n1"].find("skipped").get("message") == "gpu: no GPU"


def test_any_text_makes_well_formed_xml(made):
    evil = '</failure><x a="1"> & \x00 \x1b[31m \ud800 ]]> \ufffe'
    files = whole_run()
    put(files, "node2", health("failed", [reason(evil, "failed", evil, evil, evil)]))
    _root, cases = made(files)
    assert '</failure><x a="1"> &' in cases["plumbline.node", "node2"].find("failure").text
