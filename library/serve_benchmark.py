#!/usr/bin/python
"""Ansible module: benchmark a running vLLM server with ``vllm bench serve``."""

from __future__ import annotations

DOCUMENTATION = r"""
module: serve_benchmark
short_description: run C(vllm bench serve) several times and return one benchmark fact
description:
  - One discarded warm-up run, then at least C(runs) runs, each with prompts of its own (the seed changes), so that no run meets the
    cache of an earlier one. The server's counters say whether any prompt came from its prefix cache all the same.
  - With C(interval_percent) it goes on until the 95 % interval of the throughput is that narrow, C(max_runs) at most.
  - With C(sweep) it then measures one run for each number of requests in flight.
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
  model: {description: "Folder of the model, for its tokenizer.", type: path, required: true}
  served_name: {description: Name under which the model is served., type: str, required: true}
  server_pid: {description: Process id of the server on this node., type: int, required: true}
  server_log: {description: Path of the server's log., type: path, required: true}
  runs: {description: "Number of measured runs, with C(interval_percent) the least number.", type: int, default: 5}
  max_runs: {description: Number of measured runs at most; V(0) is C(runs)., type: int, default: 0}
  interval_percent:
    description:
      - Go on after C(runs) until the full width of the 95 % t-interval of the runs' C(throughput_tok_s) is at most this many percent
        of their mean. V(0) asks for no interval. Not reached at C(max_runs) is C(degraded).
    type: float
    default: 0
  prompts: {description: Requests in a run., type: int, default: 1}
  concurrency: {description: Requests in flight., type: int, default: 1}
  input_len: {description: Prompt length in tokens., type: int, default: 57}
  output_len: {description: Output length in tokens., type: int, default: 512}
  seed: {description: Seed of the first run's prompts., type: int, default: 1}
  slo:
    description:
      - Bounds in ms that a request must keep, any of C(ttft_ms), C(tpot_ms) and C(e2e_ms). Runs and levels then carry
        C(request_goodput_per_s), the requests a second that kept all of them, and C(goodput_share).
    type: dict
    default: {}
  sweep: {description: Numbers of requests in flight to measure after the runs., type: list, elements: int, default: []}
  sweep_prompts_per_slot: {description: Requests of a sweep's level for each one in flight., type: int, default: 4}
  dtype: {description: Type of the weights as given to the server; V(auto) is the model's own., type: str, default: auto}
  hbm_read_gbps:
    description: Rate in 10⁹ bytes/s at which one GPU reads its memory; V(0) looks the GPU's name up in C(hbm_read_known).
    type: float
    default: 0
  hbm_read_known:
    description: Measured rates by the name that nvidia-smi prints, each with C(hbm_read_gbps) and C(source).
    type: dict
    default: {}
  context: {description: "What to note beside the numbers (addresses, link rate).", type: dict, default: {}}
  env: {description: Environment of the client., type: dict, default: {}}
  work_dir: {description: Folder for the result files., type: path, required: true}
  timeout_s: {description: "Seconds one run, or one level of a sweep, may take.", type: int, default: 600}
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

- name: Until the interval is 2 % wide, then throughput against latency under an SLO
  serve_benchmark:
    program: /opt/plumbline/vllm/bin/vllm
    layout: {name: tp1, tp: 1, pp: 1, nodes: 1, executor: mp}
    url: http://10.98.0.11:8000
    model: /var/lib/plumbline/models/tiny-qwen2
    served_name: tiny-qwen2
    server_pid: 4711
    server_log: /var/lib/plumbline/serve/tp1/server.log
    work_dir: /var/lib/plumbline/serve/tp1
    runs: 5
    max_runs: 20
    interval_percent: 2
    slo: {ttft_ms: 200, tpot_ms: 20}
    sweep: [1, 4, 16, 64, 256]
"""

RETURN = r"""
fact: {description: The C(benchmark) fact; see docs/facts.md., type: dict, returned: always}
"""

