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
  - Operations are timed in batches, one queued behind the other, as nccl-tests do, between two CUDA events or by the host's
    monotonic clock (Gloo); a sample is a batch's time divided by its operations, of the rank that took longest.
  - With NCCL, messages of up to 1 MiB are also measured in a CUDA graph, which is how vLLM decodes (C(graph_time_us)). Where that
    cannot be, C(collective.graph) says why, and the plain numbers stand.
  - Bandwidths are those of nccl-tests (doc/PERFORMANCE.md), in 10^9 bytes per second, from the plain median time.
  - The GPU clocks of this node are sampled meanwhile; C(context.clocks) has clocks, throttle counters and whether the lock was
    there before, under load and after. Throttled is C(degraded), a lost lock C(failed). With NCCL the largest message is repeated
    for 1.5 s behind the sweep, so that samples see GPUs at work; clocks that could not be judged are C(skipped).
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
  sizes_nccl:
    description: More of O(sizes) where O(backend) is V(nccl), whose links reach their bandwidth with larger messages only.
    type: list
    elements: int
    default: []
  iterations:
    description: The most operations per size, in batches of up to 20.
    type: int
    default: 100
  min_iterations:
    description: The fewest operations per size, whatever the budget.
    type: int
    default: 2
  budget_s:
    description: Seconds of timed operations per size.
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
  min_busbw_gbps:
    description: The peak bus bandwidth must reach this, in 10^9 bytes/s; without it the fact says that no baseline is known.
    type: float
  clock_window:
    description:
      - How GPU clocks are watched during the measurement; see C(module_utils/plumbline/clocks/window.py). Without a GPU
        nothing is started.
    type: dict
    default: {}
    suboptions:
      expected_mhz:
        description: Clock in MHz to which the GPUs were locked; V(0) takes it from the record of a lock, where there is one.
        type: int
        default: 0
      interval_s: {description: Seconds between two samples., type: float, default: 0.2}
      nodes: {description: Nodes that take part; only the GPUs of this one are watched., type: int, default: 1}
      nvidia_smi: {description: Path of C(nvidia-smi); found in E(PATH) where it is not given., type: path}
      gpus: {description: "GPUs that are watched, as C(plumbline_gpus) has them; empty for all.", type: raw, default: []}
      state_dir: {description: Where M(gpu_clocks) keeps the record of its lock., type: path, default: /run/plumbline}
attributes:
  check_mode:
    support: full
    description: Nothing is started; the fact is C(skipped).
author: [Plumbline]
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
    - "measured: ranks, nodes, method (clock, operations_per_sample, graph), sweep (size_bytes, iterations, operations_per_sample,
      time_us, graph_time_us, algbw_gbps, busbw_gbps), latency_8b_us, latency_8b_graph_us, peak_busbw_gbps, fit (alpha_us,
      beta_gbps and residuals), messages."
  type: dict
  returned: rank 0, or failure
"""

import inspect
import os
import shlex
import tempfile
from typing import NamedTuple

from ansible.module_utils.plumbline.clocks import window as clocks_window
from ansible.module_utils.plumbline.core import marks
from ansible.module_utils.plumbline.core.counters import difference
from ansible.module_utils.plumbline.core.fact import Measurement
from ansible.module_utils.plumbline.core.module import AnsibleModule
from ansible.module_utils.plumbline.core.scrub import scrub_environment
from ansible.module_utils.plumbline.fabric import collective, transport
from ansible.module_utils.plumbline.fabric import sizes as collective_size
from ansible.module_utils.plumbline.fabric import torch_command as collective_command
from ansible.module_utils.plumbline.fabric import torch_run as collective_run
from ansible.module_utils.plumbline.fabric import torch_worker as collective_worker
from ansible.module_utils.plumbline.machine import interfaces, net

WORKER = "collective_worker.py"


class Run(NamedTuple):
    """What a run of torchrun left."""

    status: int | None  # its exit status; None: stopped at the timeout
    took_s: float
    tail: str  # the end of its log
    states: dict  # of the local ranks, by local rank
    counters: dict  # bytes that each port and interface sent meanwhile
    window: clocks_window.Window  # of this node's GPU clocks

    @property
    def samples(self):
        """The first local rank's samples."""
        return self.states.get(0, {}).get("samples", [])


def wrong_argument(args):
    """Return what is wrong with the arguments taken together, None when nothing is."""
    nodes = len(args["addresses"])
    problem = collective.wrong_addresses(args["scope"], args["addresses"])
    if problem:
        return problem
    if not 0 <= args["node_rank"] < nodes:
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


