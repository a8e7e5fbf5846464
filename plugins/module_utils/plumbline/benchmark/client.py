"""The command of one ``vllm bench serve`` run: the only place where the client's options are spelled.

The options and the keys of the result were compared in the sources of vLLM 0.17.1, 0.20.2, 0.25.0, 0.29.0 and 0.32.0.
"""

from __future__ import annotations

import math
import os
from typing import NamedTuple

# Our names of an SLO's bounds -> the names that --goodput knows.
SLO_NAMES = {"ttft_ms": "ttft", "tpot_ms": "tpot", "e2e_ms": "e2el"}
# Seeds of a sweep start here above the first run's, so that no level repeats the prompts of a run, however many runs there are.
SWEEP_SEED = 10000


def checked_slo(slo):
    """Return an SLO as ``{ttft_ms, tpot_ms, e2e_ms: float}``, those that were given; raise ValueError for any other."""
    found = {}
    if not isinstance(slo or {}, dict):
        raise ValueError("an SLO is a mapping of bounds, not %r" % (slo,))
    for name, bound in (slo or {}).items():
        if name not in SLO_NAMES:
            raise ValueError("an SLO bounds %s, not %r" % (", ".join(SLO_NAMES), name))
        try:
            found[name] = float(bound)
        except (TypeError, ValueError, OverflowError):
            raise ValueError("the SLO's %s is %r, not a number of milliseconds" % (name, bound)) from None
        if isinstance(bound, bool) or not 0 < found[name] < math.inf:
            raise ValueError("the SLO's %s must be above 0 ms, got %g" % (name, found[name]))
    return found


class Step(NamedTuple):
    """One call of the client: its name (of its files), the seed of its prompts, requests in all and at a time."""

    name: str
    seed: int
    prompts: int
    concurrency: int


def run_step(options, number):
    """Return the step of run ``number``; 0 is the warm-up. ``options`` are ``options.Options``, here and below."""
    return Step("bench-%02d" % number, options.seed + number, options.prompts, options.concurrency)


def sweep_steps(options):
    """Return the steps of a sweep: a warm-up at the highest level, one prompt a slot, then the levels upwards.

    The level that is first at its batch size pays for what the server makes on demand (kernels picked by shape, buffers). One
    discarded run at the highest level makes all that grows with the batch; one a level would double the number of clients.
    """
    levels = sorted(set(options.sweep))
    first = options.seed + SWEEP_SEED
    steps = [Step("sweep-warmup", first, levels[-1], levels[-1])]
    for index, level in enumerate(levels, 1):
        steps.append(Step("sweep-%04d" % level, first + index, level * options.sweep_prompts_per_slot, level))
    return steps


def most_calls(runs, max_runs, sweep):
    """Return how often the client is called at most: a warm-up and the runs, and where there is a sweep its warm-up and its levels."""
    return 1 + max(runs, max_runs) + (1 + len(set(sweep)) if sweep else 0)


def seeds_clash(steps):
    """Return the seeds that two of these steps share: none may, or the later one sends the earlier one's prompts again."""
    seeds = [step.seed for step in steps]
    return sorted({seed for seed in seeds if seeds.count(seed) > 1})


def argv(options, step, result_file):
    """Return the argv of one step.

    ``--num-warmups`` and the ready check both send request 0 of the very run before it is measured, so both are off.
    """
    slo = ["%s:%g" % (SLO_NAMES[name], bound) for name, bound in sorted(options.slo.items())]
    return [
        options.program, "bench", "serve",
        "--backend", "openai", "--base-url", options.url,
        "--model", options.served_name, "--tokenizer", options.model,
        "--dataset-name", "random", "--random-input-len", str(options.input_len),
        "--random-output-len", str(options.output_len), "--random-range-ratio", "0",
        "--num-prompts", str(step.prompts), "--max-concurrency", str(step.concurrency),
        "--num-warmups", "0", "--ready-check-timeout-sec", "0",
        "--temperature", "0", "--ignore-eos", "--seed", str(step.seed),
        "--percentile-metrics", "ttft,tpot,itl,e2el", "--metric-percentiles", "50,90,99",
        *(["--goodput", *slo] if slo else []),
        "--save-result", "--save-detailed", "--disable-tqdm",
        "--result-dir", os.path.dirname(result_file), "--result-filename", os.path.basename(result_file),
    ]  # fmt: skip
