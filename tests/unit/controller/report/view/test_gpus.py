"""The table of GPUs: each of a few, the lowest and the highest of each node's, and of a fleet what is worth a look."""

from __future__ import annotations

import copy
import json

import pytest
from ansible.module_utils.plumbline.controller.report import render
from ansible.module_utils.plumbline.controller.report.data import load
from ansible.module_utils.plumbline.controller.report.view import gpus
from project import ROOT, SCHEMAS

RUN = ROOT / "docs/reference/h100x4/one_node"
FACT = json.loads((RUN / "facts/this_machine/gpu_baseline.gpus.json").read_text())


def of(host, factor=1.0, status="healthy"):
    """Return a loaded fact of four real H100s whose reads are changed by a factor."""
    fact = copy.deepcopy(FACT)
    for gpu in fact["measured"]["gpus"]:
        gpu["read_gbps"] *= factor
    return {"host": host, "kind": "gpu_baseline", "name": "gpus", "file": host, "fact": dict(fact, status=status), "problems": []}


def lines(*entries):
    return gpus.gpu_lines({"facts": list(entries)})


def test_each_of_four_gpus_has_its_line():
    found, left = lines(of("node1"))
    assert [row["name"] for row in found] == ["GPU %d, NVIDIA H100 80GB HBM3" % index for index in range(4)] and left is None
    assert found[1] == {
        "host": "node1", "status": None, "name": "GPU 1, NVIDIA H100 80GB HBM3", "read_gbps": "3,143", "copy_gbps": "3,030",
        "bf16_tflops": "688", "tflops_per_ghz": "499", "h2d_gbps": "43.3", "d2h_gbps": "55.1", "peers": "386 to 387",
    }  # fmt: skip


def test_of_many_gpus_each_node_has_a_line_with_the_lowest_and_the_highest():
    found, left = lines(*(of("node%d" % number) for number in range(5)))
    assert len(found) == 5 and left is None and found[0]["name"] == "4 × NVIDIA H100 80GB HBM3" and found[0]["status"] == "healthy"
    assert found[0]["read_gbps"] == "3,143" and found[0]["h2d_gbps"] == "43.3 to 55.0" and found[0]["peers"] == "386 to 389"


def test_of_a_fleet_the_bad_the_slowest_and_the_fastest_are_shown_and_the_rest_counted():
    found, left = lines(*(of("node%03d" % number, 1 - number / 1000) for number in range(100)), of("bad", status="failed"))
    names = [row["host"] for row in found]
    assert names[0] == "bad" and names[1:6] == ["node%03d" % number for number in (99, 98, 97, 96, 95)] and names[-1] == "node000"
    assert len(found) == 11 and left.startswith("90 nodes more passed")


@pytest.mark.parametrize("measured", [{}, {"gpus": []}, {"gpus": [{}], "peer_gbps": [None, "x"]}, {"gpus": "x"}])
def test_what_was_not_measured_is_no_number(measured):
    entry = dict(of("node1"), fact=dict(FACT, measured=measured))
    found, _left = lines(entry)
    assert all(value == gpus.MISSING for row in found for key, value in row.items() if key.endswith(("_gbps", "tflops", "ghz", "peers")))


def test_the_reports_of_a_real_run_have_the_table():
    data = load(str(RUN), str(SCHEMAS))
    assert len(gpus.gpu_lines(data)[0]) == 4
    files, _found = render.build(str(RUN), str(SCHEMAS), str(ROOT / "roles/report/templates"))
    assert "| this\\_machine | GPU 1, NVIDIA H100 80GB HBM3 | 3,143 |" in files["report.md"].decode()
    assert '<section id="gpus">' in files["report.html"].decode() and 'href="#gpus"' in files["report.html"].decode()
