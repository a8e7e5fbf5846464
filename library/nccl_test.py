#!/usr/bin/python
"""Ansible module: measure one collective with nccl-tests, and prove which wire carried it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nccl_test
short_description: Measure a collective with nccl-tests and prove its transport
description:
  - Runs C(all_reduce_perf) or C(sendrecv_perf) of nccl-tests over a sweep of message sizes, the model's own messages and a
    point with many cycles, and returns a fact of kind C(collective) named C(nccl_tests.OP.SCOPE).
  - Across nodes through C(mpirun), which this node starts; it needs ssh to the others without a password, by O(ssh_config) or as the
    user has it. Within a node through C(mpirun) too where there is one, else one process drives all GPUs (C(-g N)).
  - Wrong results fail. C(Avg bus bandwidth) is never judged - it averages all sizes and both placements.
  - NCCL's log of the same run says which transport was used. Where InfiniBand is expected, C(NCCL_NET=IB) makes a fallback an error.
  - The GPU clocks of this node are sampled meanwhile, as M(collective_torch) samples them, into C(context.clocks).
  - Times are means, as nccl-tests print them, and are named so; with O(per_iteration) there are medians too.
  - With O(graph_launches) small messages are measured in a CUDA graph as well (C(-G)), which is how decoding launches NCCL. That comes
    last, and the plain numbers stand whatever becomes of it.
options:
  op:
    description: What to measure.
    type: str
    required: true
    choices: [all_reduce, sendrecv]
  scope:
    description: GPUs of one node, or of several nodes.
    type: str
    required: true
    choices: [within, across]
  addresses:
    description: The nodes' addresses, this one first; within a node, its own.
    type: list
    elements: str
    required: true
  ranks_per_node:
    description: GPUs to use on each node; 0 takes as many as this node has.
    type: int
    default: 0
  gpus:
    description:
      - GPUs that each of O(addresses) may use, in their order, as the variable C(plumbline_gpus) has them; empty for all.
      - C(mpirun) gives all nodes one environment, so that nodes with different GPUs are refused.
    type: list
    elements: raw
    default: []
  folder:
    description: Folder of the nccl-tests programs.
    type: path
    default: /opt/nccl-tests/build
  launcher:
    description: V(auto) takes V(mpirun) where it is found, and V(none) within a node otherwise.
    type: str
    choices: [auto, mpirun, none]
    default: auto
  mpirun:
    description: Path of mpirun; by default the first on E(PATH), then where HPC-X and other Open MPI builds put it.
    type: path
  ssh_config:
    description:
      - An ssh_config(5) by which C(mpirun) reaches the other nodes, as M(ssh_key) makes it for one run; by default the user's own set-up.
      - Its folder, with the private key, is removed at the end, however the run ends, so that no key is left where the controller is gone.
      - It goes into the environment, as C(plm_rsh_agent) of Open MPI 4 and HPC-X and C(plm_ssh_agent) of Open MPI 5, with the tree of
        daemons off. O(mca) overrides it.
    type: path
  min_bytes:
    description: Smallest message of the sweep.
    type: int
    default: 8
  max_bytes:
    description: Largest message of the sweep; 0 for no sweep.
    type: int
    default: 17179869184
  factor:
    description: From one size of the sweep to the next.
    type: int
    default: 2
  hidden_size:
    description: The model's hidden size, whose messages are always measured; 0 for none.
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
  point_bytes:
    description: Message size of the point that is repeated; 0 for no point.
    type: int
    default: 0
  point_cycles:
    description: Cycles (C(-N)) of the point, each the mean of O(iterations).
    type: int
    default: 20
  iterations:
    description: Timed operations per size (C(-n)).
    type: int
    default: 20
  warmup:
    description: Operations before them (C(-w)).
    type: int
    default: 5
  check:
    description: Checks of the results per size (C(-c)); with 0 the fact is C(incomplete).
    type: int
    default: 1
  per_iteration:
    description: Time each operation by itself (C(-I 1), nccl-tests 2.19.2 and newer); it adds events between them.
    type: bool
    default: false
  graph_launches:
    description: Launches of a CUDA graph of O(iterations) operations (C(-G)), for small messages besides the plain runs; 0 for none.
    type: int
    default: 0
  graph_max_bytes:
    description: Largest message that is measured in a graph; decoding sends less.
    type: int
    default: 1048576
  test_options:
    description: More options of the test, or others, such as C({-R 1}); one without a value is left out.
    type: dict
    default: {}
  env:
    description: Environment of the ranks (C(-x) of mpirun); a variable without a value is left out.
    type: dict
    default: {}
  mca:
    description: MCA parameters of mpirun; one without a value is left out.
    type: dict
    default: {}
  mpirun_args:
    description: More arguments of mpirun.
    type: list
    elements: str
    default: [--bind-to, none]
  library_path:
    description: Folders put in front of E(LD_LIBRARY_PATH), such as the one of libnccl.so.2.
    type: list
    elements: path
    default: []
  expected_transport:
    description: What C(across) and C(within) nodes should carry the data - V(IB), V(RoCE), V(Socket); V(P2P). Empty is not judged.
    type: dict
    default: {}
  force_socket:
    description: The negative control. TCP on purpose; the fact's name ends in C(forced_socket) and is healthy only if TCP was seen.
    type: bool
    default: false
  thresholds:
    description: Thresholds and expectations with their source; docs/fabric.md describes the keys.
    type: list
    elements: dict
    default: []
  interface:
    description: Ethernet interface whose counter is read; by default the one that carries this node's address.
    type: str
    default: ''
  clock_window:
    description:
      - How GPU clocks are watched during the runs; see C(module_utils/plumbline/clocks/window.py). Without a GPU nothing is started.
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
  output_dir:
    description: Where to keep each run's text and JSON, without the environment and secrets. By default nothing is kept.
    type: path
  timeout_s:
    description: Seconds after which everything that was started is ended.
    type: int
    default: 900
attributes:
  check_mode:
    support: full
    description: Nothing is started; the fact is C(skipped).
author: Plumbline
"""

