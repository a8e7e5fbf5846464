"""What must stop a run before anything is touched."""

from __future__ import annotations

import re

import pytest
import yaml
from action_run import run_action
from ansible.module_utils.plumbline.controller import preflight
from module_run import run_module
from project import ROOT

NODES = [{"name": f"lab{number}", "address": f"10.98.0.{number}", "port": 22} for number in (1, 2, 3)]
GOOD = {"name": "pp2_across", "tp": 1, "pp": 2, "nodes": 2, "executor": "ray"}


def test_good_inventory_and_layouts_have_no_problem():
    assert preflight.inventory_problems(NODES, 3) == []
    assert preflight.inventory_problems(NODES) == []
    layouts = [
        GOOD,
        {"name": "tp8", "tp": 8, "pp": 1, "nodes": 1, "executor": "mp", "extra_args": ["--enforce-eager"], "env": {}},
    ]
    assert preflight.layout_problems(layouts, 3) == []
    assert preflight.layout_problems([], 3) == []


@pytest.mark.parametrize(
    ("nodes", "expected", "words"),
    [
        ([], 0, ["'nodes' is empty", "make lab", "-i"]),
        (NODES[:2], 3, ["2 nodes (lab1, lab2)", "preflight_expected_nodes is 3", "azure_rm"]),
        (NODES, 2, ["3 nodes", "is 2"]),
        ([NODES[0], dict(NODES[1], address="10.98.0.1")], 0, ["lab1 and lab2 share the address 10.98.0.1"]),
        ([{"name": "a", "address": None}, {"name": "b", "address": "a"}], 0, ["a and b share"]),
    ],
)
def test_wrong_inventory(nodes, expected, words):
    found = preflight.inventory_problems(nodes, expected)
    assert len(found) == 1
    assert all(word in found[0] for word in words)


def test_more_nodes_than_expected_does_not_blame_azure():
    assert "azure" not in preflight.inventory_problems(NODES, 2)[0]


def test_one_address_with_two_ports_is_two_machines():
    assert preflight.inventory_problems([NODES[0], dict(NODES[1], address="10.98.0.1", port=2222)]) == []


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"name": "TP-2"}, ["'TP-2'", "a-z"]),
        ({"name": None}, ["name missing"]),
        ({"tp": 0}, ["tp is 0", "at least 1"]),
        ({"tp": "2"}, ["tp is '2'", "whole number"]),
        ({"pp": True}, ["pp is True"]),
        ({"tp": 3, "pp": 1}, ["tp 3 × pp 1", "2 nodes"]),
        ({"nodes": 4, "pp": 4}, ["needs 4 nodes, the inventory has 3"]),
        ({"executor": "mpi"}, ["'mpi'", "ray or mp"]),
        ({"exectuor": "ray"}, ["'exectuor'", "did you mean executor?"]),
        ({"zzz": 1}, ["unknown key 'zzz'", "expected env, executor"]),
        ({"extra_args": "--x"}, ["extra_args is '--x'", "a list"]),
        ({"extra_args": ["--hf-overrides", {"a": 1}]}, ["extra_args[1] is {'a': 1}", "JSON goes into quotes"]),
        ({"extra_args": [None]}, ["extra_args[0] is None", "expected a text"]),
        ({"extra_args": ["--dtype float32"]}, ["extra_args[0] is '--dtype float32'", "two items"]),
        ({"env": ["A=b"]}, ["env is ['A=b']", "a mapping"]),
        ({"env": {"VLLM_PP_LAYER_PARTITION": [40, 40]}}, ["VLLM_PP_LAYER_PARTITION is [40, 40]", "expected a text"]),
        ({"env": {"A": None}}, ["env: A is None"]),
        ({"env": {7: "b"}}, ["env has 7"]),
        ({"name": 7}, ["name 7"]),
    ],
)
def test_wrong_layout(change, words):
    found = preflight.layout_problems([dict(GOOD, **change)], 3)
    assert len(found) == 1
    assert "vllm_serve_layouts[0]" in found[0]
    assert all(word in found[0] for word in words)


