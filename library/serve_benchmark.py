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
  program: {description: "Path of the C(vllm) command, or its name in a container.", type: str, required: true}
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
  extra_args:
    description: More arguments of C(vllm serve), before those of the layout. They decide what the arithmetic of a token may assume.
    type: list
    elements: str
    default: []
  hbm_read_gbps:
    description: Rate in 10⁹ bytes/s at which one GPU reads its memory; V(0) looks the GPU's name up in C(hbm_read_known).
    type: float
    default: 0
  hbm_read_known:
    description: Measured rates by the name that nvidia-smi prints, each with C(hbm_read_gbps) and C(source).
    type: dict
    default: {}
  context: {description: "What to note beside the numbers (addresses, link rate).", type: dict, default: {}}
  env:
    description:
      - Environment of the client, as given to M(vllm_server). The server's API key, here as E(VLLM_API_KEY) or as C(--api-key) in the
        arguments, reaches the client as E(OPENAI_API_KEY).
    type: dict
    default: {}
  work_dir: {description: Folder for the result files., type: path, required: true}
  timeout_s: {description: "Seconds one run, or one level of a sweep, may take.", type: int, default: 600}
  preload:
    description:
      - Whether the runs are forked from one process that has the client's imports behind it, instead of importing for each; see
        C(plugins/module_utils/plumbline/benchmark/calls.py). Where that cannot be done each run imports.
    type: bool
    default: false
  clock_window:
    description:
      - How GPU clocks are watched during the measurement; see C(plugins/module_utils/plumbline/clocks/window.py). Without a GPU
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
      gpus: {description: "GPUs that are watched, as C(plumbline_gpus) has them; empty for all.", type: raw, default: []}
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

from ansible.module_utils.plumbline.benchmark import measure
from ansible.module_utils.plumbline.benchmark import options as benchmark_options
from ansible.module_utils.plumbline.clocks import window as clocks_window
from ansible.module_utils.plumbline.core import marks
from ansible.module_utils.plumbline.core.module import AnsibleModule


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
            "extra_args": {"type": "list", "elements": "str", "default": []},
            "hbm_read_gbps": {"type": "float", "default": 0},
            "hbm_read_known": {"type": "dict", "default": {}},
            "context": {"type": "dict", "default": {}},
            "env": {"type": "dict", "default": {}},
            "work_dir": {"type": "path", "required": True},
            "timeout_s": {"type": "int", "default": 600},
            "preload": {"type": "bool", "default": False},
            "clock_window": clocks_window.argument(),
            "expected_transport": {"type": "str", "default": ""},
        },
        supports_check_mode=True,
    )
    try:
        options = benchmark_options.read(module.params)
    except ValueError as error:
        module.fail_json(msg=str(error))
    measurement = measure.begin(options)
    if module.check_mode:
        measure.foretell(options, measurement)
    else:
        measure.measure(options, measurement)
    module.exit_json(changed=False, **measurement.result())


if __name__ == "__main__":
    marks.belong(marks.measuring())  # reset finds it, and what it started, when its connection is lost
    main()
