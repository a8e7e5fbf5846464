#!/usr/bin/python
"""Ansible module: measure one collective with torch.distributed through torchrun."""

from __future__ import annotations

DOCUMENTATION = r"""
module: collective_torch
short_description: Measure a collective's latency and bandwidth with torch.distributed
description:
  - Runs an all-reduce or a send-receive over a sweep of message sizes through C(torchrun), checks the values that
    arrive, and returns a fact of kind C(collective).
  - Within a node it is one call. Across nodes, call it on all the nodes at once (one task), each with its own
    O(node_rank); only rank 0 returns the fact, unless a rank fails, which then says so in a fact of its own.
  - Bandwidths are those of nccl-tests (doc/PERFORMANCE.md), in 10^9 bytes per second, from the median time.
  - The GPU clocks of this node are sampled meanwhile; C(context.clocks) has clocks, throttle counters and whether the lock was
    there before, under load and after. Throttled is C(degraded), a lost lock C(failed).
  - That the data went through the named interface is shown by the interface's counter; otherwise the fact is C(incomplete).
options:
  op:
    description: What to measure. With C(sendrecv) each rank sends to the next and receives from the one before.
    type: str
    required: true
    choices: [all_reduce, sendrecv]
  scope:
    description: Ranks of one node, or ranks of several nodes.
    type: str
    required: true
    choices: [within, across]
  addresses:
    description: The nodes' addresses in rank order; within a node, its own. The first is where the ranks meet.
    type: list
    elements: str
    required: true
  node_rank:
    description: This node's place in O(addresses).
    type: int
    default: 0
  nproc_per_node:
    description: Ranks on each node.
    type: int
    required: true
  sizes:
    description: Message sizes in bytes, multiples of 4.
    type: list
    elements: int
    required: true
  iterations:
    description: The most iterations per size.
    type: int
    default: 100
  min_iterations:
    description: The fewest iterations per size, whatever the budget.
    type: int
    default: 2
  budget_s:
    description: Seconds of timed iterations per size.
    type: float
    default: 0.4
  timeout_s:
    description: Seconds after which everything that was started is killed.
    type: int
    default: 150
  join_timeout_s:
    description: Seconds to wait for the other nodes, and for any single operation.
    type: int
    default: 45
  backend:
    description: The torch.distributed backend.
    type: str
    default: gloo
    choices: [gloo, nccl]
  interface:
    description: Network interface to use; by default the one that carries this node's address (within, the loopback).
    type: str
    default: ''
  master_port:
    description: TCP port on the first node where ranks of several nodes meet. Within a node a free one is taken.
    type: int
    default: 29555
  torchrun:
    description: Path of torchrun in an environment that has torch.
    type: path
    required: true
  env:
    description: More environment variables, such as C(NCCL_IB_HCA).
    type: dict
    default: {}
  hidden_size:
    description: The model's hidden size, whose messages are measured besides O(sizes); 0 for none.
    type: int
    default: 0
  dtype_bytes:
    description: Bytes of one value of the model's activations.
    type: int
    default: 2
  prompt_tokens:
    description: Prompt lengths whose prefill message is measured.
    type: list
    elements: int
    default: []
  expected_transport:
    description: With NCCL, what C(across) and C(within) nodes should carry the data (V(IB), V(Socket); V(P2P)). Empty is not judged.
    type: dict
    default: {}
  reference:
    description: C(measured) of the nccl-tests fact of the same nodes, to compare with; empty compares nothing.
    type: dict
    default: {}
  parity_tolerance:
    description: By which share bus bandwidth may differ from the reference.
    type: float
    default: 0.1
  parity_min_bytes:
    description: Smallest message that is compared with the reference.
    type: int
    default: 67108864
  min_busbw_gbps:
    description: The peak bus bandwidth must reach this, in 10^9 bytes/s; without it the fact says that no baseline is known.
    type: float
  clock_window:
    description:
      - How GPU clocks are watched during the measurement; see C(module_utils/plumbline/clocks_window.py). Without a GPU
        nothing is started.
    type: dict
    default: {}
    suboptions:
      expected_mhz:
        description: Clock in MHz to which the GPUs were locked; V(0) takes it from the record of a lock, where there is one.
        type: int
        default: 0
      interval_s: {description: Seconds between two samples., type: float, default: 1.0}
      nodes: {description: Nodes that take part; only the GPUs of this one are watched., type: int, default: 1}
      nvidia_smi: {description: Path of C(nvidia-smi); found in E(PATH) where it is not given., type: path}
      state_dir: {description: Where M(gpu_clocks) keeps the record of its lock., type: path, default: /run/plumbline}
attributes:
  check_mode:
    support: full
    description: Nothing is started; the fact is C(skipped).
"""

