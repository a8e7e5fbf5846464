"""Runs a Python program again and again, each time in a process of its own that has the program's imports behind it.

``vllm bench serve`` imports for eight seconds before it measures for one or two. This file, under the Python of the serving environment,
imports what the program would, and forks for every call: the child runs the very program file with the call's arguments, as if it had
been started with them. ``benchmark.calls`` puts the file beside the results and speaks to it: a line of JSON with ``argv`` and ``log`` for
each call, answered by one with the ``status``; the first answer, without one, says that it is ready.
"""

from __future__ import annotations

import gc
import importlib
import json
import os
import runpy
import sys

# What `vllm bench serve` imports, in vLLM 0.17 to 0.32; a name that a release lacks is left to the call itself.
MODULES = (
    "vllm.platforms", "vllm.benchmarks.serve", "vllm.entrypoints.cli.main", "vllm.entrypoints.cli.openai", "vllm.entrypoints.cli.serve",
    "vllm.entrypoints.cli.launch", "vllm.entrypoints.cli.run_batch", "vllm.entrypoints.cli.collect_env", "vllm.entrypoints.cli.preload",
    "vllm.entrypoints.cli.snapshot", "vllm.entrypoints.cli.download_kernels", "vllm.entrypoints.cli.benchmark.main",
    "vllm.entrypoints.cli.benchmark.latency", "vllm.entrypoints.cli.benchmark.mm_processor", "vllm.entrypoints.cli.benchmark.serve",
    "vllm.entrypoints.cli.benchmark.startup", "vllm.entrypoints.cli.benchmark.sweep", "vllm.entrypoints.cli.benchmark.throughput",
)  # fmt: skip


def preload():
    """Import what the program would; whatever hinders it will be said by the program itself."""
    gc.disable()  # collecting what an import makes is a good part of its time
    for name in MODULES:
        try:
            importlib.import_module(name)
        except Exception:
            continue  # the call meets it again, and its log says it
    gc.enable()
    gc.freeze()  # no collection of a child walks, and so copies, what all share


def threads():
    """Return how many threads this process has: a fork takes one along, so there must be no other."""
    return len(os.listdir("/proc/self/task"))


def main(program):
    """Serve calls until the input ends. Return the argv in a child, which is to run it, and None in the parent."""
    asked, told = os.fdopen(os.dup(0), encoding="utf-8"), os.dup(1)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(2, 1)  # what an import prints is no answer
    sys.path[0] = os.path.dirname(program)
    preload()
    if threads() > 1:
        return None
    os.write(told, b"{}\n")
    for line in iter(asked.readline, ""):
        call = json.loads(line)
        pid = os.fork()
        if not pid:
            asked.close()
            os.close(told)
            log = os.open(call["log"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            os.dup2(log, 1)
            os.dup2(log, 2)
            return call["argv"]
        _pid, status = os.waitpid(pid, 0)
        os.write(told, b'{"status": %d}\n' % os.waitstatus_to_exitcode(status))
    return None


if __name__ == "__main__":
    words = main(sys.argv[1])
    if words:
        sys.argv = [sys.argv[1], *words[1:]]
        runpy.run_path(sys.argv[0], run_name="__main__")
