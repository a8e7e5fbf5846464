"""A node behind a slow link, among four: the group misses its threshold, the pairwise rounds name the node.

A lab of its own, with one node's link throttled by `tc tbf`; the collectives over two and four nodes are real (Gloo).
"""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema
import pytest
from referencing import Registry, Resource

ROOT = Path(__file__).resolve().parent.parent.parent
SLOW, RATE_GBIT_S = "labp3", 0.02
OTHERS = ["labp1", "labp2", "labp4"]
PAIR_BYTES = 2 * 2**20

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def lab4(tmp_path_factory, new_lab):
    """Four nodes at 1 Gbit/s, one of them at 20 Mbit/s."""
    rates = {SLOW: "20mbit"}
    with new_lab(tmp_path_factory.mktemp("labp"), name="labp", subnet="10.96.0.0/16", nodes=4, lab_node_link_rates=rates) as lab:
        yield lab


@pytest.fixture(scope="module")
def run(lab4):
    """The fabric phase over all four; a healthy group of this lab reaches more than twice the threshold."""
    return lab4.play(
        "site.yml", "--tags fabric", run_id="pairs",
        preflight_expected_nodes=4,
        vllm_serve_layouts=[{"name": "tp4_across", "tp": 4, "pp": 1, "nodes": 4, "executor": "ray"}],
        fabric_baseline_across_nodes=4,
        fabric_baseline_sizes=[8, 16384, PAIR_BYTES],
        fabric_baseline_pairwise_sizes=[8, PAIR_BYTES],
        fabric_baseline_min_busbw_gbps={"all_reduce.across": 0.05},
    )  # fmt: skip


def test_the_group_of_four_misses_its_threshold(run):
    assert run.status != 0
    fact = run.fact("labp1", "collective", "all_reduce.across")
    assert (fact["status"], fact["measured"]["nodes"], fact["measured"]["ranks"]) == ("failed", 4, 4)
    baseline = next(item for item in fact["reasons"] if item["check"] == "collective.baseline")
    assert baseline["status"] == "failed" and "0.05" in baseline["threshold"] and baseline["remedy"]
    values = next(item for item in fact["reasons"] if item["check"] == "collective.values")
    assert values["status"] == "healthy", "slow, and right"
    # What every link of a ring carries is what the slowest lets through.
    assert fact["measured"]["sweep"][-1]["busbw_gbps"] * 8 == pytest.approx(RATE_GBIT_S, rel=0.25)


def test_every_node_met_every_other_once_in_three_rounds(run):
    pairs = {key: fact for key, fact in run.facts().items() if key[1] == "link" and fact["name"].startswith("pair.")}
    assert len(pairs) == 6
    rounds = {}
    for (host, _kind, _name), fact in pairs.items():
        assert fact["status"] == "healthy", fact["reasons"]
        assert host == fact["context"]["nodes"][0] and len(set(fact["context"]["addresses"])) == 2
        rounds.setdefault(fact["context"]["round"], []).extend(fact["context"]["nodes"])
    assert {number: sorted(nodes) for number, nodes in rounds.items()} == dict.fromkeys((1, 2, 3), sorted([*OTHERS, SLOW]))
    for fact in pairs.values():
        measured = fact["measured"]
        assert measured["size_bytes"] == PAIR_BYTES and measured["latency_us"] > 0
        if SLOW in fact["context"]["nodes"]:
            assert measured["bandwidth_gbps"] * 8 == pytest.approx(RATE_GBIT_S, rel=0.25)
        else:
            assert measured["bandwidth_gbps"] * 8 > 10 * RATE_GBIT_S


def test_the_slow_node_is_named_and_the_others_are_not_accused(run):
    verdict = run.fact(SLOW, "link", "pairwise")
    assert verdict["status"] == "failed" and verdict["context"]["suspect"] is True
    reason = verdict["reasons"][0]
    assert SLOW in reason["seen"] and "GB/s" in reason["threshold"] and "tc qdisc" in reason["remedy"]
    assert verdict["measured"]["ratio"] < 0.1
    for node in OTHERS:
        fact = run.fact(node, "link", "pairwise")
        assert fact["status"] == "healthy", fact["reasons"]
    verdicts = run.document()["verdicts"]
    assert {name: item["status"] for name, item in verdicts["nodes"].items()} == {**dict.fromkeys(OTHERS, "healthy"), SLOW: "failed"}
    assert {(item["what"], item["name"]) for item in verdicts["failed"]} == {("node", SLOW), ("collective", "all_reduce.across")}


def test_the_slow_node_is_left_out_of_serving(run):
    selection = run.document("selection.json")
    assert selection["serving"] == OTHERS and SLOW in selection["excluded"]


def test_the_report_shows_who_it_is(run):
    finding = next(item for item in run.document()["findings"] if item["id"] == "fabric.suspect." + SLOW)
    assert finding["level"] == "warning" and SLOW in finding["claim"]
    html = (run.dir / "report.html").read_text()
    assert finding["claim"] in html and "Suspect: %s." % SLOW in html
    assert (run.dir / "plots" / "pairs_all_reduce.png").stat().st_size > 5000
    assert "plots/pairs_all_reduce.png" in (run.dir / "report.md").read_text()


def test_no_infiniband_is_said_and_not_passed(run):
    for node in [*OTHERS, SLOW]:
        fact = run.fact(node, "link", "ib")
        assert fact["status"] == "skipped" and fact["reasons"][0]["seen"] == "no InfiniBand"
        counted = run.fact(node, "link", "ib_counters")
        assert counted["status"] == "skipped" and counted["reasons"][0]["threshold"] == "no InfiniBand on this SKU"


def test_the_links_facts_are_valid(run):
    schemas = {path.name: json.loads(path.read_text()) for path in (ROOT / "docs/schema").glob("*.json")}
    resources = [(name, Resource.from_contents(schema)) for name, schema in schemas.items()]
    resources += [(schema["$id"], Resource.from_contents(schema)) for schema in schemas.values()]
    # A $ref without a scheme is resolved against the schema's own id: plumbline.link/ + the file's name.
    resources += [("plumbline.link/" + name, resource) for name, resource in resources[: len(schemas)]]
    registry = Registry().with_resources(resources)
    checked = 0
    for (_host, kind, _name), fact in run.facts().items():
        if kind == "link":
            jsonschema.Draft202012Validator(schemas["link.schema.json"], registry=registry).validate(fact)
            checked += 1
    assert checked == 6 + 4 + 4 + 4  # pairs, verdicts on nodes, ports, and the counters of ports