EXAMPLES = r"""
- name: All-reduce within the node
  collective_torch:
    op: all_reduce
    scope: within
    addresses: ["{{ ansible_host }}"]
    nproc_per_node: 2
    sizes: [8, 16384, 67108864]
    torchrun: /opt/plumbline/vllm/bin/torchrun
"""

RETURN = r"""
fact:
  description:
    - The fact; also in C(ansible_facts.plumbline.collective). Absent on ranks that have nothing to report.
    - "measured: ranks, nodes, sweep (size_bytes, iterations, time_us, algbw_gbps, busbw_gbps), latency_8b_us, peak_busbw_gbps,
      fit (alpha_us, beta_gbps and residuals), messages, parity."
  type: dict
  returned: rank 0, or failure
"""

import inspect
import os
import shlex
import tempfile

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.plumbline.clocks import window as clocks_window
from ansible.module_utils.plumbline.core.fact import Measurement
from ansible.module_utils.plumbline.fabric import collective, transport
from ansible.module_utils.plumbline.fabric import parity as collective_parity
from ansible.module_utils.plumbline.fabric import sizes as collective_size
from ansible.module_utils.plumbline.fabric import torch_run as collective_run
from ansible.module_utils.plumbline.fabric import torch_worker as collective_worker
from ansible.module_utils.plumbline.machine import net

LOOPBACK = "127.0.0.1"


def line_rate(interface):
    """Return the rate in Gbit/s that limits an interface: its shaper's if it has one, else its NIC's; None when unknown."""
    if interface == "lo":
        return None
    return net.shaped_rate_gbit_s(interface) or net.link_rate_gbit_s(interface)


def wrong_argument(args):
    """Return what is wrong with the arguments taken together, None when nothing is."""
    nodes = len(args["addresses"])
    if args["scope"] == "within" and nodes != 1:
        return f"scope=within takes one address, got {nodes}: {args['addresses']}"
    if args["scope"] == "across" and len(set(args["addresses"])) != nodes:
        return f"scope=across takes different addresses, got {args['addresses']}"
    if not 0 <= args["node_rank"] < max(nodes, 1):
        return f"node_rank={args['node_rank']} is not the place of one of {nodes} addresses"
    bad = [size for size in args["sizes"] if size < 8 or size % 4]
    if bad or not args["sizes"]:
        return f"sizes must be multiples of 4, at least 8 bytes, got {bad or 'none'}"
    if args["min_iterations"] < 1 or args["iterations"] < args["min_iterations"]:
        return f"iterations={args['iterations']} must be at least min_iterations={args['min_iterations']}, both at least 1"
    try:
        collective_size.messages(args["hidden_size"], args["dtype_bytes"], args["prompt_tokens"])
    except ValueError as error:
        return str(error)
    if args["nproc_per_node"] * nodes < 2 and not (args["scope"] == "across" and nodes == 1):
        return f"{args['nproc_per_node']} rank on {nodes} node is no collective: raise nproc_per_node"
    return None


def find_interface(args):
    """Return ``(interface, None)``, or ``(None, why not)``."""
    if args["interface"]:
        if not os.path.isdir(os.path.join("/sys/class/net", args["interface"])):
            return None, f"there is no interface {args['interface']} on this node"
        return args["interface"], None
    try:
        if args["scope"] == "within":
            source = LOOPBACK
        else:
            peers = [item for rank, item in enumerate(args["addresses"]) if rank != args["node_rank"]]
            source = net.local_address(peers[0])
        name = net.interface_of(source)
    except OSError as error:
        return None, f"no way from here to {', '.join(args['addresses'])}: {error}"
    return (name, None) if name else (None, f"no interface carries the address {source}")


def torchrun_command(args, master_port, worker):
    """Return torchrun's argv. The static rendezvous needs no host names and no other service."""
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
    ]


def environment(args, interface, folder):
    """Return the environment for torchrun: the module's own, one thread a rank, and the interface by name."""
    env = dict(os.environ, OMP_NUM_THREADS="1", PYTHONUNBUFFERED="1")
    env["GLOO_SOCKET_IFNAME"] = interface
    env["NCCL_SOCKET_IFNAME"] = interface
    # torch looks up the name of each peer's address for its log; a silent DNS server costs 10 s every time.
    env["RES_OPTIONS"] = "timeout:1 attempts:1"
    if args["backend"] == "nccl":
        # Into files of their own, so that lines of several ranks do not run into each other.
        env.update(transport.LOG_ENVIRONMENT, NCCL_DEBUG_FILE=os.path.join(folder, "nccl.%h.%p.log"))
        if args["expected_transport"].get("across") == "IB":
            env["NCCL_NET"] = "IB"  # a fallback is then an error and not a slow run
    # A variable without a value is taken away.
    env.update({key: str(value) for key, value in args["env"].items() if value not in (None, "")})
    return {key: value for key, value in env.items() if key not in args["env"] or args["env"][key] not in (None, "")}


