"""How the ranks of a group are started."""

from __future__ import annotations

from ansible.module_utils.plumbline.fabric import torch_command
from ansible.module_utils.plumbline.serving.all_reduce import command

ARGS = {
    "torchrun": "/venv/bin/torchrun", "addresses": ["10.0.0.4", "10.0.0.5", "10.0.0.6"], "join_timeout_s": 45, "backend": "nccl",
    "hidden_size": 8192, "dtype_bytes": 2, "batches": [1, 16], "serve_env": {"HF_HUB_OFFLINE": 1, "NCCL_PROTO": "Simple"},
    "env": {"NCCL_IB_HCA": "mlx5_ib0"}, "expected_transport": {"across": "IB"},
}  # fmt: skip
WITHIN = {"tp": 4, "nodes": 1, "ranks_per_node": 4, "custom": True, "env": {}}
ACROSS = {"tp": 16, "nodes": 2, "ranks_per_node": 8, "custom": False, "env": {"NCCL_PROTO": "LL"}}


def test_argv():
    argv = command.argv(ARGS, WITHIN, 0, 4242, 100)
    for part in ("--nnodes=1", "--nproc-per-node=4", "--master-addr=127.0.0.1", "--device=cuda", "--batches=1,16", "--dtype=bfloat16"):
        assert part in argv
    assert "--deadline-s=130" in argv and "--no-custom" not in argv
    argv = command.argv(dict(ARGS, backend="gloo", dtype_bytes=4), ACROSS, 1, 29559, 100)
    for part in ("--nnodes=2", "--node-rank=1", "--nproc-per-node=8", "--master-addr=10.0.0.4", "--device=cpu", "--no-custom"):
        assert part in argv
    assert "--dtype=float32" in argv


def test_over_nodes_symmetric_memory_is_off_as_in_serving_and_what_serving_sets_counts():
    within, across = (command.variables(ARGS, group, "", "/folder") for group in (WITHIN, ACROSS))
    assert "VLLM_ALLREDUCE_USE_SYMM_MEM" not in within and across["VLLM_ALLREDUCE_USE_SYMM_MEM"] == "0"
    asked = dict(ARGS, serve_env={"VLLM_ALLREDUCE_USE_SYMM_MEM": "1"})
    assert command.variables(asked, ACROSS, "", "/folder")["VLLM_ALLREDUCE_USE_SYMM_MEM"] == "1", "where NVLink spans nodes"
    assert within["NCCL_PROTO"] == "Simple" and across["NCCL_PROTO"] == "LL", "the layout's own wins"
    assert within["NCCL_IB_HCA"] == "mlx5_ib0" and within["VLLM_CACHE_ROOT"] == "/folder" and "VLLM_HOST_IP" not in within
    assert command.variables(ARGS, ACROSS, "10.0.0.5", "/folder")["VLLM_HOST_IP"] == "10.0.0.5"


def test_torchs_environment_takes_them():
    given = torch_command.given(dict(ARGS, env=command.variables(ARGS, ACROSS, "10.0.0.5", "/folder")), "eth0")
    assert given["NCCL_NET"] == "IB" and given["NCCL_SOCKET_IFNAME"] == "eth0" and given["HF_HUB_OFFLINE"] == "1"
