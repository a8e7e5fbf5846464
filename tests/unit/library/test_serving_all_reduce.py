"""The module against a mock of torchrun, which exists in these tests only: it writes what ranks write, and measures nothing."""

from __future__ import annotations

import json

import pytest
from ansible.module_utils.testing import patch_module_args
from jsonschema import Draft202012Validator
from project import ROOT

FACT = json.loads((ROOT / "docs/schema/fact.schema.json").read_text())
SCHEMA = json.loads((ROOT / "docs/schema/collective.schema.json").read_text())

MOCK = r"""#!/usr/bin/env python3
# A mock of torchrun: writes the state that mood.json says for every rank of this node.
import json, os, pathlib, sys, time
here = pathlib.Path(__file__).parent
mood = json.loads((here / "mood.json").read_text())
with open(here / "calls", "a") as calls:
    calls.write(json.dumps({"argv": sys.argv[1:], "env": dict(os.environ), "files": sorted(os.listdir("."))}) + "\n")
given = dict(item.split("=", 1) for item in sys.argv[1:] if "=" in item)
if mood.get("hangs"):
    time.sleep(300)
samples = []
for batch in given["--batches"].split(","):
    bytes_ = int(batch) * int(given["--hidden-size"]) * 2
    samples.append({"batch": int(batch), "message_bytes": bytes_, "dtype": given["--dtype"], "eager_path": "custom",
                    "eager_times_us": [20.0, 21.0], "eager_operations_per_sample": 50, "wrong": mood.get("wrong", 0),
                    "path": "nccl" if given["--nnodes"] != "1" else "custom", "times_us": [4.0, 5.0], "operations_per_graph": 50,
                    "replays_per_sample": 80})
state = {"stage": "done", "error": None, "samples": samples, "vllm_version": "0.25.0", "torch_version": "2.11.0",
         "communicators": {"custom": "on", "nccl": "on"}, **mood.get("state", {})}
for rank in range(int(given["--nproc-per-node"])):
    pathlib.Path("rank%d.json" % rank).write_text(json.dumps(state))
sys.exit(mood.get("status", 0))
"""

WITHIN = {"name": "tp2", "tp": 2, "pp": 1, "nodes": 1, "executor": "mp"}
ACROSS = {"name": "across", "tp": 2, "pp": 1, "nodes": 2, "executor": "ray"}


@pytest.fixture
def mock(tmp_path):
    folder = tmp_path / "mock"
    folder.mkdir()
    (folder / "torchrun").write_text(MOCK)
    (folder / "torchrun").chmod(0o755)
    return folder


def run(capsys, mock, mood=None, check=False, **arguments):
    import serving_all_reduce

    (mock / "mood.json").write_text(json.dumps(mood or {}))
    (mock / "calls").unlink(missing_ok=True)
    arguments = {
        "layouts": [WITHIN], "addresses": ["127.0.0.1"], "hidden_size": 8192, "backend": "nccl", "torchrun": str(mock / "torchrun"),
        **arguments,
    }  # fmt: skip
    with patch_module_args(dict(arguments, _ansible_check_mode=check)), pytest.raises(SystemExit):
        serving_all_reduce.main()
    result = json.loads(capsys.readouterr().out)
    if "fact" in result:
        Draft202012Validator(FACT).validate(result["fact"])
        Draft202012Validator(SCHEMA).validate(result["fact"])
    return result


def calls(mock):
    return [json.loads(line) for line in (mock / "calls").read_text().splitlines()] if (mock / "calls").exists() else []


def test_a_group_within_the_node(capsys, mock):
    fact = run(capsys, mock, serve_env={"VLLM_API_KEY": "sk-must-not-be-kept-0123"})["fact"]
    assert (fact["name"], fact["status"]) == ("serving_all_reduce", "healthy"), fact["reasons"]
    assert [(item["message_bytes"], item["time_us"], item["path"]) for item in fact["measured"]["results"]] == [
        (16384, 4.5, "custom"), (262144, 4.5, "custom"),
    ]  # fmt: skip
    assert fact["context"]["vllm_version"] == "0.25.0" and fact["context"]["scope"] == "within"
    assert fact["context"]["groups"][0]["communicators"] == {"custom": "on", "nccl": "on"}
    (call,) = calls(mock)
    assert {"serving_worker.py", "torch_worker.py"} <= set(call["files"]), "the worker and what it is made of lie side by side"
    assert call["env"]["VLLM_API_KEY"] == "sk-must-not-be-kept-0123" and "sk-must-not" not in json.dumps(fact)