def nccl_log(folder):
    """Return what NCCL logged on this node, from all ranks."""
    found = []
    for name in sorted(os.listdir(folder)):
        if name.startswith("nccl.") and name.endswith(".log"):
            with open(os.path.join(folder, name), encoding="utf-8", errors="replace") as text:
                found.append(text.read())
    return "\n".join(found)


def judge_transport(args, fact, folder, tail, counters, interface, samples):
    """Put the transport into the fact: NCCL's own word and the ports' counters, or Gloo's interface."""
    if args["backend"] != "nccl":
        gloo = {"verdict": "Socket", "interfaces": [interface], "sent_bytes": counters}
        fact.context["transport"] = dict(transport.summary(transport.parse("")), **gloo)
        return
    nodes = len(args["addresses"])
    found = transport.parse(nccl_log(folder) or tail)
    fact.context["transport"] = transport.summary(found, counters, args["expected_transport"])
    fact.context["nccl_version"] = found["nccl_version"]
    ranks = nodes * args["nproc_per_node"]
    transport.judge(fact, found, args["expected_transport"], nodes, ranks)
    if nodes > 1 and samples:
        expected = collective.expected_traffic(args["op"], ranks, samples)
        transport.judge_counters(fact, counters, interface, expected, args["expected_transport"].get("across"))


def measure(args, fact, folder, interface):
    """Run torchrun and fill the fact in."""
    op, across, nodes = args["op"], args["scope"] == "across", len(args["addresses"])
    ranks = nodes * args["nproc_per_node"]
    peers = [item for rank, item in enumerate(args["addresses"]) if rank != args["node_rank"]]

    with open(os.path.join(folder, "collective_worker.py"), "w", encoding="utf-8") as script:
        script.write(inspect.getsource(collective_worker))
    port = args["master_port"] if across else net.free_port()
    command = torchrun_command(args, port, "collective_worker.py")
    fact.command = f"GLOO_SOCKET_IFNAME={interface} NCCL_SOCKET_IFNAME={interface} OMP_NUM_THREADS=1 {shlex.join(command)}"

    messages = collective_size.messages(args["hidden_size"], args["dtype_bytes"], args["prompt_tokens"])
    with_infiniband = across and args["backend"] == "nccl"
    before = net.sent_bytes(interface, with_infiniband)
    env = environment(args, interface, folder)
    window = clocks_window.watch(args["clock_window"], nodes=nodes)
    with window:
        status, took_s, tail = collective_run.run(command, env, folder, args["nproc_per_node"], args["timeout_s"])
    counters = net.difference(before, net.sent_bytes(interface, with_infiniband))

    states = collective_run.states(folder)
    first = states.get(0, {})
    samples = first.get("samples", [])
    fact.measured = collective.measured(op, ranks, nodes, samples)
    if messages:
        fact.measured["messages"] = messages
    fact.context.update(
        torch_version=first.get("torch_version"),
        link_rate_gbit_s=line_rate(interface),
        sent_bytes=counters,
        expected_bytes=collective.expected_traffic(op, ranks, samples),
    )
    if status != 0 or first.get("stage") != "done":
        # A rank that says what went wrong tells more than one that only lost its connection.
        teller = next((item for item in states.values() if item["error"] and not collective.blames_peer(item["error"])), first)
        check, seen, remedy = collective.diagnose(teller, tail, status, peers, took_s)
        fact.add(check, "failed", seen, f"all {ranks} ranks measure every size within {args['timeout_s']} s", remedy)
    window.attach(fact)
    collective.judge_values(fact, samples, args["sizes"])
    if across or args["backend"] == "gloo":  # NCCL within a node uses NVLink or shared memory: no interface to read
        collective.judge_traffic(fact, op, ranks, samples, counters)
    judge_transport(args, fact, folder, tail, counters, interface, samples)
    if with_infiniband and not args["expected_transport"].get("across"):
        collective.judge_fallback(fact, counters, interface, samples, op, ranks)
    if samples:
        parity = collective_parity.judge(fact, args["reference"], args["parity_tolerance"], args["parity_min_bytes"])
        if parity:
            fact.measured["parity"] = parity
        collective.judge_baseline(
            fact,
            fact.measured["peak_busbw_gbps"],
            args["min_busbw_gbps"],
            f"fabric_baseline_min_busbw_gbps['{op}.{args['scope']}']",
        )