import json
import os
import time

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.plumbline.benchmark import client as bench_client
from ansible.module_utils.plumbline.benchmark import counters as vllm_metrics
from ansible.module_utils.plumbline.benchmark import judge as bench_judge
from ansible.module_utils.plumbline.benchmark import result as vllm_bench
from ansible.module_utils.plumbline.benchmark.stop_rule import METRIC, StopRule
from ansible.module_utils.plumbline.clocks import window as clocks_window
from ansible.module_utils.plumbline.core import processes
from ansible.module_utils.plumbline.core.fact import Measurement
from ansible.module_utils.plumbline.core.files import read_text
from ansible.module_utils.plumbline.core.stats import distribution, summary
from ansible.module_utils.plumbline.machine import hbm
from ansible.module_utils.plumbline.model import config as served_model
from ansible.module_utils.plumbline.serving import log as vllm_log
from ansible.module_utils.plumbline.serving import options as server_options
from ansible.module_utils.plumbline.serving import peers
from ansible.module_utils.plumbline.serving import wire as transport_serving
from ansible.module_utils.plumbline.serving.command import printable
from ansible.module_utils.plumbline.serving.runtime import Runtime

SUMMARISED = (
    "throughput_tok_s", "total_throughput_tok_s", "decode_tok_s", "ttft_ms", "tpot_ms", "itl_ms", "e2e_ms",
    "request_goodput_per_s", "goodput_share",
)  # fmt: skip


class RunFailed(Exception):
    """A run measured nothing; the text says why."""


def run_client(args, argv, log_path):
    """Run the client until it ends; raise :class:`RunFailed` when the server or a node is lost or the time is over."""
    with open(log_path, "wb") as log:
        client = Runtime(args["container"]).client(argv, args["env"], log)
        started = time.monotonic()
        try:
            while client.poll() is None:
                if not processes.is_running(args["server_pid"]):
                    raise RunFailed("the server (pid %d) ended during the run" % args["server_pid"])
                lost = args["others"].lost()
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


def one_run(args, item):
    """Run one step (of ``bench_client``); return its numbers and its requests' values, or raise :class:`RunFailed`."""
    result_file = os.path.join(args["work_dir"], item["name"] + ".json")
    log_path = os.path.join(args["work_dir"], item["name"] + ".log")
    if os.path.exists(result_file):
        os.unlink(result_file)  # an old result must never stand in for a run that wrote none
    status = run_client(args, bench_client.argv(args, item, result_file), log_path)
    try:
        with open(result_file, encoding="utf-8") as stream:
            result = json.load(stream)
    except (OSError, ValueError):
        raise RunFailed("no readable result (exit status %d): %s" % (status, log_tail(log_path))) from None
    found = vllm_bench.problems(result, item["prompts"], args["output_len"], bool(args["slo"]))
    if found:
        error = vllm_bench.first_error(result)
        raise RunFailed("; ".join(found) + (": " + error if error else ""))
    return vllm_bench.run(result, args["output_len"]), vllm_bench.requests(result)


def failed(measurement, args, check, seen, error, threshold):
    """Add the reason of a run that measured nothing, with what the server's log says where the server is to blame."""
    seen = "%s: %s" % (seen, error)
    cause = vllm_log.root_cause(read_text(args["server_log"]) or "")
    if cause or not processes.is_running(args["server_pid"]):
        seen += "; the server's log says: %s" % (cause or "nothing, as when it is killed")
    log = os.path.basename(args["server_log"])
    files = "sweep-*.log" if check == "benchmark.sweep" else "bench-*.log"
    measurement.add(check, "failed", seen, threshold, "read %s and %s in %s on the head" % (log, files, args["work_dir"]))


