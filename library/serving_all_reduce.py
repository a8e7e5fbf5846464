#!/usr/bin/python
"""Ansible module: how long does the serving runtime's own all-reduce take, as decoding runs it?"""

from __future__ import annotations

DOCUMENTATION = r"""
module: serving_all_reduce
short_description: Measure vLLM's own all-reduce of the model's message in a CUDA graph
description:
  - Starts, through C(torchrun) of the serving environment, the ranks of each tensor-parallel group that O(layouts) make, lets vLLM make
    the group as its workers do, and times its all-reduce of C(batch x hidden size) values in a CUDA graph. Returns a fact of kind
    C(collective) named C(serving_all_reduce).
  - Which kernel ran (vLLM's custom one, torch's symmetric memory, NCCL) is seen and not guessed. Every element of every result is checked.
  - On CPU there is no graph; vLLM's shared memory or Gloo is timed launched one by one, and the result says so (C(method)).
  - Groups within a node run on each node that has one. For a group over several nodes call it on all of them at once (one task);
    the first node's fact has the result.
  - What could not be measured is C(skipped) with the reason, ranks that do not come back are C(degraded), a wrong sum is C(failed).
options:
  layouts:
    description: The layouts that will be served, as C(vllm_serve_layouts) has them.
    type: list
    elements: dict
    required: true
  addresses:
    description: Addresses of the nodes that serve, in their order.
    type: list
    elements: str
    required: true
  node_rank:
    description: This node's place in O(addresses).
    type: int
    default: 0
  hidden_size:
    description: The model's hidden size; with V(0) there is no message, and the fact is C(skipped).
    type: int
    required: true
  dtype_bytes:
    description: Bytes of one value of the model's activations.
    type: int
    default: 2
  batches:
    description: Tokens of a step (requests in flight) whose message is measured.
    type: list
    elements: int
    default: [1, 16]
  backend:
    description: V(nccl) on GPUs, V(gloo) on CPU.
    type: str
    default: gloo
    choices: [gloo, nccl]
  torchrun:
    description: Path of torchrun in the environment that has vLLM.
    type: path
    required: true
  serve_extra_args:
    description: Arguments of every layout's server; C(--disable-custom-all-reduce) counts here.
    type: list
    elements: str
    default: []
  serve_env:
    description: The server's environment variables.
    type: dict
    default: {}
  env:
    description: More environment variables, on top of O(serve_env); one without a value is left out.
    type: dict
    default: {}
  interface:
    description: Network interface to use; by default the one that carries this node's address.
    type: str
    default: ''
  master_port:
    description: First TCP port on the first node where ranks of several nodes meet; each further group takes the next one.
    type: int
    default: 29559
  expected_transport:
    description: With NCCL, what C(across) nodes should carry the data. V(IB) sets C(NCCL_NET=IB) for groups over nodes.
    type: dict
    default: {}
  join_timeout_s:
    description: Seconds to wait for the other ranks, and for any single operation.
    type: int
    default: 60
  timeout_s:
    description: Seconds for all groups together, after which everything that was started is ended.
    type: int
    default: 300
attributes:
  check_mode:
    support: full
    description: Nothing is started; the fact is C(skipped).
author: Plumbline
"""

EXAMPLES = r"""
- name: Measure the serving runtime's all-reduce
  serving_all_reduce:
    layouts: "{{ vllm_serve_layouts }}"
    addresses: ["{{ ansible_host }}"]
    hidden_size: 8192
    backend: nccl
    torchrun: /opt/plumbline/vllm/bin/torchrun
"""

RETURN = r"""
fact:
  description:
    - The fact; also in C(ansible_facts.plumbline.collective). Absent on further nodes that have nothing to report.
    - "measured: results (tp, nodes, batch, message_bytes, dtype, time_us, spread_us, method, path, eager_time_us, eager_path, wrong)."
  type: dict
  returned: the first node, nodes with a group of their own, or failure
"""

import glob
import inspect
import os
import shlex
import tempfile
import time

from ansible.module_utils.plumbline.core import marks
from ansible.module_utils.plumbline.core.fact import Measurement
from ansible.module_utils.plumbline.core.module import AnsibleModule
from ansible.module_utils.plumbline.core.scrub import scrub_environment, scrub_text
from ansible.module_utils.plumbline.fabric import torch_command, torch_run, torch_worker, transport
from ansible.module_utils.plumbline.machine import interfaces, net
from ansible.module_utils.plumbline.serving.all_reduce import command, groups, result, serving_worker

NAME = "serving_all_reduce"
SHARED_MEMORY = "/dev/shm"