def test_all_problems_are_found_at_once():
    layouts = [GOOD, GOOD, {"name": "x", "tp": 1}, "tp1"]
    found = preflight.layout_problems(layouts, 1)
    assert len(found) == 5
    assert sum("needs 2 nodes" in text for text in found) == 2
    assert any("'pp2_across' is used 2 times" in text for text in found)
    assert any("pp, nodes, executor missing" in text for text in found)
    assert any("vllm_serve_layouts[3] is str" in text for text in found)
    assert preflight.layout_problems({"name": "x"}, 1) == ["vllm_serve_layouts is dict, expected a list of layouts"]


def test_numbers_and_texts_that_a_layout_may_have():
    sound = dict(
        GOOD, extra_args=["--max-model-len", 4096, "--hf-overrides", '{"a": "b c"}', '--hf-overrides={"a": "b c"}'], env={"A": 1, "B": True}
    )
    assert preflight.layout_problems([sound], 3) == []


@pytest.mark.parametrize("port", ["ssh", [22], True, "22 22"])
def test_a_port_that_is_none_is_a_sentence(port):
    (said,) = preflight.inventory_problems([dict(NODES[0], port=port)])
    assert "lab1: ansible_port is %r" % (port,) in said


def test_an_image_that_is_a_number_is_a_sentence():
    (said,) = preflight.image_problems("docker", 20260101, "missing")
    assert "20260101" in said and "quotes" in said


def test_packages():
    assert preflight.package_problems(["json", "jsonschema"], "python3") == []
    found = preflight.package_problems(["json", "no_such_package", "no.such.package"], "/venv/bin/python3")
    assert len(found) == 1
    assert "lacks no_such_package, no.such.package" in found[0] and "/venv/bin/python3 -m pip install" in found[0]


@pytest.mark.parametrize(
    ("runtime", "asked", "skipped", "lacking"),
    [
        ("docker", [], [], True),
        ("docker", ["all"], [], True),
        ("docker", ["validate", "serve"], [], True),
        ("docker", ["validate"], [], False),
        ("docker", [], ["serve"], False),
        ("host", [], [], False),
        ("", [], [], False),
    ],
)
def test_containers_need_their_collection_where_the_run_serves(runtime, asked, skipped, lacking, monkeypatch):
    assert preflight.container_problems(runtime, asked, skipped) == []  # the project's environment brings it
    monkeypatch.setattr(preflight, "lacks", lambda name: name == "ansible_collections.community.docker")
    found = preflight.container_problems(runtime, asked, skipped)
    assert len(found) == lacking and all("ansible-galaxy collection install -r" in text for text in found)


def given(nodes, **variables):
    """Return task variables as Ansible has them on localhost; ``variables`` are the nodes'."""
    hostvars = {node["name"]: {"ansible_host": node["address"], **variables} for node in nodes}
    return {"groups": {"nodes": [node["name"] for node in nodes]}, "hostvars": hostvars}


def test_action_fails_with_every_problem():
    good = run_action("preflight_check", {"expected_nodes": 3, "packages": ["json"]}, given(NODES, vllm_serve_layouts=[GOOD]))
    assert good["problems"] == [] and good["nodes"] == 3 and not good.get("failed")
    without = {"groups": {}, "hostvars": {}, "vllm_serve_layouts": [dict(GOOD, executor="x")]}
    bad = run_action("preflight_check", {"packages": ["no_such_package"]}, without)
    assert bad["failed"] and len(bad["problems"]) == 3
    assert all(text in bad["msg"] for text in bad["problems"])


def test_action_reads_what_the_nodes_say_of_their_number_and_of_packages():
    """The role runs for localhost, where variables of the group nodes are not seen."""
    bad = run_action("preflight_check", {"packages": ["json"]}, given(NODES, preflight_expected_nodes="4", preflight_packages=["no_such"]))
    assert len(bad["problems"]) == 2
    assert "preflight_expected_nodes is 4" in bad["problems"][0] and "lacks no_such:" in bad["problems"][1]
    assert run_action("preflight_check", {"expected_nodes": 3}, given(NODES, preflight_expected_nodes=4))["problems"] == []
    assert run_action("preflight_check", {"checks": ["variables"]}, given(NODES, preflight_expected_nodes=4))["problems"] == []


