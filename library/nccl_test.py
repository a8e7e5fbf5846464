#!/usr/bin/python
"""Ansible module: measure one collective with nccl-tests, and prove which wire carried it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: nccl_test
short_description: Measure a collective with nccl-tests and prove its transport
description:
  - Runs C(all_reduce_perf) or C(sendrecv_perf) of nccl-tests over a sweep of message sizes, the model's own messages and a
    point with many cycles, and returns a fact of kind C(collective) named C(nccl_tests.OP.SCOPE).
  - Across nodes through C(mpirun), which this node starts; it needs ssh to the others without a password. Within a node through
    C(mpirun) too where there is one, else one process drives all GPUs (C(-g N)).
  - Wrong results fail. C(Avg bus bandwidth) is never judged - it averages all sizes and both placements.
  - NCCL's log of the same run says which transport was used. Where InfiniBand is expected, C(NCCL_NET=IB) makes a fallback an error.
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

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.plumbline.core.fact import Measurement
from ansible.module_utils.plumbline.core.scrub import scrub_text
from ansible.module_utils.plumbline.fabric import collective, transport
from ansible.module_utils.plumbline.fabric import sizes as collective_size
from ansible.module_utils.plumbline.fabric.nccl import command as nccl_command
from ansible.module_utils.plumbline.fabric.nccl import judge as nccl_judge
from ansible.module_utils.plumbline.fabric.nccl import output as nccl_output
from ansible.module_utils.plumbline.fabric.nccl import run as nccl_run
from ansible.module_utils.plumbline.machine import net


def wrong_argument(args):
    """Return what is wrong with the arguments taken together, None when nothing is."""
    nodes = len(args["addresses"])
    if args["scope"] == "within" and nodes != 1:
        return "scope=within takes one address, got %d: %s" % (nodes, args["addresses"])
    if args["scope"] == "across" and (nodes < 1 or len(set(args["addresses"])) != nodes):
        return "scope=across takes different addresses, got %s" % args["addresses"]
    if args["scope"] == "across" and args["launcher"] == "none":
        return "launcher=none runs on one node: across nodes nccl-tests need mpirun"
    if args["ranks_per_node"] < 0:
        return "ranks_per_node must be 0 (all GPUs) or more, got %d" % args["ranks_per_node"]
    for key in ("iterations", "point_cycles"):
        if args[key] < 1:
            return "%s must be at least 1, got %d" % (key, args[key])
    if not args["max_bytes"] and not args["point_bytes"]:
        return "max_bytes and point_bytes are 0: there is nothing to measure"
    unknown = set(args["expected_transport"]) - {"across", "within"}
    if unknown:
        return "expected_transport has %s; it takes across and within" % ", ".join(sorted(unknown))
    for item in args["thresholds"]:
        missing = {"op", "scope", "size_bytes"} - set(item)
        one = {"min_busbw_gbps", "expect_busbw_gbps", "expect_time_us"} & set(item)
        if missing or len(one) != 1:
            return "threshold %s: needs op, scope, size_bytes and exactly one of min_busbw_gbps, expect_busbw_gbps, expect_time_us" % item
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


def choose_launcher(args, fact):
    """Return ``(launcher, path of mpirun)``, or None after saying what is missing."""
    path = nccl_command.find_mpirun(args["mpirun"], os.environ.get("PATH", ""))
    if args["launcher"] == "none" or (args["launcher"] == "auto" and not path and args["scope"] == "within"):
        return "none", None
    if not path:
        where = "at %s" % args["mpirun"] if args["mpirun"] else "on PATH, in HPC-X or /usr/mpi"
        fact.add(
            "collective.mpirun", "failed", "no mpirun %s" % where,
            "Open MPI on the first node", "install Open MPI or HPC-X, or set fabric_baseline_nccl_mpirun",
        )  # fmt: skip
        return None
    return "mpirun", path


def prepare(args, fact):
    """Return what the runs need, or None after saying what is missing on this node."""
    program = os.path.join(args["folder"], nccl_command.PROGRAMS[args["op"]])
    present = nccl_run.gpus()
    ranks_per_node = args["ranks_per_node"] or present
    if not present:
        fact.add("collective.gpu", "skipped", "no GPU", "an NVIDIA GPU")
        return None
    if ranks_per_node > present:
        fact.add(
            "collective.gpu", "failed", "%d GPU(s)" % present, "%d GPUs on each node" % ranks_per_node,
            "see the health verdict of this node: a GPU is missing",
        )  # fmt: skip
        return None
    if not os.access(program, os.X_OK):
        fact.add(
            "collective.program", "failed", "no executable %s" % program, "nccl-tests, built with MPI=1 for more than one node",
            "install nccl-tests there (the Azure HPC image has /opt/nccl-tests/build) or set fabric_baseline_nccl_folder",
        )  # fmt: skip
        return None
    chosen = choose_launcher(args, fact)
    if not chosen:
        return None
    launcher, mpirun = chosen
    base = nccl_command.base_environment(os.environ, args["library_path"], mpirun)
    usage, problem = nccl_run.usage(program, base)
    if problem:
        fact.add(
            "collective.program", "failed", "%s does not start: %s" % (program, problem), "a usage text from -h",
            "set fabric_baseline_nccl_library_path to the folders of its libraries (libnccl.so.2, libcudart, libmpi)",
        )  # fmt: skip
        return None
    unreachable = [
        "%s: %s" % (address, why)
        for address in (args["addresses"][1:] if launcher == "mpirun" else [])
        for why in [nccl_run.reaches(address, base)]
        if why
    ]
    if unreachable:
        fact.add(
            "collective.ssh", "failed", "; ".join(unreachable), "ssh without a password from the first node to each other node",
            "give the first node's user a key that the others accept, and their host keys; see roles/fabric_baseline/README.md",
        )  # fmt: skip
        return None
    return {
        "program": program, "launcher": launcher, "mpirun": mpirun, "base": base, "ranks_per_node": ranks_per_node,
        "options": nccl_output.supported(usage),
    }  # fmt: skip


def check_options(args, ready, fact):
    """Add a reason for what this build of nccl-tests cannot do; return whether it can go on."""
    wanted = {"-N": "run_cycles"} if args["point_bytes"] else {}
    if args["per_iteration"]:
        wanted["-I"] = "per_iter_timing"
    lacking = [key for key in wanted if key[1:] not in ready["options"]]
    if lacking:
        fact.add(
            "collective.program", "failed", "this build has no option %s" % ", ".join(lacking),
            "nccl-tests 2.13 (-N), 2.19.2 (-I) or newer", "install a newer nccl-tests, or leave the option out",
        )  # fmt: skip
    topology = args["env"].get("NCCL_TOPO_FILE")
    if topology and not os.path.isfile(str(topology)):
        fact.add(
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
    os.makedirs(args["output_dir"], exist_ok=True)
    stem = os.path.join(args["output_dir"], "%s.%s" % (name, run["what"].replace(" ", "_")))
    with open(stem + ".txt", "w", encoding="utf-8") as stream:
        stream.write(scrub_text(text))
    if document is not None:
        with open(stem + ".json", "w", encoding="utf-8") as stream:
            json.dump(nccl_output.scrubbed(document), stream, indent=1)


def execute(args, ready, runs, env, folder, fact):
    """Run one after the other until one fails; return ``([(run, result)], everything printed, whether all ended well)``."""
    deadline = time.monotonic() + args["timeout_s"]
    whole_env = dict(ready["base"], **(env if ready["launcher"] == "none" else {}))
    results, log = [], []
    for run in runs:
        argv = argv_of(args, ready, run, env, folder)
        if fact.command is None:
            shown = shlex.join(argv)
            if ready["launcher"] == "none":
                shown = " ".join("%s=%s" % (key, shlex.quote(value)) for key, value in sorted(env.items())) + " " + shown
            fact.command = scrub_text(shown)
        status, took_s, text = nccl_run.run(argv, whole_env, folder, deadline - time.monotonic())
        document, problem = nccl_run.document(text, run["json"], folder)
        result = nccl_output.combined(text, document)
        if problem and status == 0:
            result["problems"].append(problem)
        results.append((run, result))
        log.append(text)
        keep(args, fact.name, run, text, document)
        if status != 0:
            ended = "was not done after %.0f s" % took_s if status is None else "ended with status %d after %.0f s" % (status, took_s)
            fact.add(
                "collective.run", "failed", "the run of %s %s: %s" % (run["what"], ended, nccl_run.cause(text)),
                "every run ends with status 0 within %d s" % args["timeout_s"],
                "run the fact's command on this node to see everything it says; fabric_baseline_nccl_timeout_s gives it more time",
            )  # fmt: skip
            return results, "\n".join(log), False
    return results, "\n".join(log), True


def measure(args, fact, ready, folder):
    """Run everything and fill the fact in."""
    expected = dict(args["expected_transport"], **({"across": "Socket"} if args["force_socket"] else {}))
    env = environment(args, expected)
    plan, messages = plan_of(args)
    op, nodes = args["op"], len(args["addresses"])
    ranks = nodes * ready["ranks_per_node"]
    interface = interface_of(args)

    before = transport.snapshot(interface)
    runs = nccl_command.runs(plan, "J" in ready["options"])
    results, log, _ended = execute(args, ready, runs, env, folder, fact)
    counters = net.difference(before, transport.snapshot(interface))

    fact.measured = nccl_judge.measured(op, ranks, nodes, results)
    fact.measured["messages"] = messages
    found = transport.parse(log)
    expected_bytes = nccl_judge.traffic(op, ranks, nodes, results)
    first = results[0][1]
    fact.context.update(
        interface=interface,
        launcher=ready["launcher"],
        environment={key: scrub_text(value) for key, value in sorted(env.items())},
        nccl_version=first["nccl_version"] or found["nccl_version"],
        nccl_tests_version=first["tests_version"],
        output_format=first["format"],
        gpu=sorted({item["name"] for item in first["devices"] if item["name"]}),
        hosts=sorted({item["host"] for item in first["devices"] if item["host"]}),
        transport=transport.summary(found, counters, expected),
        sent_bytes=counters,
        expected_bytes=expected_bytes,
    )
    nccl_judge.judge_completeness(fact, results)
    nccl_judge.judge_values(fact, op, results)
    nccl_judge.judge_devices(fact, results, ranks, nodes)
    transport.judge(fact, found, expected, nodes, ranks)
    transport.judge_counters(fact, counters, interface, expected_bytes, expected.get("across"))
    if args["force_socket"]:
        fact.add("collective.baseline", "skipped", "a negative control has no baseline")
    elif fact.measured.get("sweep") or fact.measured.get("point"):
        nccl_judge.judge_thresholds(fact, args["thresholds"], op, args["scope"])


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "op": {"type": "str", "required": True, "choices": list(collective.OPS)},
            "scope": {"type": "str", "required": True, "choices": list(collective.SCOPES)},
            "addresses": {"type": "list", "elements": "str", "required": True},
            "ranks_per_node": {"type": "int", "default": 0},
            "folder": {"type": "path", "default": "/opt/nccl-tests/build"},
            "launcher": {"type": "str", "choices": ["auto", "mpirun", "none"], "default": "auto"},
            "mpirun": {"type": "path"},
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
            "test_options": {"type": "dict", "default": {}},
            "env": {"type": "dict", "default": {}},
            "mca": {"type": "dict", "default": {}},
            "mpirun_args": {"type": "list", "elements": "str", "default": ["--bind-to", "none"]},
            "library_path": {"type": "list", "elements": "path", "default": []},
            "expected_transport": {"type": "dict", "default": {}},
            "force_socket": {"type": "bool", "default": False},
            "thresholds": {"type": "list", "elements": "dict", "default": []},
            "interface": {"type": "str", "default": ""},
            "output_dir": {"type": "path"},
            "timeout_s": {"type": "int", "default": 900},
        },
        supports_check_mode=True,
    )
    args = module.params
    problem = wrong_argument(args)
    if problem:
        module.fail_json(msg=problem)
    name = "nccl_tests.%s.%s%s" % (args["op"], args["scope"], ".forced_socket" if args["force_socket"] else "")
    fact = Measurement("collective", name)
    fact.context = {
        "op": args["op"], "scope": args["scope"], "backend": "nccl", "tool": "nccl-tests", "addresses": args["addresses"],
        "control": "forced socket" if args["force_socket"] else None,
    }  # fmt: skip
    changed = False
    if module.check_mode:
        fact.add("check_mode", "skipped", "a collective starts processes, which check mode does not do")
    elif args["scope"] == "across" and len(args["addresses"]) < 2:
        fact.add(
            "collective.nodes", "skipped", "one serving node: there is nothing to measure across", "two nodes",
            "if more nodes should serve, see why they were not selected",
        )  # fmt: skip
    else:
        ready = prepare(args, fact)
        if ready and check_options(args, ready, fact):
            changed = bool(args["output_dir"])
            with tempfile.TemporaryDirectory(prefix="plumbline-nccl-", dir=module.tmpdir) as folder:
                measure(args, fact, ready, folder)
    module.exit_json(changed=changed, **fact.result())


if __name__ == "__main__":
    main()
