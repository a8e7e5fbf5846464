"""The command of one ``vllm bench serve`` run: the only place where the client's options are spelled.

The options and the keys of the result were compared in the sources of vLLM 0.17.1, 0.20.2, 0.25.0, 0.29.0 and 0.32.0.
"""

from __future__ import annotations

import os

# Our names of an SLO's bounds -> the names that --goodput knows.
SLO_NAMES = {"ttft_ms": "ttft", "tpot_ms": "tpot", "e2e_ms": "e2el"}
# Seeds of a sweep start here above the first run's, so that no level repeats the prompts of a run, however many runs there are.
SWEEP_SEED = 10000


def checked_slo(slo):
    """Return an SLO as ``{ttft_ms, tpot_ms, e2e_ms: float}``, those that were given; raise ValueError for any other."""
    found = {}
    for name, bound in (slo or {}).items():
        if name not in SLO_NAMES:
            raise ValueError("an SLO bounds %s, not %r" % (", ".join(SLO_NAMES), name))
        try:
            found[name] = float(bound)
        except (TypeError, ValueError):
            raise ValueError("the SLO's %s is %r, not a number of milliseconds" % (name, bound)) from None
        if not found[name] > 0:
            raise ValueError("the SLO's %s must be above 0 ms, got %g" % (name, found[name]))
    return found


def step(name, seed, prompts, concurrency):
    """Return one call of the client: its name (of its files), the seed of its prompts, requests in all and at a time."""
    return {"name": name, "seed": seed, "prompts": prompts, "concurrency": concurrency}


def run_step(args, number):
    """Return the step of run ``number``; 0 is the warm-up."""
    return step("bench-%02d" % number, args["seed"] + number, args["prompts"], args["concurrency"])


def sweep_steps(args):
    """Return the steps of a sweep: a warm-up at the highest level, one prompt a slot, then the levels upwards.

    The level that is first at its batch size pays for what the server makes on demand (kernels picked by shape, buffers). One
    discarded run at the highest level makes all that grows with the batch; one a level would double the number of clients.
    """
    levels = sorted(set(args["sweep"]))
    first = args["seed"] + SWEEP_SEED
    steps = [step("sweep-warmup", first, levels[-1], levels[-1])]
    for index, level in enumerate(levels, 1):
        steps.append(step("sweep-%04d" % level, first + index, level * args["sweep_prompts_per_slot"], level))
    return steps


def seeds_clash(steps):
    """Return the seeds that two of these steps share: none may, or the later one sends the earlier one's prompts again."""
    seeds = [item["seed"] for item in steps]
    return sorted({seed for seed in seeds if seeds.count(seed) > 1})


def argv(args, item, result_file):
    """Return the argv of one step.

    ``--num-warmups`` and the ready check both send request 0 of the very run before it is measured, so both are off.
    """
    slo = ["%s:%g" % (SLO_NAMES[name], bound) for name, bound in sorted((args["slo"] or {}).items())]
    return [
        args["program"], "bench", "serve",
        "--backend", "openai", "--base-url", args["url"],
        "--model", args["served_name"], "--tokenizer", args["model"],
        "--dataset-name", "random", "--random-input-len", str(args["input_len"]),
        "--random-output-len", str(args["output_len"]), "--random-range-ratio", "0",
        "--num-prompts", str(item["prompts"]), "--max-concurrency", str(item["concurrency"]),
        "--num-warmups", "0", "--ready-check-timeout-sec", "0",
        "--temperature", "0", "--ignore-eos", "--seed", str(item["seed"]),
        "--percentile-metrics", "ttft,tpot,itl,e2el", "--metric-percentiles", "50,90,99",
        *(["--goodput", *slo] if slo else []),
        "--save-result", "--save-detailed", "--disable-tqdm",
        "--result-dir", os.path.dirname(result_file), "--result-filename", os.path.basename(result_file),
    ]  # fmt: skip