def wrong_argument(args):
    """Return what is wrong with the arguments taken together, None when nothing is."""
    if not args["addresses"] or len(set(args["addresses"])) != len(args["addresses"]):
        return "addresses must be different ones, at least one, got %s" % args["addresses"]
    if not 0 <= args["node_rank"] < len(args["addresses"]):
        return "node_rank=%d is not the place of one of %d addresses" % (args["node_rank"], len(args["addresses"]))
    if args["hidden_size"] < 0 or not args["batches"] or min(args["batches"]) < 1:
        return "hidden_size must be at least 0 and batches at least 1, got %d and %s" % (args["hidden_size"], args["batches"])
    return None


def way(args, group):
    """Return ``(interface, this node's address towards the group's other nodes or "", None)``, or ``(None, "", why not)``."""
    try:
        if group["nodes"] == 1:
            source, address = torch_command.LOOPBACK, ""
        else:
            others = [item for place, item in enumerate(args["addresses"][: group["nodes"]]) if place != args["node_rank"]]
            source = address = net.local_address(others[0])
        name = args["interface"] or net.interface_of(source)
    except OSError as error:
        return None, "", "no way from here to %s: %s" % (", ".join(args["addresses"]), error)
    if not name or not interfaces.exists(name):
        return None, "", "there is no interface %s on this node" % name if name else "no interface carries the address %s" % source
    return name, address, None


def lacking(args):
    """Return ``(seen, threshold, remedy)`` where there is nothing to measure or nothing to measure it with; None otherwise."""
    if not args["hidden_size"]:
        return "the model's message is not known", "a hidden size", "set fabric_baseline_hidden_size"
    if not os.access(args["torchrun"], os.X_OK):
        return (
            "no executable %s" % args["torchrun"], "torchrun of the environment that serves",
            "install vLLM there or set fabric_baseline_torchrun; in a container image it is not looked for",
        )  # fmt: skip
    return None


def run_group(args, measurement, group, place, limit_s):
    """Run one group's ranks on this node and put what came of them into the measurement."""
    interface, address, problem = way(args, group)
    port = args["master_port"] + place if group["nodes"] > 1 else net.free_port()
    if not problem and group["nodes"] > 1 and args["node_rank"] == 0:
        problem = net.port_error(port)
        problem = problem and "port %d: %s" % (port, problem)
    if problem:
        measurement.add(
            "collective.serving", "skipped", "%s: %s" % (groups.named(group), problem), "a way to the group's other nodes",
            "set fabric_baseline_interface, fabric_baseline_address or fabric_baseline_master_port",
        )  # fmt: skip
        return []
    with tempfile.TemporaryDirectory(prefix="plumbline-serving-reduce-", dir=args["tmpdir"]) as folder:
        given = dict(args, env=command.variables(args, group, address, folder))
        if group["nodes"] == 1:
            given["expected_transport"] = {}  # the network is not in this
        argv = command.argv(args, group, 0 if group["nodes"] == 1 else args["node_rank"], port, limit_s)
        for name, source in ((command.WORKER, serving_worker), ("torch_worker.py", torch_worker)):
            with open(os.path.join(folder, name), "w", encoding="utf-8") as script:
                script.write(inspect.getsource(source))
        shown = scrub_environment(torch_command.given(given, interface))
        if measurement.command is None:
            measurement.command = scrub_text(
                " ".join("%s=%s" % (key, shlex.quote(str(value))) for key, value in sorted(shown.items())) + " " + shlex.join(argv)
            )
            measurement.context["environment"] = {key: value for key, value in shown.items() if folder not in str(value)}
        try:
            ended = torch_run.run(argv, torch_command.environment(given, interface, folder), folder, group["ranks_per_node"], limit_s)
        finally:
            for left in glob.glob(os.path.join(SHARED_MEMORY, serving_worker.SHARED % (port, "*"))):  # ranks that were ended leave it
                os.unlink(left)
        states = torch_run.states(folder)
        log = torch_command.nccl_log(folder)
    keep(measurement, group, states, log)
    result.judge(measurement, group, states, (ended[0], ended[1], scrub_text(ended[2])))
    return result.results(group, states.get(0, {}))


def keep(measurement, group, states, log):
    """Put the versions, what vLLM set up for the group and what carried NCCL's data into the context."""
    first = states.get(0, {})
    for key in ("vllm_version", "torch_version", "gpu", "platform"):
        if first.get(key):
            measurement.context[key] = first[key]
    found = transport.parse(log) if log else None
    measurement.context.setdefault("groups", []).append(
        {
            "group": groups.named(group),
            "communicator": first.get("communicator"),
            "communicators": first.get("communicators"),
            "stage": first.get("stage"),
            "transport": transport.described(found) if found else None,
        }
    )
    if found:
        measurement.context["nccl_version"] = found["nccl_version"]


