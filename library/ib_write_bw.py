#!/usr/bin/python
"""Ansible module: InfiniBand bandwidth of every port between two nodes, by perftest's ib_write_bw."""

from __future__ import annotations

DOCUMENTATION = r"""
module: ib_write_bw
short_description: Measure every InfiniBand port between two nodes at once
description:
  - Call it on both nodes at once (one task). The second node (O(rank)=1) starts one ib_write_bw server for each of its ports,
    the first one a client for each of its own, which meets the port of the same name. Returns a fact of kind C(link); only
    rank 0 has the rates, rank 1 returns one when it has something bad to say.
  - Ports are those whose link layer is InfiniBand. Without any, the fact is C(skipped), or C(failed) where O(expected_ports)
    says that there should be some.
options:
  nodes:
    description: Names of the two nodes in rank order.
    type: list
    elements: str
    required: true
  addresses:
    description: Their addresses, over which the two sides meet (TCP); the data goes over InfiniBand.
    type: list
    elements: str
    required: true
  rank:
    description: This node's place, 0 (client) or 1 (server).
    type: int
    required: true
  round:
    description: Number of the round, for the fact.
    type: int
    default: 1
  command:
    description: Path or name of ib_write_bw; a name is looked for in PATH and in the folders of Azure's images.
    type: str
    default: ib_write_bw
  devices:
    description: Devices to measure; empty takes all.
    type: list
    elements: str
    default: []
  size:
    description: Message size in bytes.
    type: int
    default: 8388608
  duration_s:
    description: Seconds that each port runs; perftest leaves out the first and the last two.
    type: int
    default: 10
  timeout_s:
    description: Seconds after which everything that was started is killed.
    type: int
    default: 60
  tcp_port:
    description: First of the TCP ports on which the two sides meet.
    type: int
    default: 18515
  cuda:
    description: Put the buffers into GPU memory, GPU n for the n-th port (needs an ib_write_bw with CUDA).
    type: bool
    default: false
  min_gbit_s:
    description: Every port must average this, in 10^9 bits/s; without it the fact says that no baseline is known.
    type: float
  expected_ports:
    description: How many ports the node should have.
    type: int
attributes:
  check_mode:
    support: full
    description: Nothing is started; the fact is C(skipped).
author: [Plumbline]
"""

EXAMPLES = r"""
- name: Measure every port between node1 and node2
  ib_write_bw:
    nodes: [node1, node2]
    addresses: [10.0.0.4, 10.0.0.5]
    rank: "{{ ['node1', 'node2'].index(inventory_hostname) }}"
    min_gbit_s: 380
    expected_ports: 8
"""

RETURN = r"""
fact:
  description:
    - The fact; also in C(ansible_facts.plumbline.link). Its name is C(ib.<first>.<second>), C(ib) where nothing was measured.
    - "measured: ports (port, bandwidth_gbit_s), bandwidth_gbit_s (the lowest), size_bytes."
  type: dict
  returned: rank 0, or failure, or no InfiniBand
"""

import tempfile

from ansible.module_utils.plumbline.core import marks
from ansible.module_utils.plumbline.core.fact import Measurement
from ansible.module_utils.plumbline.core.module import AnsibleModule
from ansible.module_utils.plumbline.fabric import pairs as pairwise
from ansible.module_utils.plumbline.fabric.perftest import output as perftest
from ansible.module_utils.plumbline.fabric.perftest import run as perftest_run


def right_ports(measurement, ports, expected):
    """Return whether the node has the ports that it should; say in the fact what is wrong otherwise."""
    if not ports and not expected:
        measurement.add("link.ports", "skipped", "no InfiniBand")
    elif expected and len(ports) != expected:
        measurement.add(
            "link.ports",
            "failed",
            "%d InfiniBand ports%s" % (len(ports), ": " + ", ".join(ports) if ports else ""),
            "%d ports whose link layer is InfiniBand" % expected,
            "look at lspci, ibstat and /sys/class/infiniband: a missing card, an unloaded driver or a port set to Ethernet",
        )
    return not measurement.reasons