EXAMPLES = r"""
- name: All-reduce over the GPUs of this node, without MPI
  nccl_test:
    op: all_reduce
    scope: within
    addresses: ["{{ ansible_host }}"]
    launcher: none
    max_bytes: 8589934592
    hidden_size: 8192
    prompt_tokens: [57]

- name: The study's point over two nodes
  nccl_test:
    op: all_reduce
    scope: across
    addresses: [10.0.0.4, 10.0.0.5]
    ranks_per_node: 8
    max_bytes: 0
    point_bytes: 8589934592
    test_options: {-R: 1}
    expected_transport: {across: IB}
"""

RETURN = r"""
ansible_facts:
  description: The fact under C(plumbline.collective); shape in C(docs/schema/collective.schema.json).
  returned: always
  type: dict
fact:
  description: The same fact.
  returned: always
  type: dict
"""

import json
import os
import shlex
import tempfile
import time
from typing import NamedTuple

from ansible.module_utils.plumbline.clocks import window as clocks_window
from ansible.module_utils.plumbline.core import marks
from ansible.module_utils.plumbline.core.counters import difference
from ansible.module_utils.plumbline.core.fact import Measurement
from ansible.module_utils.plumbline.core.files import write_atomically
from ansible.module_utils.plumbline.core.module import AnsibleModule
from ansible.module_utils.plumbline.core.scrub import scrub_environment, scrub_text
from ansible.module_utils.plumbline.fabric import collective, transport
from ansible.module_utils.plumbline.fabric import sizes as collective_size
from ansible.module_utils.plumbline.fabric.nccl import command as nccl_command
from ansible.module_utils.plumbline.fabric.nccl import graph as nccl_graph
from ansible.module_utils.plumbline.fabric.nccl import judge as nccl_judge
from ansible.module_utils.plumbline.fabric.nccl import output as nccl_output
from ansible.module_utils.plumbline.fabric.nccl import ready as nccl_ready
from ansible.module_utils.plumbline.fabric.nccl import run as nccl_run
from ansible.module_utils.plumbline.machine import net, ssh


def wrong_argument(args):
    """Return what is wrong with the arguments taken together, None when nothing is."""
    problem = collective.wrong_addresses(args["scope"], args["addresses"])
    if problem:
        return problem
    if args["scope"] == "across" and args["launcher"] == "none":
        return "launcher=none runs on one node: across nodes nccl-tests need mpirun"
    if args["ranks_per_node"] < 0:
        return "ranks_per_node must be 0 (all GPUs) or more, got %d" % args["ranks_per_node"]
    if args["graph_launches"] < 0:
        return "graph_launches must be 0 (none) or more, got %d" % args["graph_launches"]
    for key in ("iterations", "point_cycles"):
        if args[key] < 1:
            return "%s must be at least 1, got %d" % (key, args[key])
    if not args["max_bytes"] and not args["point_bytes"]:
        return "max_bytes and point_bytes are 0: there is nothing to measure"
    unknown = set(args["expected_transport"]) - {"across", "within"}
    if unknown:
        return "expected_transport has %s; it takes across and within" % ", ".join(sorted(unknown))
    problem = nccl_judge.wrong_threshold(args["thresholds"])
    if problem:
        return problem
    try:
        if args["max_bytes"]:
            collective_size.grid(args["min_bytes"], args["max_bytes"], args["factor"])
        collective_size.messages(args["hidden_size"], args["dtype_bytes"], args["prompt_tokens"])
    except ValueError as error:
        return str(error)
    return None


