"""What one benchmark was asked for, read once from the arguments of the module ``serve_benchmark`` and never changed after."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace

from ..serving import api_key
from ..serving.command import checked_layout, printable
from ..serving.options import effective
from . import client
from .stop_rule import StopRule

AT_LEAST_ONE = ("runs", "prompts", "concurrency", "input_len", "output_len", "sweep_prompts_per_slot")


@dataclass(frozen=True)
class Options:
    """The module's arguments under their own names (lengths in tokens, times in s), the SLO's bounds as floats, and what follows from them.

    ``env`` is the client's environment, with the key of a server that asks for one. ``rule`` says when the runs are enough, ``levels`` are
    the steps of the sweep with its warm-up first, empty without one.
    """

    program: str
    container: str
    node_addresses: tuple
    layout: dict
    url: str
    model: str
    served_name: str
    server_pid: int
    server_log: str
    runs: int
    max_runs: int
    interval_percent: float
    prompts: int
    concurrency: int
    input_len: int
    output_len: int
    seed: int
    slo: dict
    sweep: tuple
    sweep_prompts_per_slot: int
    dtype: str
    hbm_read_gbps: float
    hbm_read_known: dict
    context: dict
    env: dict
    work_dir: str
    timeout_s: int
    clock_window: dict
    expected_transport: str
    extra_args: tuple = ()
    preload: bool = False

    @property
    def name(self):
        """The layout's name."""
        return str(self.layout.get("name", "layout"))

    @property
    def nodes(self):
        """Number of nodes of the layout."""
        return int(self.layout.get("nodes") or 1)

    @property
    def ranks(self):
        """Number of ranks, so GPUs, of the layout."""
        return int(self.layout.get("tp") or 1) * int(self.layout.get("pp") or 1)

    @property
    def server(self):
        """What the server was given, as far as it decides what a token costs; see ``serving.options.effective``."""
        return effective({"tp": 1, "pp": 1, **self.layout}, self.dtype, None, self.extra_args, self.env)

    @property
    def key(self):
        """A key that the server takes, ``""`` where it asks for none; never part of a command line or of the fact."""
        return api_key.accepted([*self.extra_args, *(self.layout.get("extra_args") or ())], self.env)

    @property
    def rule(self):
        """The rule that ends the runs."""
        return StopRule(self.runs, self.max_runs, self.interval_percent)

    @property
    def levels(self):
        """The steps of the sweep."""
        return client.sweep_steps(self) if self.sweep else []

    @property
    def command(self):
        """The first measured run's command line, without secrets."""
        return printable(client.argv(self, client.run_step(self, 1), self.result_file("bench-01")))

    def result_file(self, step_name):
        """Return the path of a step's result; its log lies beside it as ``.log``."""
        return os.path.join(self.work_dir, step_name + ".json")


def read(arguments):
    """Return the :class:`Options` of the module's arguments; raise ValueError, with a sentence, for what cannot be meant."""
    for key in AT_LEAST_ONE:
        if arguments[key] < 1:
            raise ValueError("%s must be at least 1, got %d" % (key, arguments[key]))
    if any(level < 1 for level in arguments["sweep"]):
        raise ValueError("sweep must be numbers of requests of at least 1, got %s" % arguments["sweep"])
    layout = {key: value for key, value in arguments["layout"].items() if value is not None}
    sound = checked_layout({"name": "layout", "tp": 1, "pp": 1, "nodes": 1, **layout})
    arguments = dict(arguments, layout={key: sound[key] for key in layout})
    lists = {key: tuple(arguments.get(key) or ()) for key in ("node_addresses", "sweep", "extra_args")}
    options = Options(**{**arguments, **lists, "slo": client.checked_slo(arguments["slo"])})
    steps = [client.run_step(options, number) for number in range(options.rule.maximum + 1)]
    clash = client.seeds_clash(steps + options.levels)
    if clash:
        limit = client.SWEEP_SEED
        raise ValueError("two runs would send the same prompts (seed %d): max_runs must stay below %d" % (clash[0], limit))
    return replace(options, env=api_key.client_environment(options.env, options.key))