def measure(args, measurement, ports, program, folder):
    """Run this node's side and fill the measurement in."""
    offsets = perftest.offsets(ports)
    peer = args["addresses"][1 - args["rank"]]
    commands = {
        port: perftest.command(
            program, port, args["tcp_port"] + offsets[port], args["size"], args["duration_s"],
            cuda_device=number if args["cuda"] else None,
            server=peer if args["rank"] == 0 else None,
            numa_node=perftest_run.numa_node(port),
        )
        for number, port in enumerate(ports)
    }  # fmt: skip
    measurement.command = perftest_run.shown(commands)
    done = perftest_run.run(commands, folder, args["timeout_s"], retry=args["rank"] == 0)
    if args["rank"] == 1:
        for port, item in done.items():
            if item["status"] != 0:
                ended = "nobody came within %d s" % args["timeout_s"] if item["timed_out"] else "status %s" % item["status"]
                measurement.add(
                    "link.%s" % port, "incomplete", "the server of %s: %s: %s" % (port, ended, perftest.telling_line(item["text"])),
                    "a client's measurement", "look at the same task on %s" % peer,
                )  # fmt: skip
        return
    outcomes = {port: perftest_run.outcome(item, args["size"], args["timeout_s"]) for port, item in done.items()}
    rates = [item["gbit_s"] for item in outcomes.values()]
    measurement.measured = {
        "size_bytes": args["size"],
        "ports": [{"port": port, "bandwidth_gbit_s": item["gbit_s"]} for port, item in outcomes.items()],
        "bandwidth_gbit_s": None if None in rates else min(rates),
    }
    for port, item in outcomes.items():
        perftest.judge_port(measurement, port, item, args["min_gbit_s"], args["nodes"][1])


def finish(module, measurement):
    """Exit with the fact; the server leaves it to the client when all is well."""
    result = measurement.result()
    if module.params["rank"] == 1 and measurement.context.get("nodes") and not measurement.reasons:
        module.exit_json(changed=False, msg="the servers are done; %s reports" % module.params["nodes"][0])
    module.exit_json(changed=False, **result)


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "nodes": {"type": "list", "elements": "str", "required": True},
            "addresses": {"type": "list", "elements": "str", "required": True},
            "rank": {"type": "int", "required": True},
            "round": {"type": "int", "default": 1},
            "command": {"type": "str", "default": "ib_write_bw"},
            "devices": {"type": "list", "elements": "str", "default": []},
            "size": {"type": "int", "default": 8388608},
            "duration_s": {"type": "int", "default": 10},
            "timeout_s": {"type": "int", "default": 60},
            "tcp_port": {"type": "int", "default": 18515},
            "cuda": {"type": "bool", "default": False},
            "min_gbit_s": {"type": "float"},
            "expected_ports": {"type": "int"},
        },
        supports_check_mode=True,
    )
    args = module.params
    if len(set(args["nodes"])) != 2 or len(set(args["addresses"])) != 2 or args["rank"] not in (0, 1):
        module.fail_json(msg="nodes and addresses must name two different nodes, rank must be 0 or 1")
    if args["duration_s"] < 5 or args["timeout_s"] <= args["duration_s"]:
        module.fail_json(
            msg="duration_s=%(duration_s)s must be at least 5 (perftest leaves out 4) and below timeout_s=%(timeout_s)s" % args
        )

    measurement = Measurement("link", "ib")
    measurement.context = {"tool": "ib_write_bw", "addresses": args["addresses"], "cuda": args["cuda"]}
    if module.check_mode:
        measurement.add("check_mode", "skipped", "a measurement starts processes, which check mode does not do")
        finish(module, measurement)
    ports = perftest_run.find_ports(args["devices"])
    if not right_ports(measurement, ports, args["expected_ports"]):
        finish(module, measurement)
    program = perftest_run.find_program(args["command"])
    if program is None:
        measurement.add(
            "link.command", "incomplete", "no executable %s for %d InfiniBand ports" % (args["command"], len(ports)),
            "ib_write_bw of perftest", "install perftest (apt install perftest) or set fabric_baseline_link_command",
        )  # fmt: skip
        finish(module, measurement)
    # From here on the verdict is about both ends; what a node lacks by itself (above) is its own.
    measurement.name = pairwise.pair_name("ib", args["nodes"])
    measurement.context.update(nodes=args["nodes"], round=args["round"])
    with tempfile.TemporaryDirectory(prefix="plumbline-link-", dir=module.tmpdir) as folder:
        measure(args, measurement, ports, program, folder)
    finish(module, measurement)


if __name__ == "__main__":
    marks.belong(marks.measuring())  # reset finds it, and what it started, when its connection is lost
    main()