def plan_of(args):
    """Return ``(plan, the model's messages)``: the grid, the sizes off it, the point."""
    sizes = collective_size.grid(args["min_bytes"], args["max_bytes"], args["factor"]) if args["max_bytes"] else []
    messages = collective_size.messages(args["hidden_size"], args["dtype_bytes"], args["prompt_tokens"])
    extra = sorted({item["size_bytes"] for item in messages} - set(sizes))
    plan = {
        "sizes": sizes, "factor": args["factor"], "extra": extra, "point_bytes": args["point_bytes"], "cycles": args["point_cycles"],
        "iterations": args["iterations"], "warmup": args["warmup"], "check": args["check"], "per_iteration": args["per_iteration"],
        # A negative control shows what a fallback costs, and no more.
        "graph_launches": 0 if args["force_socket"] else args["graph_launches"], "graph_max_bytes": args["graph_max_bytes"],
    }  # fmt: skip
    return plan, messages


def environment(args, expected):
    """Return the ranks' environment: what proves the transport, what the inventory gives, and the control's."""
    env = dict(transport.LOG_ENVIRONMENT)
    if expected.get("across") == "IB":
        env["NCCL_NET"] = "IB"  # a fallback is then an error and not a slow run
    env.update(args["env"])
    if args["force_socket"]:
        env.update(transport.SOCKET_ENVIRONMENT)
    return nccl_command.given(env)


def check_options(args, ready, measurement):
    """Add a reason for what this build of nccl-tests cannot do; return whether it can go on."""
    wanted = {"-N": "run_cycles"} if args["point_bytes"] else {}
    if args["per_iteration"]:
        wanted["-I"] = "per_iter_timing"
    lacking = [key for key in wanted if key[1:] not in ready["options"]]
    if lacking:
        measurement.add(
            "collective.program", "failed", "this build has no option %s" % ", ".join(lacking),
            "nccl-tests 2.13 (-N), 2.19.2 (-I) or newer", "install a newer nccl-tests, or leave the option out",
        )  # fmt: skip
    topology = args["env"].get("NCCL_TOPO_FILE")
    if topology and not os.path.isfile(str(topology)):
        measurement.add(
            "collective.topology", "degraded", "NCCL_TOPO_FILE=%s is not there" % topology, "the topology file of this SKU",
            "install it on every node (in a container: mount it), or set NCCL_TOPO_FILE to where it is",
        )  # fmt: skip
    return not lacking


def interface_of(args):
    """Return the Ethernet interface whose counter to read, None when it is not known."""
    if args["interface"]:
        return args["interface"]
    try:
        source = net.local_address(args["addresses"][1]) if len(args["addresses"]) > 1 else args["addresses"][0]
        return net.interface_of(source)
    except OSError:
        return None


def argv_of(args, ready, run, env, folder):
    """Return the argv of one run."""
    alone = ready["launcher"] == "none"
    test = nccl_command.test_argv(ready["program"], ready["ranks_per_node"] if alone else 1, run, args["test_options"], folder)
    if alone:
        return test
    hosts = None
    if len(args["addresses"]) > 1:
        hosts = os.path.join(folder, "hostfile")
        with open(hosts, "w", encoding="utf-8") as stream:
            stream.write(nccl_command.hostfile(args["addresses"], ready["ranks_per_node"]))
    exported = [name for name in nccl_command.EXPORTED if name in ready["base"] and name not in env]
    return (
        nccl_command.mpirun_argv(
            ready["mpirun"], len(args["addresses"]), ready["ranks_per_node"], hosts, args["mca"], args["mpirun_args"], env, exported,
            os.geteuid() == 0,
        )
        + test
    )  # fmt: skip


def keep(args, name, run, text, document):
    """Keep a run's output without the environment and secrets, if asked to."""
    if not args["output_dir"]:
        return
    stem = os.path.join(args["output_dir"], "%s.%s" % (name, run["what"].replace(" ", "_")))
    write_atomically(stem + ".txt", scrub_text(text))
    if document is not None:
        write_atomically(stem + ".json", json.dumps(nccl_output.scrubbed(document), indent=1))


