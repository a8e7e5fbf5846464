#!/usr/bin/python
"""Ansible module: a vLLM server for one layout, started and proved by a completion."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vllm_server
short_description: start vLLM in one parallel layout and measure the start
description:
  - Starts C(vllm serve) on the head node of a layout and waits until it answers a real completion. C(/health) may say 200 after
    the workers died, so it is not asked.
  - Returns a C(startup) fact. A start that fails is a result, status C(failed) with the line of the log that says why.
  - Under Ray the cluster must have every expected node before the start, and afterwards the nodes that run the workers are named.
    In a native layout over several nodes M(vllm_worker) has started the others, and their connections to the head name them.
options:
  program: {description: Path of the C(vllm) command\, or its name in a container., type: str, required: true}
  container: {description: Running container to start it in; empty for this machine itself., type: str, default: ""}
  layout:
    description: Keys name, tp, pp, nodes, executor (C(ray) or C(mp)) and optionally extra_args.
    type: dict
    required: true
  serve_id: {description: Id that marks every process of the serving run., type: str, required: true}
  model: {description: Folder of the model on the node., type: path, required: true}
  served_name: {description: Name under which the model is served., type: str, required: true}
  node_addresses: {description: Addresses of the chosen nodes\, the head first., type: list, elements: str, required: true}
  reasons:
    description: What M(serve_node) said of the layout's nodes. A bad one prevents the start.
    type: list
    elements: dict
    default: []
  problems:
    description: What went wrong while the nodes were made ready, as sentences. One prevents the start.
    type: list
    elements: str
    default: []
  ray_port: {description: Port of Ray's control store on the head., type: int, default: 6379}
  port: {description: Port of the server., type: int, default: 8000}
  master_port: {description: Port of torch.distributed's store\, for native layouts over several nodes., type: int, default: 29501}
  max_model_len: {description: Context length in tokens., type: int, default: 2048}
  dtype: {description: Data type of the weights., type: str, default: auto}
  extra_args: {description: More arguments for C(vllm serve)., type: list, elements: str, default: []}
  env: {description: Environment of the server., type: dict, default: {}}
  context: {description: Noted in the fact\, for example the image., type: dict, default: {}}
  work_dir: {description: Folder for the log., type: path, required: true}
  timeout_s: {description: Seconds until the first completion must have been answered., type: int, default: 900}
author: [Plumbline]
"""

EXAMPLES = r"""
- name: Serve with two pipeline stages over two nodes
  vllm_server:
    program: /opt/plumbline/vllm/bin/vllm
    layout: {name: pp2_across, tp: 1, pp: 2, nodes: 2, executor: ray}
    serve_id: pp2_across
    model: /var/lib/plumbline/models/tiny-qwen2
    served_name: tiny-qwen2
    node_addresses: [10.98.0.11, 10.98.0.12]
    work_dir: /var/lib/plumbline/serve/pp2_across
"""

RETURN = r"""
fact: {description: The C(startup) fact; see docs/facts.md., type: dict, returned: always}
ready: {description: Whether the server answers completions., type: bool, returned: always}
"""

import json
import os
import subprocess
import time
import urllib.error
import urllib.request

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.plumbline.core import processes
from ansible.module_utils.plumbline.core.fact import PASSING, Measurement
from ansible.module_utils.plumbline.core.files import read_text
from ansible.module_utils.plumbline.model import config as served_model
from ansible.module_utils.plumbline.model import memory as model_memory
from ansible.module_utils.plumbline.serving import log as vllm_log
from ansible.module_utils.plumbline.serving import peers
from ansible.module_utils.plumbline.serving.command import (
    LAYOUT_KEYS,
    AddressUnknown,
    native,
    node_environment,
    option,
    printable,
    serve_argv,
)
from ansible.module_utils.plumbline.serving.ray import RayProbeError, probe
from ansible.module_utils.plumbline.serving.runtime import Runtime, RuntimeProblem