def test_a_group_over_nodes_is_told_by_the_first(capsys, mock):
    arguments = {"layouts": [WITHIN, ACROSS], "addresses": ["127.0.0.1", "127.0.0.2"], "interface": "lo", "env": {"NCCL_IB_HCA": None}}
    fact = run(capsys, mock, **arguments)["fact"]
    assert [(item["nodes"], item["path"]) for item in fact["measured"]["results"]] == [(2, "nccl")] * 2 + [(1, "custom")] * 2
    assert fact["measured"]["nodes"] == 2 and fact["context"]["scope"] == "within", "it has this node's own too"
    over, alone = calls(mock)
    assert over["env"]["VLLM_ALLREDUCE_USE_SYMM_MEM"] == "0" and "--master-port=29559" in over["argv"]
    assert "VLLM_ALLREDUCE_USE_SYMM_MEM" not in alone["env"] and "--nproc-per-node=2" in alone["argv"]
    second = run(capsys, mock, node_rank=1, **arguments)
    assert "fact" not in second and "--node-rank=1" in calls(mock)[0]["argv"] and len(calls(mock)) == 1


def test_a_wrong_sum_over_nodes_accuses_none_of_them(capsys, mock):
    fact = run(capsys, mock, {"wrong": 1}, layouts=[ACROSS], addresses=["127.0.0.1", "127.0.0.2"], interface="lo")["fact"]
    assert fact["status"] == "failed"
    assert (fact["context"]["scope"], fact["context"]["addresses"]) == ("across", ["127.0.0.1", "127.0.0.2"])


def test_a_wrong_sum_within_fails_this_node(capsys, mock):
    fact = run(capsys, mock, {"wrong": 1})["fact"]
    assert (fact["status"], fact["context"]["scope"]) == ("failed", "within")


def test_ranks_that_hang_are_ended_in_time_and_take_no_node_away(capsys, mock):
    fact = run(capsys, mock, {"hangs": True}, timeout_s=6)["fact"]
    assert fact["status"] == "degraded" and "not done after" in fact["reasons"][0]["seen"] and "results" not in fact["measured"]


def test_vllm_that_cannot_be_imported_is_skipped_with_its_words(capsys, mock):
    state = {"stage": "importing", "error": "ImportError: libcudart.so.13", "trace": "Traceback", "samples": []}
    fact = run(capsys, mock, {"state": state, "status": 1})["fact"]
    assert fact["status"] == "skipped" and "libcudart.so.13" in fact["reasons"][0]["seen"]
    assert fact["context"]["errors"][0]["trace"] == "Traceback"


def test_what_is_missing_is_said_and_nothing_is_started(capsys, mock):
    for arguments, word in (
        ({"check": True}, "check mode"),
        ({"hidden_size": 0}, "message is not known"),
        ({"torchrun": "/nonexistent"}, "no executable /nonexistent"),
        ({"layouts": [dict(WITHIN, tp=1)]}, "no layout"),
        ({"layouts": [ACROSS]}, "1 node(s) serve"),
    ):
        fact = run(capsys, mock, **arguments)["fact"]
        assert fact["status"] == "skipped" and word in fact["reasons"][0]["seen"] and not calls(mock)


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"addresses": ["a", "a"]}, "different"),
        ({"node_rank": 1}, "not the place"),
        ({"batches": [0]}, "at least 1"),
    ],
)
def test_arguments_that_make_no_sense(capsys, mock, arguments, word):
    result = run(capsys, mock, **arguments)
    assert result["failed"] and word in result["msg"]
