"""Builds the command that serves one layout: the only place where vLLM's options are spelled."""

from __future__ import annotations

import shlex

LAYOUT_KEYS = {"name", "tp", "pp", "nodes", "executor", "extra_args", "env"}


def serve_argv(program, layout, model, served_name, host, port, max_model_len, dtype, extra_args=()):
    """Return the argv of ``vllm serve`` for ``layout`` (a dict with name, tp, pp, nodes, executor).

    Prefix caching is off: with it the second request for the same prompt measures the cache. ``extra_args`` of the role and
    then of the layout come last, so that they win over the defaults here.
    """
    argv = [
        program, "serve", model,
        "--served-model-name", served_name,
        "--host", host,
        "--port", str(port),
        "--tensor-parallel-size", str(layout["tp"]),
        "--pipeline-parallel-size", str(layout["pp"]),
        "--distributed-executor-backend", layout["executor"],
        "--dtype", dtype,
        "--max-model-len", str(max_model_len),
        "--no-enable-prefix-caching",
    ]  # fmt: skip
    return argv + [str(item) for item in extra_args] + [str(item) for item in layout.get("extra_args") or ()]


def ray_argv(program, role, address, node_ip, port, slots, memory_bytes, object_store_bytes):
    """Return the argv of ``ray start`` for a ``head`` or a ``worker``.

    ``--block`` keeps one parent whose end is the node's end. Each raylet otherwise claims the whole machine's memory, so both
    of Ray's stores are capped. ``slots`` ranks may run on the node.
    """
    argv = [
        program, "start", "--block", "--disable-usage-stats",
        "--node-ip-address", node_ip,
        "--num-gpus", str(slots),
        "--num-cpus", str(max(2, slots)),
        "--memory", str(memory_bytes),
        "--object-store-memory", str(object_store_bytes),
    ]  # fmt: skip
    if role == "head":
        return argv + ["--head", "--port", str(port), "--include-dashboard", "false"]
    return argv + ["--address", "%s:%s" % (address, port)]


def printable(argv, env=None):
    """Return a command line that a person can paste, with ``env`` in front."""
    words = ["%s=%s" % (key, shlex.quote(str(value))) for key, value in sorted((env or {}).items())]
    return " ".join(words + [shlex.quote(str(item)) for item in argv])
