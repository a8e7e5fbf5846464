#!/usr/bin/python
"""Ansible module: benchmark a running vLLM server with ``vllm bench serve``."""

from __future__ import annotations

DOCUMENTATION = r"""
module: serve_benchmark
short_description: run C(vllm bench serve) several times and return one benchmark fact
description:
  - One discarded warm-up run, then C(runs) runs, each with prompts of its own (the seed changes), so that no run meets the cache
    of an earlier one.
  - Every run must complete all requests with the asked number of output tokens. C(vllm bench serve) exits 0 when every request
    failed, so its exit code is not believed.
  - The GPU clocks of this node are sampled over the measured runs; C(context.clocks) has clocks, throttle counters and whether
    the lock was there before, under load and after. Throttled is C(degraded), a lost lock C(failed).
  - When the server dies the client is ended, what the runs before measured is kept, and the fact is C(failed) with the reason.
options:
  program: {description: Path of the C(vllm) command\, or its name in a container., type: str, required: true}
  container: {description: Running container to run the client in; empty for this machine itself., type: str, default: ""}
  node_addresses:
    description: Addresses of the layout's nodes, the head first. A run ends when the connections of one of the others are gone.
    type: list
    elements: str
    default: []
  layout: {description: The layout as given to M(vllm_server)., type: dict, required: true}
  url: {description: Base URL of the server., type: str, required: true}
  model: {description: Folder of the model\, for its tokenizer., type: path, required: true}
  served_name: {description: Name under which the model is served., type: str, required: true}
  server_pid: {description: Process id of the server on this node., type: int, required: true}
  server_log: {description: Path of the server's log., type: path, required: true}
  runs: {description: Number of measured runs., type: int, default: 5}
  prompts: {description: Requests in a run., type: int, default: 1}
  concurrency: {description: Requests in flight., type: int, default: 1}
  input_len: {description: Prompt length in tokens., type: int, default: 57}
  output_len: {description: Output length in tokens., type: int, default: 512}
  seed: {description: Seed of the first run's prompts., type: int, default: 1}
  context: {description: What to note beside the numbers (addresses\, link rate)., type: dict, default: {}}
  env: {description: Environment of the client., type: dict, default: {}}
  work_dir: {description: Folder for the result files., type: path, required: true}
  timeout_s: {description: Seconds one run may take., type: int, default: 600}
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
  expected_transport:
    description:
      - What should carry the data between nodes by NCCL's log, such as C(IB); empty is noted and not judged. The server needs
        C(NCCL_DEBUG=INFO NCCL_DEBUG_SUBSYS=INIT,NET,ENV) to say it.
    type: str
    default: ''
author: [Plumbline]
"""

EXAMPLES = r"""
- name: Benchmark the layout
  serve_benchmark:
    program: /opt/plumbline/vllm/bin/vllm
    layout: {name: tp1, tp: 1, pp: 1, nodes: 1, executor: mp}
    url: http://10.98.0.11:8000
    model: /var/lib/plumbline/models/tiny-qwen2
    served_name: tiny-qwen2
    server_pid: 4711
    server_log: /var/lib/plumbline/serve/tp1/server.log
    work_dir: /var/lib/plumbline/serve/tp1
"""

RETURN = r"""
fact: {description: The C(benchmark) fact; see docs/facts.md., type: dict, returned: always}
"""

import json
import os
import time

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.plumbline import clocks_window, peers, processes, transport_serving, vllm_bench, vllm_log
from ansible.module_utils.plumbline.fact import Measurement
from ansible.module_utils.plumbline.runtime import Runtime
from ansible.module_utils.plumbline.stats import summary
from ansible.module_utils.plumbline.vllm_command import printable

SUMMARISED = ("throughput_tok_s", "total_throughput_tok_s", "decode_tok_s", "ttft_ms", "tpot_ms", "itl_ms", "e2e_ms")
# The seed study measured single requests of 57 tokens; a tokenizer round trip may add or lose a token or two for each.
INPUT_TOLERANCE_TOKENS = 3


class RunFailed(Exception):
    """A run measured nothing; the text says why."""


