"""The command that starts one node's ranks of a collective by torch: torchrun's argv and environment."""

from __future__ import annotations

import os

from . import transport

LOOPBACK = "127.0.0.1"
# Seconds of the largest message behind a sweep over NCCL, so that the samples of GPU clocks see GPUs at work: some of
# interval_s (0.2 s), and more than the last second, over which NVML tells utilisation.
LOAD_S = 1.5
NCCL_LOG = "nccl.%h.%p.log"  # NCCL puts in the host's name and the pid


def argv(args, master_port, worker):
    """Return torchrun's argv for the script ``worker``; ``args`` are those of the module ``collective_torch``.

    The static rendezvous needs no host names and no other service.
    """
    return [
        args["torchrun"],
        f"--nnodes={len(args['addresses'])}",
        f"--node-rank={args['node_rank']}",
        f"--nproc-per-node={args['nproc_per_node']}",
        f"--master-addr={LOOPBACK if args['scope'] == 'within' else args['addresses'][0]}",
        f"--master-port={master_port}",
        f"--rdzv-conf=timeout={args['join_timeout_s']}",
        worker,
        f"--op={args['op']}",
        f"--backend={args['backend']}",
        f"--sizes={','.join(map(str, args['sizes']))}",
        f"--iterations={args['iterations']}",
        f"--min-iterations={args['min_iterations']}",
        f"--budget-s={args['budget_s']}",
        f"--join-timeout-s={args['join_timeout_s']}",
        f"--deadline-s={args['timeout_s'] + 30}",
    ] + ([f"--load-s={LOAD_S}"] if args["backend"] == "nccl" else [])


def given(args, interface):
    """Return the variables that the ranks get on top of the module's own: one thread a rank, the interface by name, ``env``."""
    env = {"OMP_NUM_THREADS": "1", "PYTHONUNBUFFERED": "1", "GLOO_SOCKET_IFNAME": interface, "NCCL_SOCKET_IFNAME": interface}
    # torch looks up the name of each peer's address for its log; a silent DNS server costs 10 s every time.
    env["RES_OPTIONS"] = "timeout:1 attempts:1"
    if args["backend"] == "nccl":
        env.update(transport.LOG_ENVIRONMENT)
        if args["expected_transport"].get("across") == "IB":
            env["NCCL_NET"] = "IB"  # a fallback is then an error and not a slow run
    env.update({key: str(value) for key, value in args["env"].items()})
    return {key: value for key, value in env.items() if key not in removed(args)}


def removed(args):
    """Return the variables that ``env`` takes away: those without a value."""
    return {key for key, value in args["env"].items() if value in (None, "")}


def environment(args, interface, folder):
    """Return torchrun's whole environment; NCCL logs into files of their own, so that lines of several ranks do not mix."""
    env = dict(os.environ)
    if args["backend"] == "nccl":
        env["NCCL_DEBUG_FILE"] = os.path.join(folder, NCCL_LOG)
    env.update(given(args, interface))
    return {key: value for key, value in env.items() if key not in removed(args)}


def nccl_log(folder):
    """Return what NCCL logged on this node, from all ranks."""
    found = []
    for name in sorted(os.listdir(folder)):
        if name.startswith("nccl.") and name.endswith(".log"):
            with open(os.path.join(folder, name), encoding="utf-8", errors="replace") as text:
                found.append(text.read())
    return "\n".join(found)