def peers_of(args):
    """Return the addresses of the other nodes."""
    return [item for rank, item in enumerate(args["addresses"]) if rank != args["node_rank"]]


def ranks_of(args):
    """Return the number of ranks on all nodes."""
    return len(args["addresses"]) * args["nproc_per_node"]


def reads_infiniband(args):
    """Return whether the counters of InfiniBand ports belong to this measurement."""
    return args["scope"] == "across" and args["backend"] == "nccl"


def find_interface(args):
    """Return ``(interface, None)``, or ``(None, why not)``."""
    if args["interface"]:
        if not interfaces.exists(args["interface"]):
            return None, f"there is no interface {args['interface']} on this node"
        return args["interface"], None
    try:
        source = collective_command.LOOPBACK if args["scope"] == "within" else net.local_address(peers_of(args)[0])
        name = net.interface_of(source)
    except OSError as error:
        return None, f"no way from here to {', '.join(args['addresses'])}: {error}"
    return (name, None) if name else (None, f"no interface carries the address {source}")


def prepare(args, measurement):
    """Return the interface, or None after saying what is missing on this node."""
    if not os.access(args["torchrun"], os.X_OK):
        measurement.add(
            "collective.torchrun",
            "failed",
            f"no executable {args['torchrun']}",
            "torchrun of an environment with torch",
            "install torch there (in a lab: playbooks/lab_up.yml) or set fabric_baseline_torchrun",
        )
        return None
    interface, problem = find_interface(args)
    if problem:
        measurement.add(
            "collective.interface", "failed", problem, "an interface that carries this node's address",
            "set fabric_baseline_interface, or fabric_baseline_address to the address that the nodes know each other by",
        )  # fmt: skip
        return None
    if args["scope"] == "across" and args["node_rank"] == 0:
        problem = net.port_error(args["master_port"])
        if problem:
            measurement.add(
                "collective.port", "failed", f"port {args['master_port']}: {problem}", "a free port on the first node",
                "set fabric_baseline_master_port",
            )  # fmt: skip
            return None
    return interface


def run_ranks(args, measurement, folder, interface):
    """Run torchrun in ``folder``, note its command, and return the :class:`Run`."""
    with open(os.path.join(folder, WORKER), "w", encoding="utf-8") as script:
        script.write(inspect.getsource(collective_worker))
    port = args["master_port"] if args["scope"] == "across" else net.free_port()
    command = collective_command.argv(args, port, WORKER)
    measurement.command = f"GLOO_SOCKET_IFNAME={interface} NCCL_SOCKET_IFNAME={interface} OMP_NUM_THREADS=1 {shlex.join(command)}"
    env = collective_command.environment(args, interface, folder)
    before = net.sent_bytes(interface, reads_infiniband(args))
    window = clocks_window.watch(args["clock_window"], nodes=len(args["addresses"]))
    with window:
        status, took_s, tail = collective_run.run(command, env, folder, args["nproc_per_node"], args["timeout_s"])
    counters = difference(before, net.sent_bytes(interface, reads_infiniband(args)))
    return Run(status, took_s, tail, collective_run.states(folder), counters, window)


def fill(args, measurement, interface, run):
    """Put what was measured, and what it depends on, into the measurement."""
    ranks = ranks_of(args)
    measurement.measured = collective.measured(args["op"], ranks, len(args["addresses"]), run.samples)
    messages = collective_size.messages(args["hidden_size"], args["dtype_bytes"], args["prompt_tokens"])
    if messages:
        measurement.measured["messages"] = messages
    measurement.context.update(
        torch_version=run.states.get(0, {}).get("torch_version"),
        environment=scrub_environment(collective_command.given(args, interface)),
        link_rate_gbit_s=net.line_rate_gbit_s(interface),
        sent_bytes=run.counters,
        expected_bytes=collective.expected_traffic(args["op"], ranks, run.samples),
    )


def judge_end(args, measurement, run):
    """Say why the run did not end well, where it did not."""
    first = run.states.get(0, {})
    ended_well = run.status == 0 and first.get("stage") == "done"
    said = first.get("error") or collective.clean(collective.last_line(run.tail))
    graph = dict(first, graph_error=collective.graph_error(run.states.values()))
    if collective.judge_graph(measurement, graph, args["sizes"], ended_well, said) or ended_well:
        return
    # A rank that says what went wrong tells more than one that only lost its connection.
    teller = next((item for item in run.states.values() if item["error"] and not collective.blames_peer(item["error"])), first)
    check, seen, remedy = collective.diagnose(teller, run.tail, run.status, peers_of(args), run.took_s)
    measurement.add(check, "failed", seen, f"all {ranks_of(args)} ranks measure every size within {args['timeout_s']} s", remedy)