def measure_runs(args, measurement, rule, window):
    """Warm up and run until the rule is satisfied; return whether all went well. What was measured is kept either way."""
    runs, pooled = measurement.measured["runs"], {}
    threshold = "%s, without a failed request" % rule.text()
    before = None
    try:
        os.makedirs(args["work_dir"], exist_ok=True)
        one_run(args, bench_client.run_step(args, 0))  # warms up: the first requests pay for lazy initialisation
        before = vllm_metrics.read(args["url"])
        with window:
            while not rule.done([run[METRIC] for run in runs]):
                run, values = one_run(args, bench_client.run_step(args, len(runs) + 1))
                runs.append(run)
                for name, more in values.items():
                    pooled.setdefault(name, []).extend(more)
    except (RunFailed, OSError) as error:
        failed(measurement, args, "benchmark.runs", "run %d of %d" % (len(runs) + 1, rule.maximum), error, threshold)
        passed = False
    else:
        seen = "%d runs of %d request(s), all completed, each with %d output tokens" % (len(runs), args["prompts"], args["output_len"])
        measurement.add("benchmark.runs", "healthy", seen, threshold)
        passed = True
    if before:
        bench_judge.judge_prompts(measurement, vllm_metrics.difference(before, vllm_metrics.read(args["url"])))
    measurement.measured["distribution"] = {name: distribution(values) for name, values in pooled.items()}
    return passed


def measure_sweep(args, measurement, steps, window):
    """Measure each level of the ``steps`` (of ``bench_client``) once; stop at the first that fails and keep those before."""
    levels = measurement.measured["sweep"] = []
    names = ", ".join(str(item["concurrency"]) for item in steps[1:])
    limit = measurement.context["max_num_seqs"]
    item = steps[0]
    try:
        one_run(args, item)
        with window:
            for item in steps[1:]:
                before = vllm_metrics.read(args["url"])
                run, _values = one_run(args, item)
                grown = vllm_metrics.difference(before, vllm_metrics.read(args["url"]))
                run["queued"] = item["concurrency"] > limit if limit else None
                levels.append(dict(run, concurrency=item["concurrency"], preemptions=grown["preemptions"]))
    except (RunFailed, OSError) as error:
        where = "%s at %d requests in flight, %d of %d levels measured" % (item["name"], item["concurrency"], len(levels), len(steps) - 1)
        failed(measurement, args, "benchmark.sweep", where, error, "levels %s without a failed request" % names)
    else:
        measurement.add("benchmark.sweep", "healthy", "levels %s, every request completed" % names, "no failed request")
    bench_judge.judge_levels(measurement, levels, limit)
    bench_judge.check_input(measurement, args["input_len"], levels, "benchmark.sweep_input")


