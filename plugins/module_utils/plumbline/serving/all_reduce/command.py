"""The command that starts one node's ranks of a tensor-parallel group, and its environment."""

from __future__ import annotations

from ...fabric import torch_command

WORKER = "serving_worker.py"
# vLLM takes the type of a model's activations; any of two bytes is as fast as the other.
DTYPES = {2: "bfloat16", 4: "float32"}

# vLLM's all-reduce through torch's symmetric memory takes a group of 2 to 8 ranks for one machine, and hangs where it is not
# (controller/layout.py sets the same for serving).
OVER_NODES = {"VLLM_ALLREDUCE_USE_SYMM_MEM": "0"}


def argv(args, group, place, master_port, limit_s):
    """Return torchrun's argv for this node's ranks; ``place`` is its rank in the group, ``args`` are those of the module."""
    alone = group["nodes"] == 1
    return [
        args["torchrun"],
        "--nnodes=%d" % group["nodes"],
        "--node-rank=%d" % place,
        "--nproc-per-node=%d" % group["ranks_per_node"],
        "--master-addr=%s" % (torch_command.LOOPBACK if alone else args["addresses"][0]),
        "--master-port=%d" % master_port,
        "--rdzv-conf=timeout=%d" % args["join_timeout_s"],
        WORKER,
        "--device=%s" % ("cuda" if args["backend"] == "nccl" else "cpu"),
        "--hidden-size=%d" % args["hidden_size"],
        "--batches=%s" % ",".join(map(str, args["batches"])),
        "--dtype=%s" % DTYPES.get(args["dtype_bytes"], DTYPES[2]),
        "--join-timeout-s=%d" % args["join_timeout_s"],
        "--deadline-s=%d" % (limit_s + 30),
    ] + ([] if group["custom"] else ["--no-custom"])


def variables(args, group, host_ip, folder):
    """Return the ``env`` for ``torch_command``: what serving gets, under what the fabric's measurements and the layout set.

    A cache of its own, so that nothing is left behind.
    """
    found = {"VLLM_NO_USAGE_STATS": "1", "VLLM_CACHE_ROOT": folder, "VLLM_LOGGING_LEVEL": "INFO"}
    if group["nodes"] > 1:
        found.update(OVER_NODES)
    found.update(args["serve_env"], VLLM_CACHE_ROOT=folder)
    found.update(args["env"])
    found.update(group["env"])
    if host_ip:
        found["VLLM_HOST_IP"] = host_ip
    return found