def prepare(args, fact):
    """Return the interface, or None after saying in the fact what is missing on this node."""
    if not os.access(args["torchrun"], os.X_OK):
        fact.add(
            "collective.torchrun",
            "failed",
            f"no executable {args['torchrun']}",
            "torchrun of an environment with torch",
            "install it (playbooks/preflight.yml, playbooks/lab_up.yml) or set fabric_baseline_torchrun",
        )
        return None
    interface, problem = find_interface(args)
    if problem:
        fact.add(
            "collective.interface", "failed", problem, "an interface that carries this node's address",
            "set fabric_baseline_interface, or fabric_baseline_address to the address that the nodes know each other by",
        )  # fmt: skip
        return None
    if args["scope"] == "across" and args["node_rank"] == 0:
        problem = net.port_error(args["master_port"])
        if problem:
            fact.add(
                "collective.port", "failed", f"port {args['master_port']}: {problem}", "a free port on the first node",
                "set fabric_baseline_master_port",
            )  # fmt: skip
            return None
    return interface


def finish(module, fact):
    """Exit with the fact. Ranks that have nothing bad to say leave it to rank 0, so that it is there once."""
    result = fact.result()
    rank = module.params["node_rank"]
    if rank > 0 and result["fact"]["status"] not in ("failed", "incomplete"):
        module.exit_json(changed=False, msg=f"rank {rank} is done; {module.params['addresses'][0]} reports")
    module.exit_json(changed=False, **result)


def main():
    module = AnsibleModule(
        argument_spec={
            "op": {"type": "str", "required": True, "choices": list(collective.OPS)},
            "scope": {"type": "str", "required": True, "choices": list(collective.SCOPES)},
            "addresses": {"type": "list", "elements": "str", "required": True},
            "node_rank": {"type": "int", "default": 0},
            "nproc_per_node": {"type": "int", "required": True},
            "sizes": {"type": "list", "elements": "int", "required": True},
            "iterations": {"type": "int", "default": 100},
            "min_iterations": {"type": "int", "default": 2},
            "budget_s": {"type": "float", "default": 0.4},
            "timeout_s": {"type": "int", "default": 150},
            "join_timeout_s": {"type": "int", "default": 45},
            "backend": {"type": "str", "default": "gloo", "choices": ["gloo", "nccl"]},
            "interface": {"type": "str", "default": ""},
            "master_port": {"type": "int", "default": 29555},
            "torchrun": {"type": "path", "required": True},
            "env": {"type": "dict", "default": {}},
            "hidden_size": {"type": "int", "default": 0},
            "dtype_bytes": {"type": "int", "default": 2},
            "prompt_tokens": {"type": "list", "elements": "int", "default": []},
            "expected_transport": {"type": "dict", "default": {}},
            "reference": {"type": "dict", "default": {}},
            "parity_tolerance": {"type": "float", "default": 0.1},
            "parity_min_bytes": {"type": "int", "default": 67108864},
            "min_busbw_gbps": {"type": "float"},
            "clock_window": clocks_window.argument(),
        },
        supports_check_mode=True,
    )
    args = module.params
    problem = wrong_argument(args)
    if problem:
        module.fail_json(msg=problem)
    args["sizes"] = collective_size.merged(
        args["sizes"], collective_size.messages(args["hidden_size"], args["dtype_bytes"], args["prompt_tokens"])
    )

    fact = Measurement("collective", f"{args['op']}.{args['scope']}")
    fact.context = {
        "op": args["op"],
        "scope": args["scope"],
        "backend": args["backend"],
        "tool": "torch",
        "addresses": args["addresses"],
    }
    if module.check_mode:
        fact.add("check_mode", "skipped", "a collective starts processes, which check mode does not do")
        finish(module, fact)
    if args["scope"] == "across" and len(args["addresses"]) < 2:
        fact.add(
            "collective.nodes", "skipped", "one serving node: there is nothing to measure across", "two nodes",
            "if more nodes should serve, see why they were not selected",
        )  # fmt: skip
        finish(module, fact)

    interface = prepare(args, fact)
    if interface:
        fact.context["interface"] = interface
        with tempfile.TemporaryDirectory(prefix="plumbline-collective-", dir=module.tmpdir) as folder:
            measure(args, fact, folder, interface)
    finish(module, fact)


if __name__ == "__main__":
    main()
