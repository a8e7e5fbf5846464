"""The start of one server on the head of its layout, as a ``startup`` fact: what forbids it, the launch, the first completion, the log.

``/health`` may say 200 after the workers died, so that a server is ready is proved by a completion.
"""

from __future__ import annotations

import glob
import http.client
import json
import os
import time
import urllib.error
import urllib.request

from ..core.fact import PASSING, Measurement
from ..core.files import read_text
from ..core.scrub import scrub_text
from ..machine import net
from ..model import config as served_model
from ..model import memory as model_memory
from . import api_key, peers, span
from . import cause as failure
from . import log as server_log
from .command import AddressUnknown, checked_layout, native, printable, serve_argv
from .launch import LaunchError, Program
from .options import CACHE, TOKEN, WEIGHTS, effective, told_against
from .ray import RayProbeError, probe
from .runtime import Runtime

# A completion that takes longer is asked for again: a node may have been lost meanwhile, and then no answer ever comes.
ATTEMPT_S = 120.0
# What a server says that asks for another key: it stays at that.
REFUSED = "HTTP 401: "
KEY_REMEDY = "give its key as VLLM_API_KEY in vllm_serve_env or the layout's env, or as --api-key in vllm_serve_extra_args"
# Seconds in which every node of the layout must be in the Ray cluster.
RAY_PATIENCE_S = 60.0


def complete(url, served_name, timeout_s, key=""):
    """Ask for one token with the server's API ``key``; return ``(True, "")`` when a completion came back, else ``(False, why)``."""
    body = json.dumps({"model": served_name, "prompt": "a", "max_tokens": 1, "temperature": 0}).encode()
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))  # a proxy would not reach the server's address
    try:
        with opener.open(api_key.request(url + "/v1/completions", key, body, "application/json"), timeout=timeout_s) as answer:
            found = json.load(answer)
            choices = found.get("choices") if isinstance(found, dict) else None
            return bool(choices), "" if choices else "an answer without choices"
    except urllib.error.HTTPError as error:
        return False, "HTTP %d: %s" % (error.code, scrub_text(error.read(2000).decode(errors="replace"))[:200])
    except (OSError, ValueError, http.client.HTTPException) as error:
        return False, str(error)