def attach_sweep_clocks(measurement, window):
    """Put the clocks under the sweep beside those of the runs: its load is another one, and so is the verdict on it."""
    if window.present and window.duration_s is None:
        return
    measurement.context["sweep_clocks"] = window.context()
    measurement.reasons += [dict(item, check="sweep." + item["check"]) for item in window.reasons]


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
            "max_runs": {"type": "int", "default": 0},
            "interval_percent": {"type": "float", "default": 0},
            "slo": {"type": "dict", "default": {}},
            "sweep": {"type": "list", "elements": "int", "default": []},
            "sweep_prompts_per_slot": {"type": "int", "default": 4},
            "dtype": {"type": "str", "default": "auto"},
            "hbm_read_gbps": {"type": "float", "default": 0},
            "hbm_read_known": {"type": "dict", "default": {}},
            "context": {"type": "dict", "default": {}},
            "env": {"type": "dict", "default": {}},
            "work_dir": {"type": "path", "required": True},
            "timeout_s": {"type": "int", "default": 600},
            "clock_window": clocks_window.argument(),
            "expected_transport": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    # The start of the server has seen the other nodes take part.
    args = dict(module.params, others=peers.Watch(module.params["node_addresses"][1:], proven=True))
    for key in ("runs", "prompts", "concurrency", "input_len", "output_len", "sweep_prompts_per_slot"):
        if args[key] < 1:
            module.fail_json(msg="%s must be at least 1, got %d" % (key, args[key]))
    if any(level < 1 for level in args["sweep"]):
        module.fail_json(msg="sweep must be numbers of requests of at least 1, got %s" % args["sweep"])
    try:
        args["slo"] = bench_client.checked_slo(args["slo"])
        rule = StopRule(args["runs"], args["max_runs"], args["interval_percent"])
    except ValueError as error:
        module.fail_json(msg=str(error))
    steps = [bench_client.run_step(args, number) for number in range(rule.maximum + 1)]
    levels = bench_client.sweep_steps(args) if args["sweep"] else []
    clash = bench_client.seeds_clash(steps + levels)
    if clash:
        limit = bench_client.SWEEP_SEED
        module.fail_json(msg="two runs would send the same prompts (seed %d): max_runs must stay below %d" % (clash[0], limit))

    name = args["layout"].get("name", "layout")
    argv = bench_client.argv(args, steps[1], os.path.join(args["work_dir"], "bench-01.json"))
    measurement = Measurement("benchmark", name, printable(argv))
    measurement.context.update(args["context"])
    measurement.context.update({key: value for key, value in args["layout"].items() if key not in ("name", "env", "extra_args")})
    if args["layout"].get("extra_args"):
        measurement.context["extra_args"] = printable(args["layout"]["extra_args"])  # may hold an API key
    measurement.context.update({"layout": name, "url": args["url"], "model": args["model"]})
    measurement.context.update(served_model.context(args["model"], args["dtype"]))
    measurement.measured.update(
        {
            "input_len_tokens": args["input_len"],
            "output_len_tokens": args["output_len"],
            "concurrency": args["concurrency"],
            "num_runs": 0,
            "runs": [],
        }
    )
    if args["slo"]:
        measurement.measured["slo"] = args["slo"]
    if module.check_mode:
        seen = "would run %s: %s" % (rule.text(), printable(argv))
        if levels:
            seen += "; then a sweep over %s requests in flight" % ", ".join(str(item["concurrency"]) for item in levels[1:])
        measurement.add("check_mode", "skipped", seen)
        module.exit_json(changed=False, **measurement.result())

    log = read_text(args["server_log"]) or ""
    measurement.context.update(max_num_seqs=server_options.max_num_seqs(log), prefix_caching=server_options.prefix_caching(log))
    names = hbm.gpu_names(args["clock_window"].get("nvidia_smi"))
    measurement.context.update(hbm.context(names, args["hbm_read_gbps"], args["hbm_read_known"]))
    window, sweep_window = (clocks_window.watch(args["clock_window"], nodes=args["layout"].get("nodes")) for _part in range(2))
    wire = transport_serving.Watch(args["url"])
    runs = measurement.measured["runs"]
    passed = measure_runs(args, measurement, rule, window)
    window.attach(measurement)
    bench_judge.check_input(measurement, args["input_len"], runs)
    bench_judge.judge_bursts(measurement, runs)
    nodes, ranks = (int(args["layout"].get(key) or 1) for key in ("nodes", "tp"))
    ranks *= int(args["layout"].get("pp") or 1)
    wire.attach(measurement, args["server_log"], nodes, ranks, args["expected_transport"], runs)
    measurement.measured["num_runs"] = len(runs)
    if runs:
        columns = {key: [run[key] for run in runs if run.get(key) is not None] for key in SUMMARISED}
        measurement.measured["summary"] = {key: summary(values) for key, values in columns.items() if values}
    rates = [run[METRIC] for run in runs]
    measurement.measured["stop"] = rule.verdict(rates)
    said = rule.reason(rates)
    if passed and said:
        measurement.add(*said)
    if passed and levels:
        measure_sweep(args, measurement, levels, sweep_window)
        attach_sweep_clocks(measurement, sweep_window)
    module.exit_json(changed=False, **measurement.result())


if __name__ == "__main__":
    main()
