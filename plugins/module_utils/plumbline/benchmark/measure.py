"""A benchmark from its warm-up to the sweep, step by step into a ``benchmark`` fact. What was measured before a failure is kept.

Each step takes the ``options.Options`` and the ``Measurement``, and adds to the latter what it saw.
"""

from __future__ import annotations

import functools
import os

from ..clocks import window as clocks_window
from ..core import processes
from ..core.fact import Measurement
from ..core.files import read_text
from ..core.stats import distribution, summary
from ..machine import hbm
from ..model import config as served_model
from ..serving import cause as failure
from ..serving import options as server_options
from ..serving import peers, wire
from ..serving.command import printable
from . import client, counters, judge
from .calls import Calls
from .run import RunFailed, one_run
from .stop_rule import METRIC

SUMMARISED = (
    "throughput_tok_s", "total_throughput_tok_s", "decode_tok_s", "ttft_ms", "tpot_ms", "itl_ms", "e2e_ms",
    "request_goodput_per_s", "goodput_share",
)  # fmt: skip


def begin(options):
    """Return the ``Measurement`` of a benchmark: what is asked of which layout and model, and nothing measured yet."""
    measurement, layout = Measurement("benchmark", options.name, options.command), options.layout
    measurement.context.update(options.context)
    measurement.context.update({key: value for key, value in layout.items() if key not in ("name", "env", "extra_args")})
    if layout.get("extra_args"):
        measurement.context["extra_args"] = printable(layout["extra_args"])  # may hold an API key
    measurement.context.update({"layout": options.name, "url": options.url, "model": options.model})
    measurement.context.update(_model(options))
    measurement.measured.update(
        {
            "input_len_tokens": options.input_len,
            "output_len_tokens": options.output_len,
            "concurrency": options.concurrency,
            "num_runs": 0,
            "runs": [],
        }
    )
    if options.slo:
        measurement.measured["slo"] = options.slo
    return measurement


def _model(options):
    """Return what is noted of the model. There are no bytes of a token where the server's options stand against their arithmetic."""
    server = options.server
    against = server.why_not(server_options.WEIGHTS, server_options.CACHE, server_options.TOKEN)
    for key, value in (("tp", server.tp), ("pp", server.pp)):
        if not against and value != int(options.layout.get(key) or 1):
            against = "the layout's %s is %s, the server was given %s" % (key, options.layout.get(key), value)
    return served_model.context(options.model, server.dtype, server.kv_dtype, against)


def foretell(options, measurement):
    """Add what would be run, for check mode."""
    seen = "would run %s: %s" % (options.rule.text(), measurement.command)
    if options.levels:
        seen += "; then a sweep over %s requests in flight" % ", ".join(str(step.concurrency) for step in options.levels[1:])
    measurement.add("check_mode", "skipped", seen)


def measure(options, measurement):
    """Warm up, run, judge, and where one is asked for and all went well, sweep."""
    _describe_server(options, measurement)
    # The start of the server has seen the other nodes take part.
    others = peers.Watch(options.node_addresses[1:], proven=True)
    nodes = options.layout.get("nodes")
    # A single request leaves power to spare; many at once take a healthy H200 to its limit (39 % of a sweep to 256 for one, 4 % for four).
    window = clocks_window.watch(options.clock_window, nodes=nodes, full_load=options.concurrency > 1)
    sweep_window = clocks_window.watch(options.clock_window, nodes=nodes, full_load=True)
    carried = wire.Watch(options.url)
    with Calls(options) as calls:
        one = functools.partial(one_run, options, others, calls)
        _measure_all(options, measurement, one, window, sweep_window, carried)
        measurement.context["client_preloaded"] = calls.preloaded


def _measure_all(options, measurement, one, window, sweep_window, carried):
    """Measure runs and sweep, each call by ``one(step)``, with the clocks' windows and what watches the wire."""
    passed = _measure_runs(options, measurement, one, window)
    window.attach(measurement)
    runs = measurement.measured["runs"]
    judge.check_input(measurement, options.input_len, runs)
    judge.judge_bursts(measurement, runs)
    carried.attach(measurement, options.server_log, options.nodes, options.ranks, options.expected_transport, runs)
    _summarise(options, measurement, passed)
    if passed and options.levels:
        _measure_sweep(options, measurement, one, sweep_window)
        _attach_sweep_clocks(measurement, sweep_window)