def test_null_in_layouts_is_a_sentence():
    assert preflight.layout_problems(None, 3) == [
        "vllm_serve_layouts is null (nothing after the colon), expected a list of layouts; [] serves none"
    ]
    (said,) = preflight.layout_problems([GOOD, None], 3)
    assert said == "vllm_serve_layouts[1] is null (nothing after the dash), expected a mapping with name, tp, pp, nodes, executor"


def test_action_reads_addresses_and_the_image_off_the_nodes():
    twins = [NODES[0], dict(NODES[1], address=NODES[0]["address"])]
    bad = run_action("preflight_check", {}, given(twins, vllm_serve_runtime="docker"))
    assert bad["failed"] and len(bad["problems"]) == 2
    assert "share the address" in bad["problems"][0] and "vllm_serve_image is not set" in bad["problems"][1]
    wrong = run_action("preflight_check", {"expected": 3}, given(NODES))
    assert wrong["failed"] and "expected" in wrong["msg"]


def test_action_names_variables_that_nothing_reads_any_more():
    last = given(NODES)
    last["hostvars"]["lab3"]["node_health_sku"] = "standard_nd96isr_h100_v5"
    bad = run_action("preflight_check", {}, last)
    assert bad["failed"] and bad["problems"] == ["node_health_sku is no longer read: use sku_name (roles/sku/README.md)"]
    # Given on the command line, where there may be no node yet.
    without = {"groups": {}, "hostvars": {}, "fabric_baseline_link_sku": "x"}
    assert "fabric_baseline_link_sku is no longer read" in run_action("preflight_check", {}, without)["problems"][-1]


def test_node_python(capsys):
    import preflight_node

    assert run_module(preflight_node, capsys, python_min="3.9")["python_version"].startswith("3.")
    old = run_module(preflight_node, capsys, python_min="9.1")
    assert old["failed"] and "expected at least 9.1" in old["msg"] and "ansible_python_interpreter" in old["msg"]
    assert "expected a version" in run_module(preflight_node, capsys, python_min="three")["msg"]


def test_images_are_pinned_by_digest_or_on_the_nodes_already():
    digest = "vllm/vllm-openai@sha256:" + "0" * 64
    assert preflight.image_problems("host", "", "missing") == []
    assert preflight.image_problems("docker", digest, "missing") == []
    assert preflight.image_problems("docker", "sha256:" + "0" * 64, "missing") == []
    assert preflight.image_problems("docker", "plumbline/vllm-cpu:lab", "never") == []
    assert "not pinned" in preflight.image_problems("docker", "vllm/vllm-openai:latest", "missing")[0]
    assert "not set" in preflight.image_problems("docker", "", "never")[0]
    assert "podman" in preflight.image_problems("podman", digest, "missing")[0]


def test_a_removed_variable_names_its_successor():
    assert preflight.removed_variables(["ansible_host", "sku_name", "sku_overrides", "fabric_baseline_nccl_env"]) == []
    # Given for several nodes, it is told once.
    found = preflight.removed_variables(["node_health_sku", "fabric_baseline_nccl_thresholds", "node_health_sku"])
    assert len(found) == 2
    assert found[0].startswith("fabric_baseline_nccl_thresholds is no longer read: use sku_overrides: {<SKU>: {nccl: {thresholds:")
    assert found[1] == "node_health_sku is no longer read: use sku_name (roles/sku/README.md)"


def test_what_is_called_removed_is_read_by_no_role():
    defaults = [yaml.safe_load(path.read_text()) or {} for path in (ROOT / "roles").glob("*/defaults/main.yml")]
    assert set(preflight.REMOVED).isdisjoint(set().union(*defaults))
    text = "".join(path.read_text() for folder in ("roles", "playbooks", "inventory") for path in (ROOT / folder).rglob("*.yml"))
    assert [name for name in preflight.REMOVED if re.search(r"\b%s\b" % name, text)] == []
    # Each successor is a variable of today.
    now = set().union(*defaults)
    assert {re.match(r"\w+", successor).group() for successor in preflight.REMOVED.values()} <= now