# A completion that takes longer is asked for again: a node may have been lost meanwhile, and then no answer ever comes.
ATTEMPT_S = 120.0
# Of the model's arithmetic, what the fact carries.
WEIGHT_KEYS = {"weight_bytes": "total_bytes", "read_per_token_bytes": "read_per_token_bytes"}


def complete(url, served_name, timeout_s):
    """Ask for one token; return ``(True, "")`` when a completion came back, else ``(False, why)``."""
    body = json.dumps({"model": served_name, "prompt": "a", "max_tokens": 1, "temperature": 0}).encode()
    request = urllib.request.Request(url + "/v1/completions", body, {"Content-Type": "application/json"})
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy would not reach the server's address
    try:
        with opener.open(request, timeout=timeout_s) as answer:
            choices = json.load(answer).get("choices")
            return bool(choices), "" if choices else "an answer without choices"
    except urllib.error.HTTPError as error:
        return False, "HTTP %d: %s" % (error.code, error.read()[:200].decode(errors="replace"))
    except (OSError, ValueError) as error:
        return False, str(error)


class Start:
    """One start of one layout: what was asked, and where."""

    def __init__(self, args):
        self.args = args
        self.layout = args["layout"]
        self.addresses = args["node_addresses"][: self.layout["nodes"]]
        self.head = self.addresses[0] if self.addresses else "127.0.0.1"
        self.url = "http://%s:%d" % (self.head, args["port"])
        self.log = os.path.join(args["work_dir"], "server.log")
        self.runtime = Runtime(args["container"])
        self.argv = serve_argv(
            args["program"], self.layout, args["model"], args["served_name"], self.head, args["port"],
            args["max_model_len"], args["dtype"], args["extra_args"], 0, args["master_port"],
        )  # fmt: skip
        self.env = dict(args["env"])
        self.measurement = Measurement("startup", self.layout["name"], printable(self.argv, self.env))
        self.measurement.context.update(args["context"])
        self.measurement.context.update(
            {
                "layout": self.layout["name"],
                "tp": self.layout["tp"],
                "pp": self.layout["pp"],
                "nodes": self.layout["nodes"],
                "executor": self.layout["executor"],
                "runtime": "docker" if args["container"] else "host",
                "container": args["container"],
                "program": args["program"],
                "model": args["model"],
                "url": self.url,
                "node_addresses": self.addresses,
            }
        )

    def may_go_on(self):
        """Add what was found before the start, and tell whether it may go on."""
        layout, args = self.layout, self.args
        if len(args["node_addresses"]) < layout["nodes"]:
            self.measurement.add(
                "serve.nodes", "incomplete",
                "%d usable node(s): %s" % (len(args["node_addresses"]), ", ".join(args["node_addresses"]) or "none"),
                "%d nodes for %s" % (layout["nodes"], layout["name"]),
                "repair or add a node (see the node verdicts), or leave this layout out",
            )  # fmt: skip
        for problem in args["problems"]:
            self.measurement.add("serve.prepare", "failed", problem, "a node made ready", "see the task's own message above")
        self.measurement.reasons += args["reasons"]
        bad = [item for item in self.measurement.reasons if item["status"] not in PASSING + ("skipped",)]
        if bad:
            return False
        try:
            self.env = node_environment(self.env, self.head)
        except AddressUnknown as error:
            self.measurement.add("serve.address", "failed", str(error), "an address of this node", "check ansible_host")
            return False
        if layout["executor"] == "ray":
            self.env["RAY_ADDRESS"] = "%s:%d" % (self.head, args["ray_port"])
            self.env.setdefault("RAY_DEDUP_LOGS", "0")  # folded lines lose the workers' numbers
        self.measurement.command = printable(self.argv, self.env)
        return layout["executor"] != "ray" or self.ray_is_complete()

    def probe(self):
        """Ask Ray; see ``ray_probe.probe``."""
        python = self.runtime.python_beside(self.args["program"])
        return probe(self.runtime, python, "%s:%d" % (self.head, self.args["ray_port"]), self.head, self.env)

    def ray_is_complete(self, patience_s=60):
        """Wait until every node of the layout is in the Ray cluster; add a failed reason when one stays away."""
        wanted, seen, said = set(self.addresses), set(), ""
        deadline = time.monotonic() + patience_s
        while time.monotonic() < deadline:
            try:
                seen = {node["address"] for node in self.probe()["nodes"]}
                if wanted <= seen:
                    return True
            except RayProbeError as error:
                said = str(error)
            time.sleep(1)
        self.measurement.add(
            "serve.ray_nodes", "failed",
            "Ray has %s, without %s%s"
            % (", ".join(sorted(seen)) or "no node", ", ".join(sorted(wanted - seen)), "; " + said if said else ""),
            "every node of the layout in the cluster",
            "read ray-worker.log in %s on the missing node" % self.args["work_dir"],
        )  # fmt: skip
        return False

    def launch(self):
        """Start the server; return whether it was started. Its pid goes into the context."""
        try:
            if os.path.exists(self.log):
                os.replace(self.log, self.log + ".previous")
            pid = self.runtime.start(self.argv, self.args["serve_id"], self.env, self.log)
        except (OSError, RuntimeProblem, subprocess.TimeoutExpired) as error:
            remedy = "check %s, the disk and the container" % self.args["work_dir"]
            self.measurement.add("serve.ready", "failed", str(error), "a started server", remedy)
            return False
        self.measurement.context.update({"pid": pid or 0, "log": self.log})
        return True

    def wait_until_ready(self):
        """Wait for the first completion; add the reason and return after how many seconds it came, None when it did not."""
        pid, timeout_s = self.measurement.context["pid"], self.args["timeout_s"]
        others = peers.Watch(self.addresses[1:])
        started, said, lost = time.monotonic(), "no answer", ""
        while time.monotonic() - started < timeout_s and processes.is_running(pid) and not lost:
            if "Application startup complete" in (read_text(self.log) or ""):
                left_s = timeout_s - (time.monotonic() - started)
                ready, said = complete(self.url, self.args["served_name"], min(ATTEMPT_S, max(1.0, left_s)))
                if ready:
                    elapsed = time.monotonic() - started
                    self.measurement.add("serve.ready", "healthy", "a completion after %.1f s" % elapsed, "a completion")
                    self.measurement.reasons.insert(0, self.measurement.reasons.pop())  # the headline
                    return elapsed
            lost = others.lost()
            time.sleep(0.5)
        cause = vllm_log.root_cause(read_text(self.log) or "")
        if lost:
            seen = lost + ("; the log says: %s" % cause if cause else "")
        elif processes.is_running(pid):
            seen = "no completion after %d s (%s)" % (timeout_s, cause or said)
        else:
            seen = cause or "the server ended without saying why"
        remedy = "read %s on the head" % self.log
        self.measurement.add("serve.ready", "failed", seen, "a completion within %d s" % timeout_s, remedy)
        return None

    def read_log(self):
        """Take what the log says of the start, and check it against the arithmetic of the KV cache."""
        measured, context = vllm_log.startup(read_text(self.log) or "")
        self.measurement.measured.update(measured)
        self.measurement.context.update(context)
        config, dtype = served_model.config_of(self.args["model"]), self.args["dtype"]
        kv_dtype = option(self.argv, "--kv-cache-dtype") or "auto"
        try:
            numbers = model_memory.weight_bytes(config, dtype)
            self.measurement.measured.update({key: numbers[source] for key, source in WEIGHT_KEYS.items()})
            self.measurement.measured["kv_bytes_per_token"] = model_memory.kv_bytes_per_token(config, kv_dtype, dtype)
            found = model_memory.check_kv(measured, config, dtype, self.layout["tp"], self.layout["pp"], kv_dtype)
        except (model_memory.UnknownModel, model_memory.ImpossibleLayout) as error:
            found = ("serve.kv_arithmetic", "skipped", "no arithmetic for this model: %s" % error)
        if found:
            self.measurement.add(*found)

    def name_ray_nodes(self):
        """Put the Ray nodes that run this layout's workers into the context; too few of them is a failure."""
        try:
            cluster = self.probe()
        except RayProbeError as error:
            self.measurement.add("serve.span", "incomplete", str(error), "Ray's list of workers", "start the layout again")
            return
        workers = [item for item in cluster["workers"] if "Worker" in item[0]]
        self.measurement.context["ray_nodes"] = cluster["nodes"]
        self.measurement.context["ray_workers"] = [{"address": item[1], "pid": item[2]} for item in workers]
        self.measurement.context["placement_groups"] = cluster["placement_groups"]
        addresses = sorted({item[1] for item in workers})
        ranks = self.layout["tp"] * self.layout["pp"]
        self.measurement.add(
            "serve.span",
            "healthy" if len(addresses) == self.layout["nodes"] and len(workers) == ranks else "failed",
            "%d Ray workers on %d node(s): %s" % (len(workers), len(addresses), ", ".join(addresses) or "none"),
            "%d workers on %d node(s)" % (ranks, self.layout["nodes"]),
            "check Ray's placement group and the slots of each node",
        )  # fmt: skip

    def name_native_nodes(self):
        """Name the nodes that have connections to the head's serving processes; a node without one takes no part."""
        found = peers.live(self.addresses[1:], peers.read_tables())
        self.measurement.context["node_workers"] = [
            {"address": address, "rank": rank, "connections": found.get(address)} for rank, address in enumerate(self.addresses)
        ]
        missing = sorted(address for address, count in found.items() if not count)
        self.measurement.add(
            "serve.span",
            "failed" if missing else "healthy",
            "connections to the head: %s" % ", ".join("%s has %d" % item for item in sorted(found.items())),
            "connections from each of the %d other node(s)" % len(found),
            "read worker-*.log on %s" % ", ".join(missing) if missing else None,
        )  # fmt: skip

    def name_nodes(self):
        """Say over which nodes the layout really spans."""
        if self.layout["executor"] == "ray":
            self.name_ray_nodes()
        elif native(self.layout):
            self.name_native_nodes()


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "program": {"type": "str", "required": True},
            "container": {"type": "str", "default": ""},
            "layout": {"type": "dict", "required": True},
            "serve_id": {"type": "str", "required": True},
            "model": {"type": "path", "required": True},
            "served_name": {"type": "str", "required": True},
            "node_addresses": {"type": "list", "elements": "str", "required": True},
            "reasons": {"type": "list", "elements": "dict", "default": []},
            "problems": {"type": "list", "elements": "str", "default": []},
            "ray_port": {"type": "int", "default": 6379},
            "port": {"type": "int", "default": 8000},
            "master_port": {"type": "int", "default": 29501},
            "max_model_len": {"type": "int", "default": 2048},
            "dtype": {"type": "str", "default": "auto"},
            "extra_args": {"type": "list", "elements": "str", "default": []},
            "env": {"type": "dict", "default": {}},
            "context": {"type": "dict", "default": {}},
            "work_dir": {"type": "path", "required": True},
            "timeout_s": {"type": "int", "default": 900},
        },
        supports_check_mode=True,
    )
    args = module.params
    unknown = set(args["layout"]) - LAYOUT_KEYS
    missing = {"name", "tp", "pp", "nodes", "executor"} - set(args["layout"])
    if unknown or missing:
        module.fail_json(msg="layout %r: unknown keys %s, missing keys %s" % (args["layout"], sorted(unknown), sorted(missing)))
    args["layout"] = dict(args["layout"], **{key: int(args["layout"][key]) for key in ("tp", "pp", "nodes")})
    start = Start(args)
    if module.check_mode:
        start.measurement.add("check_mode", "skipped", "would start: %s" % printable(start.argv))
        module.exit_json(changed=True, ready=False, **start.measurement.result())
    if not start.may_go_on() or not start.launch():
        module.exit_json(changed=False, ready=False, **start.measurement.result())
    ready_s = start.wait_until_ready()
    start.read_log()
    if ready_s is not None:
        start.measurement.measured["ready_s"] = round(ready_s, 3)
        start.name_nodes()
    module.exit_json(changed=True, ready=ready_s is not None, **start.measurement.result())


if __name__ == "__main__":
    main()