def client_argv(args, seed, result_file):
    """Return the argv of one ``vllm bench serve`` run."""
    return [
        args["program"], "bench", "serve",
        "--backend", "openai", "--base-url", args["url"],
        "--model", args["served_name"], "--tokenizer", args["model"],
        "--dataset-name", "random", "--random-input-len", str(args["input_len"]),
        "--random-output-len", str(args["output_len"]), "--random-range-ratio", "0",
        "--num-prompts", str(args["prompts"]), "--max-concurrency", str(args["concurrency"]),
        "--temperature", "0", "--ignore-eos", "--seed", str(seed),
        "--percentile-metrics", "ttft,tpot,itl,e2el", "--metric-percentiles", "50,90,99",
        "--save-result", "--save-detailed", "--disable-tqdm",
        "--result-dir", os.path.dirname(result_file), "--result-filename", os.path.basename(result_file),
    ]  # fmt: skip


def run_client(args, argv, log_path):
    """Run the client until it ends; raise :class:`RunFailed` when the server or a node is lost or the time is over."""
    others = peers.Watch(args["node_addresses"][1:])
    with open(log_path, "wb") as log:
        client = Runtime(args["container"]).client(argv, args["env"], log)
        started = time.monotonic()
        try:
            while client.poll() is None:
                if not processes.is_running(args["server_pid"]):
                    raise RunFailed("the server (pid %d) ended during the run" % args["server_pid"])
                lost = others.lost()
                if lost:
                    raise RunFailed(lost)
                if time.monotonic() - started > args["timeout_s"]:
                    raise RunFailed("the run did not end within %d s" % args["timeout_s"])
                time.sleep(0.1)
        finally:
            status = client.end()
    return status


def log_tail(path):
    """Return the last line that says something in a log."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            lines = [line.strip() for line in stream if line.strip()]
    except OSError as error:
        return str(error)
    return lines[-1][:300] if lines else "an empty log"


def server_cause(path):
    """Return why the server failed, as its log says; empty when the log says nothing or cannot be read."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return vllm_log.root_cause(stream.read())
    except OSError:
        return ""


def one_run(args, number):
    """Run once and return the run's numbers; raise :class:`RunFailed` with what was seen."""
    result_file = os.path.join(args["work_dir"], "bench-%02d.json" % number)
    log_path = os.path.join(args["work_dir"], "bench-%02d.log" % number)
    if os.path.exists(result_file):
        os.unlink(result_file)  # an old result must never stand in for a run that wrote none
    status = run_client(args, client_argv(args, args["seed"] + number, result_file), log_path)
    try:
        with open(result_file, encoding="utf-8") as stream:
            result = json.load(stream)
    except (OSError, ValueError):
        raise RunFailed("no readable result (exit status %d): %s" % (status, log_tail(log_path))) from None
    found = vllm_bench.problems(result, args["prompts"], args["output_len"])
    if found:
        error = vllm_bench.first_error(result)
        raise RunFailed("; ".join(found) + (": " + error if error else ""))
    return vllm_bench.run(result, args["output_len"])


def check_input(measurement, args, runs):
    """Add a reason when the prompts were not as long as asked."""
    worst = max((abs(run["total_input_tokens"] - run["num_prompts"] * args["input_len"]) for run in runs), default=0)
    limit = INPUT_TOLERANCE_TOKENS * args["prompts"]
    if worst > limit:
        measurement.add(
            "benchmark.input", "failed", "a run's prompts are %d tokens off" % worst, "at most %d tokens" % limit,
            "check that the tokenizer belongs to the model",
        )  # fmt: skip


def config_of(model):
    """Return what the communication estimate needs from the model's config.json; empty when it cannot be read."""
    try:
        with open(os.path.join(model, "config.json"), encoding="utf-8") as stream:
            config = json.load(stream)
    except (OSError, ValueError):
        return {}
    keys = {"num_hidden_layers": "model_layers", "hidden_size": "model_hidden_size", "dtype": "model_dtype"}
    keys["torch_dtype"] = "model_dtype"
    return {name: config[key] for key, name in keys.items() if key in config}


