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
options:
  program: {description: Path of the C(vllm) command; its folder also holds C(python)., type: path, required: true}
  layout:
    description: Keys name, tp, pp, nodes, executor (C(ray) or C(mp)) and optionally extra_args.
    type: dict
    required: true
  serve_id: {description: Id that marks every process of the serving run., type: str, required: true}
  model: {description: Folder of the model on the node., type: path, required: true}
  served_name: {description: Name under which the model is served., type: str, required: true}
  node_addresses: {description: Addresses of the chosen nodes\, the head first., type: list, elements: str, required: true}
  ray_problems: {description: What went wrong while starting Ray on the nodes\, for the reasons., type: list, elements: str, default: []}
  ray_port: {description: Port of Ray's control store on the head., type: int, default: 6379}
  port: {description: Port of the server., type: int, default: 8000}
  max_model_len: {description: Context length in tokens., type: int, default: 2048}
  dtype: {description: Data type of the weights., type: str, default: auto}
  extra_args: {description: More arguments for C(vllm serve)., type: list, elements: str, default: []}
  env: {description: Environment of the server., type: dict, default: {}}
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
import shutil
import socket
import time
import urllib.error
import urllib.request

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.plumbline import processes, vllm_log
from ansible.module_utils.plumbline.fact import Measurement
from ansible.module_utils.plumbline.ray_probe import RayProbeError, probe
from ansible.module_utils.plumbline.vllm_command import LAYOUT_KEYS, printable, serve_argv


def read(path):
    """Return the text of a log, empty when there is none yet."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read()
    except OSError:
        return ""


def complete(url, served_name, timeout_s):
    """Ask for one token; return ``(True, "")`` when a completion came back, else ``(False, why)``."""
    body = json.dumps({"model": served_name, "prompt": "a", "max_tokens": 1, "temperature": 0}).encode()
    request = urllib.request.Request(url + "/v1/completions", body, {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=timeout_s) as answer:
            choices = json.load(answer).get("choices")
            return bool(choices), "" if choices else "an answer without choices"
    except urllib.error.HTTPError as error:
        return False, "HTTP %d: %s" % (error.code, error.read()[:200].decode(errors="replace"))
    except (OSError, ValueError) as error:
        return False, str(error)


def port_taken(address, port):
    """Tell whether ``address:port`` is in use."""
    with socket.socket() as probe_socket:
        probe_socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe_socket.bind((address, port))
        except OSError:
            return True
    return False


def before_start(measurement, args):
    """Add a failed or incomplete reason for everything that would make the start fail; tell whether it may go on."""
    layout, addresses = args["layout"], args["node_addresses"]
    if len(addresses) < layout["nodes"]:
        measurement.add(
            "serve.nodes", "incomplete", "%d usable node(s): %s" % (len(addresses), ", ".join(addresses) or "none"),
            "%d nodes for %s" % (layout["nodes"], layout["name"]),
            "repair or add a node (see the node verdicts), or leave this layout out",
        )  # fmt: skip
    if not os.access(args["program"], os.X_OK):
        measurement.add(
            "serve.program", "failed", "%s is not there" % args["program"], "an executable vllm",
            "install vLLM there or set vllm_serve_venv",
        )  # fmt: skip
    if not os.path.isfile(os.path.join(args["model"], "config.json")):
        measurement.add(
            "serve.model", "failed", "no config.json in %s" % args["model"], "a complete model folder",
            "run `ansible-playbook site.yml --tags model`, or set vllm_serve_model",
        )  # fmt: skip
    if addresses and port_taken(addresses[0], args["port"]):
        measurement.add(
            "serve.port", "failed", "port %d of %s is in use" % (args["port"], addresses[0]), "a free port",
            "end what listens there (`ss -ltnp`), run playbooks/reset.yml, or set vllm_serve_port",
        )  # fmt: skip
    return not measurement.reasons


def wait_for_ray(measurement, args, env):
    """Wait until every node of the layout is in the Ray cluster; add a failed reason when one stays away."""
    wanted = set(args["node_addresses"][: args["layout"]["nodes"]])
    python = os.path.join(os.path.dirname(args["program"]), "python")
    head = args["node_addresses"][0]
    seen, said = set(), "; ".join(args["ray_problems"])
    # A node whose Ray said that it cannot start will not come: then one look is enough.
    deadline = time.monotonic() + (1 if args["ray_problems"] else 60)
    while time.monotonic() < deadline:
        try:
            cluster = probe(python, "%s:%d" % (head, args["ray_port"]), head, env)
            seen = {node["address"] for node in cluster["nodes"]}
            if wanted <= seen:
                return True
        except RayProbeError as error:
            said = said or str(error)
        time.sleep(1)
    measurement.add(
        "serve.ray_nodes", "failed",
        "Ray has %s, without %s%s"
        % (", ".join(sorted(seen)) or "no node", ", ".join(sorted(wanted - seen)), "; " + said if said else ""),
        "every node of the layout in the cluster",
        "read ray-worker.log in %s on the missing node" % args["work_dir"],
    )  # fmt: skip
    return False


def wait_until_ready(measurement, args, pid, log):
    """Wait for the first completion; add the reason and return whether it came, and after how many seconds."""
    url = "http://%s:%d" % (args["node_addresses"][0], args["port"])
    started = time.monotonic()
    said = "no answer"
    while time.monotonic() - started < args["timeout_s"]:
        if not processes.is_running(pid):
            break
        if "Application startup complete" in read(log):
            left = args["timeout_s"] - (time.monotonic() - started)
            ready, said = complete(url, args["served_name"], max(1.0, left))
            if ready:
                elapsed = time.monotonic() - started
                measurement.add("serve.ready", "healthy", "a completion after %.1f s" % elapsed, "a completion")
                return elapsed
        time.sleep(0.5)
    text = read(log)
    cause = vllm_log.root_cause(text)
    if processes.is_running(pid):
        seen = "no completion after %d s (%s)" % (args["timeout_s"], cause or said)
    else:
        seen = cause or "the server ended without saying why"
    measurement.add("serve.ready", "failed", seen, "a completion within %d s" % args["timeout_s"], "read %s on the head" % log)
    return None


def name_ray_nodes(measurement, args, env):
    """Put the Ray nodes that run this layout's workers into the context; too few of them is a failure."""
    layout, head = args["layout"], args["node_addresses"][0]
    python = os.path.join(os.path.dirname(args["program"]), "python")
    try:
        cluster = probe(python, "%s:%d" % (head, args["ray_port"]), head, env)
    except RayProbeError as error:
        measurement.add("serve.span", "incomplete", str(error), "Ray's list of workers", "start the layout again")
        return
    workers = [item for item in cluster["workers"] if "Worker" in item[0]]
    addresses = sorted({item[1] for item in workers})
    measurement.context["ray_nodes"] = cluster["nodes"]
    measurement.context["ray_workers"] = [{"address": item[1], "pid": item[2]} for item in workers]
    measurement.context["placement_groups"] = cluster["placement_groups"]
    measurement.add(
        "serve.span",
        "healthy" if len(addresses) == layout["nodes"] and len(workers) == layout["tp"] * layout["pp"] else "failed",
        "%d Ray workers on %d node(s): %s" % (len(workers), len(addresses), ", ".join(addresses) or "none"),
        "%d workers on %d node(s)" % (layout["tp"] * layout["pp"], layout["nodes"]),
        "check Ray's placement group and the slots of each node",
    )  # fmt: skip


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "program": {"type": "path", "required": True},
            "layout": {"type": "dict", "required": True},
            "serve_id": {"type": "str", "required": True},
            "model": {"type": "path", "required": True},
            "served_name": {"type": "str", "required": True},
            "node_addresses": {"type": "list", "elements": "str", "required": True},
            "ray_problems": {"type": "list", "elements": "str", "default": []},
            "ray_port": {"type": "int", "default": 6379},
            "port": {"type": "int", "default": 8000},
            "max_model_len": {"type": "int", "default": 2048},
            "dtype": {"type": "str", "default": "auto"},
            "extra_args": {"type": "list", "elements": "str", "default": []},
            "env": {"type": "dict", "default": {}},
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
    layout = args["layout"] = dict(args["layout"], **{key: int(args["layout"][key]) for key in ("tp", "pp", "nodes")})
    head = args["node_addresses"][0] if args["node_addresses"] else "127.0.0.1"
    argv = serve_argv(
        args["program"], layout, args["model"], args["served_name"], head, args["port"],
        args["max_model_len"], args["dtype"], args["extra_args"],
    )  # fmt: skip
    env = dict(args["env"], VLLM_HOST_IP=head)
    if layout["executor"] == "ray":
        env["RAY_ADDRESS"] = "%s:%d" % (head, args["ray_port"])
    measurement = Measurement("startup", layout["name"], printable(argv, env))
    measurement.context.update(
        {
            "layout": layout["name"],
            "tp": layout["tp"],
            "pp": layout["pp"],
            "nodes": layout["nodes"],
            "executor": layout["executor"],
            "runtime": "host",
            "model": args["model"],
            "url": "http://%s:%d" % (head, args["port"]),
            "node_addresses": args["node_addresses"][: layout["nodes"]],
        }
    )
    if module.check_mode:
        measurement.add("check_mode", "skipped", "would start: %s" % printable(argv))
        module.exit_json(changed=True, ready=False, **measurement.result())

    if not before_start(measurement, args):
        module.exit_json(changed=False, ready=False, **measurement.result())
    full_env = processes.base_environment(env)
    if layout["executor"] == "ray" and not wait_for_ray(measurement, args, full_env):
        module.exit_json(changed=False, ready=False, **measurement.result())

    log = os.path.join(args["work_dir"], "server.log")
    if os.path.exists(log):
        shutil.move(log, log + ".previous")
    try:
        pid = processes.start(argv, args["serve_id"], full_env, log)
    except OSError as error:
        measurement.add("serve.ready", "failed", str(error), "a started server", "check %s and the disk" % args["work_dir"])
        module.exit_json(changed=False, ready=False, **measurement.result())
    ready_s = wait_until_ready(measurement, args, pid, log)

    measured, context = vllm_log.startup(read(log))
    measurement.measured.update(measured)
    measurement.context.update(context)
    measurement.context.update({"pid": pid, "log": log})
    if ready_s is not None:
        measurement.measured["ready_s"] = round(ready_s, 3)
        if layout["executor"] == "ray":
            name_ray_nodes(measurement, args, full_env)
    module.exit_json(changed=True, ready=ready_s is not None, **measurement.result())


if __name__ == "__main__":
    main()
