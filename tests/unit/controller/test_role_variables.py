"""Values of the roles' variables, and names that are meant for one."""

from __future__ import annotations

import re

import pytest
from ansible.module_utils.plumbline.controller.host_values import Findings
from ansible.module_utils.plumbline.controller.role_variables import LISTS_IN_EXPRESSIONS, MAPPINGS_IN_EXPRESSIONS, Roles
from project import ROOT

ROLES = Roles()


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("fabric_baseline_nccl_tests", "false", "'false', expected auto, always or never"),
        ("fabric_baseline_nccl_tests", False, "False, expected auto, always or never"),
        ("vllm_serve_keep", "maybe", "'maybe', expected true or false"),
        ("vllm_serve_port", "eight", "'eight', expected a whole number"),
        ("gpu_clocks_mode", 2, "2, expected 0 or 1"),
        ("fabric_baseline_sizes", ["8", "a"], "expected a list of whole numbers"),
        ("vllm_serve_env", "TOKEN=x", "is a text, expected a mapping"),
        ("serve_benchmark_sweep", "1,4", "is a text, expected a list of whole numbers"),
        ("sku_overrides", None, "null (nothing after the colon), expected a mapping"),
        ("vllm_serve_model", None, "is null"),
        ("node_health_fleet_score_max", "high", "'high', expected a number"),
        ("gpu_clocks_mhz", 1980.5, "1980.5, expected a whole number"),
    ],
)
def test_a_value_that_does_not_fit_is_a_sentence(name, value, words):
    said = ROLES.fault(name, value)
    assert said.startswith(name + " is ") and words in said and "TOKEN=x" not in said


@pytest.mark.parametrize(
    ("name", "value"),
    [
        # Texts are all that -e name=value can give; roles and modules turn them into what they stand for.
        ("vllm_serve_keep", "false"),
        ("vllm_serve_keep", "True"),
        ("fabric_baseline_link", "no"),
        ("vllm_serve_port", "8000"),
        ("fabric_baseline_budget_s", "0.5"),
        ("gpu_clocks_mode", "1"),
        ("node_health_paths", "/,/data"),
        ("fabric_baseline_sizes", [8, "16"]),
        ("preflight_python_min", 3.9),
        # Where empty means something, null is as good.
        ("node_health_nvidia_smi", None),
        ("fabric_baseline_nccl_env", {"NCCL_PXN_DISABLE": None}),
        ("lab_docker", False),
    ],
)
def test_what_the_roles_take_is_accepted(name, value):
    assert ROLES.fault(name, value) is None


def test_every_default_that_is_no_template_is_accepted():
    for name, option in ROLES.specs.items():
        if "{{" not in str(option.get("default")):
            assert ROLES.fault(name, option.get("default")) is None, name


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("fabric_baseline_nccl_test", "did you mean fabric_baseline_nccl_tests?"),
        ("vllm_serve_layout_", "did you mean vllm_serve_layout"),
        ("serve_benchmark_zzzzzzzzzzzzzzz", "roles/serve_benchmark/defaults/main.yml"),
        ("plumbline_adress", "did you mean plumbline_address?"),
        ("plumbline_zzzzzzzz", "expected one of plumbline_address"),
        ("lab_node", "did you mean lab_nodes?"),
        ("sku_nam", "did you mean sku_name?"),
        ("preflight_expected_node", "did you mean preflight_expected_nodes?"),
        # The role's own name is misspelt.
        ("gpu_clock_mhz", "did you mean gpu_clocks_mhz?"),
        ("vlm_serve_layouts", "did you mean vllm_serve_layouts?"),
    ],
)
def test_a_name_that_nothing_reads_is_told_with_the_nearest(name, words):
    found = ROLES.misspelt({name, "ansible_host"})
    assert list(found) == [name] and words in found[name]


def test_names_of_others_and_our_own_are_left_alone():
    others = {"lab_location", "report_email", "sku_id", "model_path", "ansible_user", "cluster", "vault_token", "rack", "lab", "nodes"}
    own = {"node_health_result", "preflight_ping", "vllm_serve_startup", "plumbline_address", "vllm_serve_image_info", "__sku_known"}
    assert ROLES.misspelt(others | own | set(ROLES.specs) | {"node_health_sku"}) == {}


def test_the_same_on_many_nodes_is_one_line():
    nodes = ["n%02d" % number for number in range(64)]
    found = Findings(nodes)
    for node in ["localhost", *nodes]:
        found.add("everywhere", node)
    found.add("here", "n07")
    for node in nodes[:10]:
        found.add("some", node)
    found.add("controller", "localhost")
    assert found.lines() == [
        "everywhere (on all 64 nodes)",
        "here (on n07)",
        "some (on 10 of 64 nodes: n00, n01, n02, n03, n04, n05, n06, n07, …)",
        "controller",
    ]


def uses():
    """Yield ``(variable, type, before, after)`` for each place where a role or playbook names a variable of a role."""
    kinds = {name: option.get("type", "str") for name, option in ROLES.specs.items()}
    files = [path for folder in ("roles", "playbooks") for path in (ROOT / folder).rglob("*.yml") if path.parent.name != "meta"]
    for path in files:
        for line in path.read_text().splitlines():
            if line.lstrip().startswith("#"):
                continue
            for match in re.finditer(r"(?<![\w.'/-])([a-z_]+)\b(?!['\w]|:( |$))", line):
                if match.group() in kinds:
                    yield match.group(), kinds[match.group()], line[: match.start()], line[match.end() :]


def whole(before, after):
    """Tell whether the variable is all of an argument: the module then converts it."""
    return re.search(r'\w: "\{\{ $', before) and re.match(r"( \| default\(omit, true\))? \}\}\"", after)


def test_no_condition_takes_a_text_for_true():
    found = list(uses())
    assert len(found) > 200
    for name, kind, before, after in found:
        if kind == "bool" and not whole(before, after):
            assert after.startswith(" | bool"), (name, before, after)


def test_numbers_in_arithmetic_and_comparisons_are_numbers():
    for name, kind, before, after in uses():
        if kind in ("int", "float") and re.match(r"\s*[-+*/<>%]|\s*==", after):
            raise AssertionError((name, before, after))
        if kind in ("int", "float") and re.search(r"[-+*/<>%]\s*$|==\s*$", before):
            assert re.match(r" \| (int|float)", after), (name, before, after)


def test_lists_and_mappings_on_which_roles_work_themselves_are_not_taken_as_text():
    """A text would become a list of its letters there; modules make a list or a mapping of it."""
    loose = {"list": set(), "dict": set()}
    for name, kind, before, after in uses():
        if kind in loose and not whole(before, after) and "set_fact" not in before:
            loose[kind].add(name)
    # Layouts have rules of their own.
    assert loose["list"] - {"vllm_serve_layouts"} <= set(LISTS_IN_EXPRESSIONS)
    assert loose["dict"] <= set(MAPPINGS_IN_EXPRESSIONS)