def execute(args, ready, runs, env, folder, measurement):
    """Run one after the other until one fails; return ``([(run, result)], everything printed, why no run in a graph ended well)``."""
    deadline = time.monotonic() + args["timeout_s"]
    whole_env = dict(ready["base"], **(env if ready["launcher"] == "none" else {}))
    results, log, graph_ended = [], [], None
    for run in runs:
        argv = argv_of(args, ready, run, env, folder)
        if measurement.command is None:
            before = env if ready["launcher"] == "none" else ready["agent"]
            words = ["%s=%s" % (key, shlex.quote(value)) for key, value in sorted(before.items())] + [shlex.join(argv)]
            measurement.command = scrub_text(" ".join(words))
        left = deadline - time.monotonic()
        status, took_s, text = nccl_run.run(argv, whole_env, folder, min(left, nccl_graph.LIMIT_S) if run.get("graph") else left)
        document, problem = nccl_run.document(text, run["json"], folder)
        result = nccl_output.combined(text, document)
        if problem and status == 0:
            result["problems"].append(problem)
        results.append((run, result))
        log.append(text)
        keep(args, measurement.name, run, text, document)
        if status != 0:
            ended = "was not done after %.0f s" % took_s if status is None else "ended with status %d after %.0f s" % (status, took_s)
            seen = "the run of %s %s: %s" % (run["what"], ended, nccl_run.cause(text))
            if run.get("graph"):
                graph_ended = seen
                break
            measurement.add(
                "collective.run", "failed", seen,
                "every run ends with status 0 within %d s" % args["timeout_s"],
                "run the fact's command on this node to see everything it says; fabric_baseline_nccl_timeout_s gives it more time",
            )  # fmt: skip
            break
    return results, "\n".join(log), graph_ended


class Runs(NamedTuple):
    """What all runs left."""

    results: list  # (run, result) in order
    log: str  # everything printed
    counters: dict  # bytes that each port and interface sent meanwhile
    interface: str | None  # the Ethernet one among them
    window: clocks_window.Window  # of this node's GPU clocks
    graph_ended: str | None  # why a run in a CUDA graph did not end well


def run_all(args, measurement, ready, env, plan, folder):
    """Run everything between two readings of the ports' counters, with the clocks watched; return the :class:`Runs`."""
    interface = interface_of(args)
    runs = nccl_command.runs(plan, "J" in ready["options"])
    runs = [run for run in runs if not run.get("graph") or nccl_graph.OPTION in ready["options"]]
    before = transport.snapshot(interface)
    window = clocks_window.watch(args["clock_window"], nodes=len(args["addresses"]))
    with window:
        results, log, graph_ended = execute(args, ready, runs, env, folder, measurement)
    return Runs(results, log, difference(before, transport.snapshot(interface)), interface, window, graph_ended)


def fill(measurement, ranks, nodes, messages, done):
    """Put what was measured, and what says so, into the measurement."""
    op = measurement.context["op"]
    measurement.measured = nccl_judge.measured(op, ranks, nodes, done.results)
    if messages:
        measurement.measured["messages"] = messages
    first = done.results[0][1]
    measurement.context.update(
        interface=done.interface,
        link_rate_gbit_s=net.line_rate_gbit_s(done.interface) if done.interface else None,
        nccl_tests_version=first["tests_version"],
        output_format=first["format"],
        gpu=sorted({item["name"] for item in first["devices"] if item["name"]}),
        hosts=sorted({item["host"] for item in first["devices"] if item["host"]}),
        sent_bytes=done.counters,
        expected_bytes=nccl_judge.traffic(op, ranks, nodes, done.results),
    )


def measure(args, measurement, ready, folder):
    """Run everything, fill the measurement in and judge it."""
    expected = dict(args["expected_transport"], **({"across": "Socket"} if args["force_socket"] else {}))
    env = dict(ready["gpus"], **environment(args, expected))
    plan, messages = plan_of(args)
    op, nodes = args["op"], len(args["addresses"])
    ranks = nodes * ready["ranks_per_node"]
    done = run_all(args, measurement, ready, env, plan, folder)
    fill(measurement, ranks, nodes, messages, done)
    found = transport.parse(done.log)
    measurement.context.update(
        launcher=ready["launcher"],
        environment=scrub_environment(env),
        nccl_version=done.results[0][1]["nccl_version"] or found["nccl_version"],
        transport=transport.summary(found, done.counters, expected),
    )
    done.window.attach(measurement)
    plain, in_graph = nccl_graph.split(done.results)
    nccl_judge.judge_completeness(measurement, plain)
    nccl_judge.judge_values(measurement, op, plain + nccl_graph.whole(in_graph))
    nccl_judge.judge_devices(measurement, plain, ranks, nodes)
    place = nccl_judge.placement_of(op, ranks)
    nccl_graph.judge(measurement, ready["options"], nccl_graph.runs(plan), place, in_graph, done.graph_ended)
    transport.judge(measurement, found, expected, nodes, ranks)
    expected_bytes = measurement.context["expected_bytes"]
    transport.judge_counters(measurement, done.counters, done.interface, expected_bytes, expected.get("across"))
    if args["force_socket"]:
        measurement.add("collective.baseline", "skipped", "a negative control has no baseline")
    elif measurement.measured.get("sweep") or measurement.measured.get("point"):
        nccl_judge.judge_thresholds(measurement, args["thresholds"], op, args["scope"])