def judge_transport(args, measurement, folder, interface, run):
    """Put the transport into the fact: NCCL's own word and the ports' counters, or Gloo's interface."""
    if args["backend"] != "nccl":
        gloo = {"verdict": "Socket", "interfaces": [interface], "sent_bytes": run.counters}
        measurement.context["transport"] = dict(transport.summary(transport.parse("")), **gloo)
        return
    nodes, ranks, wanted = len(args["addresses"]), ranks_of(args), args["expected_transport"]
    found = transport.parse(collective_command.nccl_log(folder) or run.tail)
    measurement.context["transport"] = transport.summary(found, run.counters, wanted)
    measurement.context["nccl_version"] = found["nccl_version"]
    transport.judge(measurement, found, wanted, nodes, ranks)
    if nodes > 1 and run.samples:
        expected = collective.expected_traffic(args["op"], ranks, run.samples)
        transport.judge_counters(measurement, run.counters, interface, expected, wanted.get("across"))


def judge(args, measurement, folder, interface, run):
    """Add the reasons on what was measured, and on the wire that carried it."""
    op, ranks, samples = args["op"], ranks_of(args), run.samples
    judge_end(args, measurement, run)
    run.window.attach(measurement)
    collective.judge_values(measurement, samples, args["sizes"])
    if args["scope"] == "across" or args["backend"] == "gloo":  # NCCL within a node uses NVLink or shared memory: no interface to read
        collective.judge_traffic(measurement, op, ranks, samples, run.counters)
    judge_transport(args, measurement, folder, interface, run)
    if reads_infiniband(args) and not args["expected_transport"].get("across"):
        collective.judge_fallback(measurement, run.counters, interface, samples, op, ranks)
    if samples:
        collective.judge_baseline(
            measurement,
            measurement.measured["peak_busbw_gbps"],
            args["min_busbw_gbps"],
            f"fabric_baseline_min_busbw_gbps['{op}.{args['scope']}']",
        )


def finish(module, measurement):
    """Exit with the fact. Ranks that have nothing bad to say leave it to rank 0, so that it is there once."""
    result = measurement.result()
    rank = module.params["node_rank"]
    if rank > 0 and result["fact"]["status"] not in ("failed", "incomplete"):
        module.exit_json(changed=False, msg=f"rank {rank} is done; {module.params['addresses'][0]} reports")
    module.exit_json(changed=False, **result)


def argument_spec():
    """Return the module's arguments."""
    return {
        "op": {"type": "str", "required": True, "choices": list(collective.OPS)},
        "scope": {"type": "str", "required": True, "choices": list(collective.SCOPES)},
        "addresses": {"type": "list", "elements": "str", "required": True},
        "node_rank": {"type": "int", "default": 0},
        "nproc_per_node": {"type": "int", "required": True},
        "sizes": {"type": "list", "elements": "int", "required": True},
        "sizes_nccl": {"type": "list", "elements": "int", "default": []},
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
        "min_busbw_gbps": {"type": "float"},
        "clock_window": clocks_window.argument(clocks_window.SHORT_INTERVAL_S),
    }


def main():
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    args = module.params
    if args["backend"] == "nccl":
        args["sizes"] = sorted({*args["sizes"], *args["sizes_nccl"]})
    problem = wrong_argument(args)
    if problem:
        module.fail_json(msg=problem)
    messages = collective_size.messages(args["hidden_size"], args["dtype_bytes"], args["prompt_tokens"])
    args["sizes"] = collective_size.merged(args["sizes"], messages)
    measurement = Measurement("collective", f"{args['op']}.{args['scope']}")
    measurement.context = dict({key: args[key] for key in ("op", "scope", "backend")}, tool="torch", addresses=args["addresses"])
    if collective.needs_no_run(measurement, module.check_mode, args["scope"], args["addresses"]):
        finish(module, measurement)
    interface = prepare(args, measurement)
    if interface:
        measurement.context["interface"] = interface
        with tempfile.TemporaryDirectory(prefix="plumbline-collective-", dir=module.tmpdir) as folder:
            run = run_ranks(args, measurement, folder, interface)
            fill(args, measurement, interface, run)
            judge(args, measurement, folder, interface, run)
    finish(module, measurement)


if __name__ == "__main__":
    marks.belong(marks.measuring())  # reset finds it, and what it started, when its connection is lost
    main()
