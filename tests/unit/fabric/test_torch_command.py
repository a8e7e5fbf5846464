"""How a node's ranks are started: torchrun's arguments and the variables on top of the module's own."""

from __future__ import annotations

import pytest
from ansible.module_utils.plumbline.fabric import torch_command

ARGS = {
    "op": "all_reduce", "scope": "across", "addresses": ["10.0.0.4", "10.0.0.5"], "node_rank": 1, "nproc_per_node": 2, "sizes": [8, 16],
    "iterations": 100, "min_iterations": 2, "budget_s": 0.4, "timeout_s": 150, "join_timeout_s": 45, "backend": "gloo",
    "torchrun": "/venv/bin/torchrun", "env": {}, "expected_transport": {},
}  # fmt: skip


def test_argv():
    argv = torch_command.argv(ARGS, 29555, "worker.py")
    assert argv[0] == "/venv/bin/torchrun" and argv[argv.index("worker.py") + 1] == "--op=all_reduce"
    for part in ("--nnodes=2", "--node-rank=1", "--master-addr=10.0.0.4", "--master-port=29555", "--sizes=8,16", "--deadline-s=180"):
        assert part in argv
    within = torch_command.argv(dict(ARGS, scope="within", addresses=["10.0.0.4"], node_rank=0), 1, "worker.py")
    assert "--master-addr=127.0.0.1" in within
    assert "--load-s=1.5" in torch_command.argv(dict(ARGS, backend="nccl"), 1, "worker.py")
    assert not [part for part in torch_command.argv(dict(ARGS, backend="gloo"), 1, "worker.py") if part.startswith("--load")]


def test_environment_of_gloo(monkeypatch):
    monkeypatch.setenv("NCCL_NET", "Socket")
    monkeypatch.setenv("SECRET_OF_THE_MODULE", "x")
    given = torch_command.given(ARGS, "eth0")
    assert given["GLOO_SOCKET_IFNAME"] == given["NCCL_SOCKET_IFNAME"] == "eth0" and given["OMP_NUM_THREADS"] == "1"
    assert "NCCL_DEBUG" not in given and "NCCL_NET" not in given and "SECRET_OF_THE_MODULE" not in given
    env = torch_command.environment(ARGS, "eth0", "/folder")
    assert env["SECRET_OF_THE_MODULE"] == "x" and env["NCCL_NET"] == "Socket" and "NCCL_DEBUG_FILE" not in env


def test_environment_of_nccl_proves_its_transport_and_refuses_a_fallback():
    args = dict(ARGS, backend="nccl", expected_transport={"across": "IB"})
    env = torch_command.environment(args, "eth0", "/folder")
    assert env["NCCL_DEBUG"] == "INFO" and env["NCCL_NET"] == "IB" and env["NCCL_DEBUG_FILE"] == "/folder/nccl.%h.%p.log"
    assert "NCCL_NET" not in torch_command.given(dict(args, expected_transport={}), "eth0")


@pytest.mark.parametrize("nothing", [None, ""])
def test_variable_without_a_value_is_taken_away(monkeypatch, nothing):
    monkeypatch.setenv("NCCL_PROTO", "LL")
    args = dict(ARGS, backend="nccl", env={"NCCL_PROTO": nothing, "NCCL_DEBUG": nothing, "NCCL_ALGO": "Ring", "OMP_NUM_THREADS": 4})
    env = torch_command.environment(args, "eth0", "/folder")
    assert "NCCL_PROTO" not in env and "NCCL_DEBUG" not in env
    assert env["NCCL_ALGO"] == "Ring" and env["OMP_NUM_THREADS"] == "4"
    assert "NCCL_DEBUG" not in torch_command.given(args, "eth0")


def test_nccl_log_is_that_of_all_ranks(tmp_path):
    (tmp_path / "nccl.vm.1.log").write_text("one")
    (tmp_path / "nccl.vm.2.log").write_text("two")
    (tmp_path / "torchrun.log").write_text("other")
    assert torch_command.nccl_log(str(tmp_path)) == "one\ntwo"