def _describe_server(options, measurement):
    """Take from the server's log and this node's driver what the numbers must be read with."""
    log = read_text(options.server_log) or ""
    measurement.context.update(max_num_seqs=server_options.max_num_seqs(log), prefix_caching=server_options.prefix_caching(log))
    step = options.server.why_not(server_options.STEP) or server_options.told_against(log, ("speculative_config",))
    if step:
        measurement.context["tokens_per_step_unknown"] = step
    told = server_options.told_against(log)
    if told and measurement.context.pop("read_per_token_bytes", None):
        measurement.context.pop("kv_bytes_per_token", None)
        measurement.context["model_bytes_unknown"] = told
    names = hbm.gpu_names(options.clock_window.get("nvidia_smi"))
    measurement.context.update(hbm.context(names, options.hbm_read_gbps, options.hbm_read_known))


def _add_failure(options, measurement, check, seen, error, threshold):
    """Add the reason of a run that measured nothing, with what the server's log says where the server is to blame."""
    seen = "%s: %s" % (seen, error)
    cause, remedy = failure.told(failure.causes(read_text(options.server_log) or ""))
    if cause or not processes.is_running(options.server_pid):
        seen += "; the server's log says: %s" % (cause or "nothing, as when it is killed")
    log = os.path.basename(options.server_log)
    files = "sweep-*.log" if check == "benchmark.sweep" else "bench-*.log"
    where = "%sread %s and %s in %s on the head" % (remedy + "; " if remedy else "", log, files, options.work_dir)
    measurement.add(check, "failed", seen, threshold, where)


def _measure_runs(options, measurement, one, window):
    """Warm up and run until the rule is satisfied; return whether all went well. The clocks' ``window`` is open over the runs alone."""
    rule, runs, pooled, before = options.rule, measurement.measured["runs"], {}, None
    threshold = "%s, without a failed request" % rule.text()
    try:
        os.makedirs(options.work_dir, exist_ok=True)
        one(client.run_step(options, 0))  # warms up: the first requests pay for lazy initialisation
        before = counters.read(options.url, options.key)
        with window:
            while not rule.done([run[METRIC] for run in runs]):
                run, values = one(client.run_step(options, len(runs) + 1))
                runs.append(run)
                for name, more in values.items():
                    pooled.setdefault(name, []).extend(more)
    except (RunFailed, OSError) as error:
        _add_failure(options, measurement, "benchmark.runs", "run %d of %d" % (len(runs) + 1, rule.maximum), error, threshold)
        passed = False
    else:
        counted = (len(runs), options.prompts, options.output_len)
        seen = "%d runs of %d request(s), all completed, each with %d output tokens" % counted
        measurement.add("benchmark.runs", "healthy", seen, threshold)
        passed = True
    if before:
        judge.judge_prompts(measurement, counters.difference(before, counters.read(options.url, options.key)))
    measurement.measured["distribution"] = {name: distribution(values) for name, values in pooled.items()}
    return passed


def _summarise(options, measurement, passed):
    """Put number and summary of the runs into the fact, and say what the rule makes of them; it is judged where all ``passed``."""
    runs = measurement.measured["runs"]
    measurement.measured["num_runs"] = len(runs)
    if runs:
        columns = {key: [run[key] for run in runs if run.get(key) is not None] for key in SUMMARISED}
        measurement.measured["summary"] = {key: summary(values) for key, values in columns.items() if values}
    rates = [run[METRIC] for run in runs]
    measurement.measured["stop"] = options.rule.verdict(rates)
    said = options.rule.reason(rates)
    if passed and said:
        measurement.add(*said)


def _measure_sweep(options, measurement, one, window):
    """Measure each level of the sweep once; stop at the first that fails and keep those before."""
    warm_up, *steps = options.levels
    levels = measurement.measured["sweep"] = []
    names = ", ".join(str(step.concurrency) for step in steps)
    limit = measurement.context["max_num_seqs"]
    step = warm_up
    try:
        one(warm_up)
        with window:
            for step in steps:
                before = counters.read(options.url, options.key)
                run, _values = one(step)
                grown = counters.difference(before, counters.read(options.url, options.key))
                run["queued"] = step.concurrency > limit if limit else None
                levels.append(dict(run, concurrency=step.concurrency, preemptions=grown["preemptions"]))
    except (RunFailed, OSError) as error:
        where = "%s at %d requests in flight, %d of %d levels measured" % (step.name, step.concurrency, len(levels), len(steps))
        _add_failure(options, measurement, "benchmark.sweep", where, error, "levels %s without a failed request" % names)
    else:
        measurement.add("benchmark.sweep", "healthy", "levels %s, every request completed" % names, "no failed request")
    judge.judge_levels(measurement, levels, limit)
    judge.check_input(measurement, options.input_len, levels, "benchmark.sweep_input")


def _attach_sweep_clocks(measurement, window):
    """Put the clocks under the sweep beside those of the runs: its load is another one, and so is the verdict on it."""
    if window.present and window.duration_s is None:
        return
    measurement.context["sweep_clocks"] = window.context()
    measurement.reasons += [dict(item, check="sweep." + item["check"]) for item in window.reasons]
