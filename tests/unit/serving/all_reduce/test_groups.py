"""Which groups the layouts make: as vLLM numbers its ranks."""

from __future__ import annotations

import pytest
from ansible.module_utils.plumbline.serving.all_reduce import groups


def layout(name, tp, pp=1, nodes=1, executor="mp", **more):
    return {"name": name, "tp": tp, "pp": pp, "nodes": nodes, "executor": executor, **more}


def shapes(layouts, **more):
    return [(item["tp"], item["nodes"], item["ranks_per_node"], item["used_by"], item["custom"]) for item in groups.groups(layouts, **more)]


@pytest.mark.parametrize(
    ("one", "expected"),
    [
        (layout("a", 8), (8, 1, 8, 1, True)),
        (layout("b", 16, nodes=2, executor="ray"), (16, 2, 8, 2, True)),
        # A pipeline stage on each node: its group stays within, and both nodes have one. vLLM disables its kernel over nodes by itself.
        (layout("c", 8, 2, 2, executor="ray"), (8, 1, 8, 2, True)),
        (layout("c", 8, 2, 2), (8, 1, 8, 2, False)),
        (layout("d", 4, 2, 4, executor="ray"), (4, 2, 2, 2, True)),
        (layout("e", 2, nodes=2, executor="ray"), (2, 2, 1, 2, True)),
        (layout("f", "2"), (2, 1, 2, 1, True)),
        (layout("g", 2, extra_args=["--enforce-eager", "--disable-custom-all-reduce"]), (2, 1, 2, 1, False)),
    ],
)
def test_a_layouts_group(one, expected):
    assert shapes([one]) == [expected]


def test_layouts_without_a_group_and_what_is_no_layout_are_left_out():
    assert groups.groups([layout("a", 1), layout("b", 1, 2, 2), {"name": "c"}, layout("d", "many"), layout("e", 2, extra_args=7)]) == []


def test_layouts_with_the_same_group_are_measured_once_and_those_over_nodes_first():
    found = groups.groups(
        [
            layout("tp2", 2),
            layout("pp2", 2, 2, 2, executor="ray"),
            layout("across", 2, nodes=2, executor="ray"),
            layout("other", 2, env={"NCCL_PROTO": "LL", "VLLM_LOGGING_LEVEL": "DEBUG"}),
            layout("logs", 2, env={"VLLM_LOGGING_LEVEL": "DEBUG"}),
        ]
    )
    assert [(item["nodes"], item["layouts"]) for item in found] == [(2, ["across"]), (1, ["other"]), (1, ["tp2", "pp2", "logs"])]
    assert found[1]["env"] == {"NCCL_PROTO": "LL"} and found[2]["used_by"] == 2, "the pipeline's second stage is on the second node"
    assert [len(groups.of_node(found, rank)) for rank in (0, 1, 2)] == [3, 2, 0]


def test_arguments_of_all_layouts_count():
    assert shapes([layout("a", 2)], extra_args=["--disable-custom-all-reduce"]) == [(2, 1, 2, 1, False)]
    (one,) = groups.groups([layout("a", 2)], ["--disable-custom-all-reduce"])
    assert groups.named(one) == "TP2 on 1 node without the custom kernel"