def argument_spec():
    """Return the module's arguments."""
    return {
        "op": {"type": "str", "required": True, "choices": list(collective.OPS)},
        "scope": {"type": "str", "required": True, "choices": list(collective.SCOPES)},
        "addresses": {"type": "list", "elements": "str", "required": True},
        "ranks_per_node": {"type": "int", "default": 0},
        "gpus": {"type": "list", "elements": "raw", "default": []},
        "folder": {"type": "path", "default": "/opt/nccl-tests/build"},
        "launcher": {"type": "str", "choices": ["auto", "mpirun", "none"], "default": "auto"},
        "mpirun": {"type": "path"},
        "ssh_config": {"type": "path"},
        "min_bytes": {"type": "int", "default": 8},
        "max_bytes": {"type": "int", "default": 17179869184},
        "factor": {"type": "int", "default": 2},
        "hidden_size": {"type": "int", "default": 0},
        "dtype_bytes": {"type": "int", "default": 2},
        "prompt_tokens": {"type": "list", "elements": "int", "default": []},
        "point_bytes": {"type": "int", "default": 0},
        "point_cycles": {"type": "int", "default": 20},
        "iterations": {"type": "int", "default": 20},
        "warmup": {"type": "int", "default": 5},
        "check": {"type": "int", "default": 1},
        "per_iteration": {"type": "bool", "default": False},
        "graph_launches": {"type": "int", "default": 0},
        "graph_max_bytes": {"type": "int", "default": 1048576},
        "test_options": {"type": "dict", "default": {}},
        "env": {"type": "dict", "default": {}},
        "mca": {"type": "dict", "default": {}},
        "mpirun_args": {"type": "list", "elements": "str", "default": ["--bind-to", "none"]},
        "library_path": {"type": "list", "elements": "path", "default": []},
        "expected_transport": {"type": "dict", "default": {}},
        "force_socket": {"type": "bool", "default": False},
        "thresholds": {"type": "list", "elements": "dict", "default": []},
        "interface": {"type": "str", "default": ""},
        "clock_window": clocks_window.argument(clocks_window.SHORT_INTERVAL_S),
        "output_dir": {"type": "path"},
        "timeout_s": {"type": "int", "default": 900},
    }


def work(module, measurement):
    """Measure, or say why not; return whether outputs were kept on this node."""
    args = module.params
    if collective.needs_no_run(measurement, module.check_mode, args["scope"], args["addresses"]):
        return False
    try:
        ready = nccl_ready.prepare(args)
    except nccl_ready.NotReady as missing:
        measurement.add(*missing.args)
        return False
    if not check_options(args, ready, measurement):
        return False
    with tempfile.TemporaryDirectory(prefix="plumbline-nccl-", dir=module.tmpdir) as folder:
        measure(args, measurement, ready, folder)
    return bool(args["output_dir"])


def main():
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    args = module.params
    problem = wrong_argument(args)
    if problem:
        module.fail_json(msg=problem)
    name = "nccl_tests.%s.%s%s" % (args["op"], args["scope"], ".forced_socket" if args["force_socket"] else "")
    measurement = Measurement("collective", name)
    measurement.context = {
        "op": args["op"], "scope": args["scope"], "backend": "nccl", "tool": "nccl-tests", "addresses": args["addresses"],
        "control": "forced socket" if args["force_socket"] else None,
    }  # fmt: skip
    try:
        changed = work(module, measurement)
    finally:
        if args["ssh_config"] and not module.check_mode:
            ssh.forget(args["ssh_config"])
    module.exit_json(changed=changed, **measurement.result())


if __name__ == "__main__":
    marks.belong(marks.measuring())  # reset finds it, and what it started, when its connection is lost
    main()