def measure(args, measurement, found):
    """Measure this node's groups one after the other within the time there is."""
    deadline = time.monotonic() + args["timeout_s"]
    mine, first = [], args["node_rank"] == 0
    for place, group in enumerate(found):
        if args["node_rank"] >= group["used_by"]:
            continue
        if group["nodes"] > len(args["addresses"]):
            seen = "%s: %d node(s) serve" % (groups.named(group), len(args["addresses"]))
            measurement.add("collective.serving", "skipped", seen, "%d nodes" % group["nodes"], "see why the others do not serve")
            continue
        left = int(deadline - time.monotonic())
        if left < 5:
            seen = "%s: the %d s were over" % (groups.named(group), args["timeout_s"])
            measurement.add("collective.serving", "skipped", seen, "time for every group", "raise fabric_baseline_serving_timeout_s")
            continue
        results = run_group(args, measurement, group, place, left)
        if group["nodes"] == 1 or first:  # of a group over nodes the first tells
            mine += results
    return mine


def scope_of(measurement, mine):
    """Return what the fact is about: ``across`` where all that it found wrong, or all that it has, is of several nodes together."""
    wrong = [item for item in mine if item["wrong"]]
    return "across" if (wrong or mine) and all(item["nodes"] > 1 for item in wrong or mine) else "within"


def work(module, measurement, found):
    """Measure, or say why not."""
    args = dict(module.params, tmpdir=module.tmpdir)
    if module.check_mode:
        measurement.add("check_mode", "skipped", "check mode starts nothing")
        return
    problem = lacking(args)
    if not found:
        problem = ("no layout has several ranks in a tensor-parallel group", "a layout with tp of at least 2", None)
    if problem:
        measurement.add("collective.serving", "skipped", *problem)
        return
    mine = measure(args, measurement, found)
    if mine:
        measurement.measured = {
            "ranks": max(item["tp"] for item in mine), "nodes": max(item["nodes"] for item in mine), "results": mine,
        }  # fmt: skip
    measurement.context["scope"] = scope_of(measurement, mine)
    if measurement.context["scope"] == "across":
        measurement.context["addresses"] = args["addresses"][: max(item["nodes"] for item in mine)]


def finish(module, measurement, found):
    """Exit with the fact. A further node that has no group of its own leaves it to the first, unless something is bad."""
    done = measurement.result()
    alone = any(group["nodes"] == 1 for group in groups.of_node(found, module.params["node_rank"]))
    if module.params["node_rank"] > 0 and not alone and done["fact"]["status"] not in ("failed", "incomplete"):
        module.exit_json(changed=False, msg="%s reports" % module.params["addresses"][0])
    module.exit_json(changed=False, **done)


def argument_spec():
    """Return the module's arguments."""
    return {
        "layouts": {"type": "list", "elements": "dict", "required": True},
        "addresses": {"type": "list", "elements": "str", "required": True},
        "node_rank": {"type": "int", "default": 0},
        "hidden_size": {"type": "int", "required": True},
        "dtype_bytes": {"type": "int", "default": 2},
        "batches": {"type": "list", "elements": "int", "default": [1, 16]},
        "backend": {"type": "str", "default": "gloo", "choices": ["gloo", "nccl"]},
        "torchrun": {"type": "path", "required": True},
        "serve_extra_args": {"type": "list", "elements": "str", "default": []},
        "serve_env": {"type": "dict", "default": {}},
        "env": {"type": "dict", "default": {}},
        "interface": {"type": "str", "default": ""},
        "master_port": {"type": "int", "default": 29559},
        "expected_transport": {"type": "dict", "default": {}},
        "join_timeout_s": {"type": "int", "default": 60},
        "timeout_s": {"type": "int", "default": 300},
    }


def main():
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    args = module.params
    problem = wrong_argument(args)
    if problem:
        module.fail_json(msg=problem)
    measurement = Measurement("collective", NAME)
    own = [args["addresses"][args["node_rank"]]]
    measurement.context = {"op": NAME, "scope": "within", "backend": args["backend"], "tool": "vllm", "addresses": own}
    found = groups.groups(args["layouts"], args["serve_extra_args"])
    work(module, measurement, found)
    finish(module, measurement, found)


if __name__ == "__main__":
    marks.belong(marks.measuring())  # reset finds it, and what it started, when its connection is lost
    main()