def main():
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "program": {"type": "str", "required": True},
            "container": {"type": "str", "default": ""},
            "node_addresses": {"type": "list", "elements": "str", "default": []},
            "layout": {"type": "dict", "required": True},
            "url": {"type": "str", "required": True},
            "model": {"type": "path", "required": True},
            "served_name": {"type": "str", "required": True},
            "server_pid": {"type": "int", "required": True},
            "server_log": {"type": "path", "required": True},
            "runs": {"type": "int", "default": 5},
            "prompts": {"type": "int", "default": 1},
            "concurrency": {"type": "int", "default": 1},
            "input_len": {"type": "int", "default": 57},
            "output_len": {"type": "int", "default": 512},
            "seed": {"type": "int", "default": 1},
            "context": {"type": "dict", "default": {}},
            "env": {"type": "dict", "default": {}},
            "work_dir": {"type": "path", "required": True},
            "timeout_s": {"type": "int", "default": 600},
            "clock_window": clocks_window.ARGUMENT,
            "expected_transport": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    args = module.params
    for key in ("runs", "prompts", "concurrency", "input_len", "output_len"):
        if args[key] < 1:
            module.fail_json(msg="%s must be at least 1, got %d" % (key, args[key]))
    name = args["layout"].get("name", "layout")
    argv = client_argv(args, args["seed"] + 1, os.path.join(args["work_dir"], "bench-01.json"))
    measurement = Measurement("benchmark", name, printable(argv))
    measurement.context.update(args["context"])
    measurement.context.update({key: value for key, value in args["layout"].items() if key not in ("name", "env")})
    measurement.context.update({"layout": name, "url": args["url"], "model": args["model"]})
    measurement.context.update(config_of(args["model"]))
    measurement.measured.update(
        {
            "input_len_tokens": args["input_len"],
            "output_len_tokens": args["output_len"],
            "concurrency": args["concurrency"],
            "num_runs": 0,
            "runs": [],
        }
    )
    if module.check_mode:
        measurement.add("check_mode", "skipped", "would run %d times: %s" % (args["runs"], printable(argv)))
        module.exit_json(changed=False, **measurement.result())

    runs = measurement.measured["runs"]
    window = clocks_window.watch(args["clock_window"], nodes=args["layout"].get("nodes"))
    wire = transport_serving.Watch(args["url"])
    try:
        os.makedirs(args["work_dir"], exist_ok=True)
        one_run(args, 0)  # warms up: the first requests pay for lazy initialisation
        with window:
            for number in range(1, args["runs"] + 1):
                runs.append(one_run(args, number))
    except (RunFailed, OSError) as error:
        seen = "run %d of %d: %s" % (len(runs) + 1, args["runs"], error)
        cause = server_cause(args["server_log"])
        if cause or not processes.is_running(args["server_pid"]):
            seen += "; the server's log says: %s" % (cause or "nothing, as when it is killed")
        measurement.add(
            "benchmark.runs", "failed", seen, "%d runs without a failed request" % args["runs"],
            "read %s and bench-*.log in %s on the head" % (os.path.basename(args["server_log"]), args["work_dir"]),
        )  # fmt: skip
    else:
        measurement.add(
            "benchmark.runs", "healthy",
            "%d runs of %d request(s), all completed, each with %d output tokens"
            % (len(runs), args["prompts"], args["output_len"]),
            "%d runs without a failed request" % args["runs"],
        )  # fmt: skip
    window.attach(measurement)
    check_input(measurement, args, runs)
    nodes, ranks = (int(args["layout"].get(key) or 1) for key in ("nodes", "tp"))
    ranks *= int(args["layout"].get("pp") or 1)
    wire.attach(measurement, args["server_log"], nodes, ranks, args["expected_transport"], runs)
    measurement.measured["num_runs"] = len(runs)
    if runs:
        columns = {key: [run[key] for run in runs if run[key] is not None] for key in SUMMARISED}
        measurement.measured["summary"] = {key: summary(values) for key, values in columns.items() if values}
    module.exit_json(changed=False, **measurement.result())


if __name__ == "__main__":
    main()