class Start:
    """One start of one layout. ``args`` are the arguments of the module ``vllm_server``; ``measurement`` becomes its fact."""

    def __init__(self, args, chosen=()):
        self.args, self.chosen = args, chosen
        self.layout = checked_layout(args["layout"])
        self.options = effective(self.layout, args["dtype"], args["max_model_len"], args["extra_args"], args["env"])
        self.addresses = args["node_addresses"][: self.layout["nodes"]]
        self.head = self.addresses[0] if self.addresses else "127.0.0.1"
        self.url = "http://%s:%d" % (self.head, args["port"])
        # Where this machine is told as 127.0.0.1 Ray takes its own address all the same, so that the workers have to.
        self.ray_head = net.own_address(self.head)
        self.ray_address = "%s:%d" % (self.ray_head, args["ray_port"])
        self.argv = serve_argv(
            args["program"], self.layout, args["model"], args["served_name"], self.head, args["port"],
            args["max_model_len"], args["dtype"], args["extra_args"], 0, args["master_port"],
        )  # fmt: skip
        self.key = api_key.accepted(self.argv, args["env"])
        self.server = None  # a Program, once nothing forbids the start
        self.launched = False
        self.measurement = Measurement("startup", self.layout["name"], printable(self.argv, args["env"]))
        self.measurement.context.update(args["context"])
        self.measurement.context.update({key: self.layout[key] for key in ("tp", "pp", "nodes", "executor")})
        self.measurement.context.update(
            {
                "layout": self.layout["name"],
                "runtime": "docker" if args["container"] else "host",
                "container": args["container"],
                "program": args["program"],
                "model": args["model"],
                "url": self.url,
                "node_addresses": self.addresses,
                **({"ranks": args["ranks"]} if args.get("ranks") else {}),
            }
        )

    def run(self):
        """Start the server and wait for it; return whether it answers completions."""
        if not self.may_go_on() or not self.launch():
            return False
        ready_s = self.wait_until_ready()
        self.read_log()
        if ready_s is None:
            return False
        self.measurement.measured["ready_s"] = round(ready_s, 3)
        self.name_nodes()
        return True

    def may_go_on(self):
        """Add what was found before the start, and tell whether it may go on."""
        self.add_what_was_found()
        if any(item["status"] not in (*PASSING, "skipped") for item in self.measurement.reasons):
            return False
        try:
            log = os.path.join(self.args["work_dir"], "server.log")
            self.server = Program(self.argv, self.environment(), self.own_address(), log, self.args["container"], self.chosen)
        except AddressUnknown as error:
            self.measurement.add("serve.address", "failed", str(error), "an address of this node", "check ansible_host")
            return False
        self.measurement.command = self.server.command
        return self.layout["executor"] != "ray" or self.ray_is_complete()

    def add_what_was_found(self):
        """Add the nodes that are missing, what went wrong while the others were made ready, and what was seen on them."""
        given, layout = self.args["node_addresses"], self.layout
        if len(given) < layout["nodes"]:
            self.measurement.add(
                "serve.nodes", "incomplete",
                "%d usable node(s): %s" % (len(given), ", ".join(given) or "none"),
                "%d nodes for %s" % (layout["nodes"], layout["name"]),
                "repair or add a node (see the node verdicts), or leave this layout out",
            )  # fmt: skip
        for problem in self.args["problems"]:
            remedy = "mend what the sentence names, then run `ansible-playbook site.yml --tags serve`"
            self.measurement.add("serve.prepare", "failed", problem, "a node made ready", remedy)
        if api_key.problem(self.key):
            self.measurement.add("serve.api_key", "failed", api_key.problem(self.key), "a key that a client can show", KEY_REMEDY)
        self.measurement.reasons += self.args["reasons"]

    def own_address(self):
        """Return the head's address for what other processes of the layout have to reach."""
        if self.layout["executor"] == "ray":
            return self.ray_head
        found = net.numeric(self.head)
        # Debian's 127.0.1.1 is of no interface by name, though the loopback has it.
        return net.LOOPBACK if net.is_loopback(found) else found

    def environment(self):
        """Return the server's environment without what the node adds; under Ray with the cluster to join."""
        if self.layout["executor"] != "ray":
            return self.args["env"]
        # Lines that Ray folds lose the workers' numbers.
        return dict({"RAY_DEDUP_LOGS": "0"}, **dict(self.args["env"], RAY_ADDRESS=self.ray_address))

    def probe(self):
        """Ask Ray; see ``ray.probe``."""
        runtime = Runtime(self.args["container"])
        return probe(runtime, runtime.python_beside(self.args["program"]), self.ray_address, self.ray_head, self.server.env)

    def ray_is_complete(self):
        """Wait until every node of the layout is in the Ray cluster; add a failed reason when one stays away."""
        wanted, seen, said = {self.ray_head, *map(net.numeric, self.addresses[1:])}, set(), ""
        deadline = time.monotonic() + RAY_PATIENCE_S
        while time.monotonic() < deadline:
            try:
                seen = {node["address"] for node in self.probe()["nodes"]}
                # A machine without a network has whatever address Ray took: that it is one node is what counts.
                if wanted <= seen or (len(wanted) == len(seen) == 1 and net.is_loopback(self.ray_head)):
                    return True
            except RayProbeError as error:
                said = str(error)
            time.sleep(1)
        missing = sorted(wanted - seen)
        self.measurement.add(
            "serve.ray_nodes", "failed",
            "Ray has %s, without %s%s" % (", ".join(sorted(seen)) or "no node", ", ".join(missing), "; " + said if said else ""),
            "every node of the layout in the cluster",
            "read ray-%s.log in %s on the missing node" % ("head" if self.ray_head in missing else "worker", self.args["work_dir"]),
        )  # fmt: skip
        return False

    def launch(self):
        """Start the server; return whether it was started. Its pid goes into the context."""
        try:
            self.server.start(self.args["serve_id"])
        except LaunchError as error:
            remedy = "check %s, the disk and the container" % self.args["work_dir"]
            self.measurement.add("serve.ready", "failed", str(error), "a started server", remedy)
            return False
        self.measurement.context.update({"pid": self.server.pid or 0, "log": self.server.log})
        self.launched = True
        return True

    def wait_until_ready(self):
        """Wait for the first completion; add the reason and return after how many seconds it came, None when it did not."""
        timeout_s, said, lost = self.args["timeout_s"], "no answer", ""
        others, started = peers.Watch([net.numeric(one) for one in self.addresses[1:]]), time.monotonic()
        for elapsed_s in self.server.moments(timeout_s):
            if "Application startup complete" in (read_text(self.server.log) or ""):
                patience_s = min(ATTEMPT_S, max(1.0, timeout_s - elapsed_s))
                ready, said = complete(self.url, self.args["served_name"], patience_s, self.key)
                if ready:
                    ready_s = time.monotonic() - started
                    self.measurement.add("serve.ready", "healthy", "a completion after %.1f s" % ready_s, "a completion")
                    self.measurement.reasons.insert(0, self.measurement.reasons.pop())  # the headline
                    return ready_s
                if said.startswith(REFUSED):
                    break
            lost = others.lost()
            if lost:
                break
        self.add_why_not_ready(lost, said)
        return None

    def add_why_not_ready(self, lost, said):
        """Add the reason of a server that gave no completion: a ``lost`` node, the time, or its end; ``said`` is its last answer."""
        beside = sorted(glob.glob(os.path.join(self.args["work_dir"], "ray-*.log"))) if self.layout["executor"] == "ray" else []
        cause, remedy = failure.told(self.server.causes(beside))
        if said.startswith(REFUSED) and self.server.is_running():
            seen = "the server asks for an API key, and %s: %s" % ("takes another one" if self.key else "none was given here", said)
            remedy = KEY_REMEDY
        elif lost:
            seen = lost + ("; the log says: %s" % cause if cause else "")
        elif self.server.is_running():
            seen = "no completion after %d s (%s)" % (self.args["timeout_s"], cause or said)
        else:
            seen = cause or "the server ended without saying why"
        remedy = "%sread %s on the head" % (remedy + "; " if remedy else "", self.server.log)
        self.measurement.add("serve.ready", "failed", seen, "a completion within %d s" % self.args["timeout_s"], remedy)

    def read_log(self):
        """Take what the log says of the start, and check it against the arithmetic of the KV cache."""
        log = read_text(self.server.log) or ""
        measured, context = server_log.startup(log)
        self.measurement.measured.update(measured)
        self.measurement.context.update(context)
        try:
            found = self.arithmetic(measured, context.get("max_model_len"), told_against(log))
        except (model_memory.UnknownModel, model_memory.ImpossibleLayout) as error:
            found = ("serve.kv_arithmetic", "skipped", "no arithmetic for this model: %s" % error)
        if found:
            self.measurement.add(*found)

    def arithmetic(self, measured, length, told):
        """Note the weights' and the cache's bytes, as far as nothing stands against them; return the reason on the cache, or None."""
        config, options = served_model.config_of(self.args["model"]), self.options
        against = "; ".join(filter(None, (options.why_not(WEIGHTS), told)))
        if against:
            return ("serve.kv_arithmetic", "skipped", "no arithmetic with %s" % against)
        if not options.why_not(TOKEN):
            read = model_memory.weight_bytes(config, options.dtype)["read_per_token_bytes"]
            rank = model_memory.per_rank(config, options.dtype, options.tp, options.pp, partition=options.partition)
            self.measurement.measured.update(weight_bytes=rank["weight_bytes"], read_per_token_bytes=read)
        against = options.why_not(CACHE)
        if against:
            return ("serve.kv_arithmetic", "skipped", "no arithmetic with %s" % against)
        each = model_memory.kv_bytes_per_token(config, options.kv_dtype, options.dtype)
        self.measurement.measured["kv_bytes_per_token"] = each
        return model_memory.check_kv(
            measured, config, options.dtype, options.tp, options.pp, options.kv_dtype, options.partition,
            length or options.max_model_len, options.block_size,
        )  # fmt: skip

    def name_nodes(self):
        """Say over which nodes the layout really spans."""
        if self.layout["executor"] == "ray":
            span.name_ray_nodes(self.measurement, self.layout, self.probe)
        elif native(self.layout):
            span.name_native_nodes(self.measurement, [net.numeric(one) for one in self.addresses], self.args["work_dir"])
