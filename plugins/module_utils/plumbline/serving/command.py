"""Builds the commands that serve one layout: the only place where vLLM's and Ray's options are spelled."""

from __future__ import annotations

import re
import shlex

from ..core.scrub import scrub_text
from ..machine.net import interface_of
from .options import NO_PREFIX_CACHING

LAYOUT_KEYS = {"name", "tp", "pp", "nodes", "executor", "extra_args", "env"}
# Which interface Gloo, NCCL and TensorPipe take for their own connections: each would guess, and guess differently on each node.
SOCKET_VARIABLES = ("GLOO_SOCKET_IFNAME", "NCCL_SOCKET_IFNAME", "TP_SOCKET_IFNAME")


class AddressUnknown(Exception):
    """No interface of this node carries the address that the inventory gives it."""


def checked_layout(layout):
    """Return ``layout`` with its sizes as numbers and its name as text; raise ValueError, with a sentence, for what cannot be meant."""
    found = dict(layout, name=str(layout.get("name")))
    for key in ("tp", "pp", "nodes"):
        value = layout.get(key)
        if isinstance(value, bool) or not re.fullmatch(r"[1-9][0-9]{0,5}", str(value).strip()):
            raise ValueError("layout %s: %s is %r, expected a whole number of at least 1" % (found["name"], key, value))
        found[key] = int(str(value).strip())
    for key, kind, words in (("extra_args", (list, tuple), "a list of arguments"), ("env", dict, "a mapping of variables")):
        if layout.get(key) is not None and not isinstance(layout[key], kind):
            raise ValueError("layout %s: %s is %r, expected %s" % (found["name"], key, layout[key], words))
    return found


def serve_argv(program, layout, model, served_name, host, port, max_model_len, dtype, extra_args=(), rank=0, master_port=29501):
    """Return the argv of ``vllm serve`` for ``layout`` (a dict with name, tp, pp, nodes, executor).

    With the executor ``mp`` over several nodes each node runs one: ``rank`` 0 is the head, which listens at ``host`` and ``port``,
    the others are headless and find it at ``host`` and ``master_port``. Prefix caching is off (``options``).
    ``extra_args`` of the role and then of the layout come last, so that they win over the defaults here.
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
        NO_PREFIX_CACHING,
    ]  # fmt: skip
    if native(layout):
        argv += ["--nnodes", str(layout["nodes"]), "--node-rank", str(rank)]
        argv += ["--master-addr", host, "--master-port", str(master_port)]
        argv += ["--headless"] if rank else []
    return argv + [str(item) for item in extra_args] + [str(item) for item in layout.get("extra_args") or ()]


def native(layout):
    """Tell whether a layout spans nodes without Ray: one ``vllm serve`` on each of them."""
    return layout["executor"] == "mp" and int(layout["nodes"]) > 1


def ranks_on(layout):
    """Return how many ranks, so GPUs, a layout has on each of its nodes."""
    return int(layout["tp"]) * int(layout["pp"]) // int(layout["nodes"])


def option(argv, *names):
    """Return the last value of an option in ``argv`` (``--name value`` or ``--name=value``), None when it is not there."""
    found = None
    for place, word in enumerate(argv):
        for name in names:
            if word == name and place + 1 < len(argv):
                found = argv[place + 1]
            elif word.startswith(name + "="):
                found = word[len(name) + 1 :]
    return found


def node_environment(env, address):
    """Return ``env`` with what differs from node to node: the address for vLLM and the interface that carries it.

    Raises :class:`AddressUnknown`.
    """
    interface = interface_of(address)
    if interface is None:
        raise AddressUnknown("no interface of this node has the address %s: set ansible_host or plumbline_address" % address)
    return dict(dict.fromkeys(SOCKET_VARIABLES, interface), **dict(env or {}, VLLM_HOST_IP=address))


def key_by_environment(argv, env):
    """Return ``(argv, env)`` in which an API key stands in the environment: every user of a node sees a command line.

    vLLM reads ``VLLM_API_KEY`` where ``--api-key`` is not given (vllm/entrypoints/openai/api_server.py). It takes one key: several ones
    stay where they are.
    """
    rest, keys, words = [], [], [str(word) for word in argv]
    while words:
        word = words.pop(0)
        name, equals, value = word.partition("=")
        if name.replace("_", "-") != "--api-key":
            rest.append(word)
        elif equals:
            keys = [value]
        else:
            keys = []
            while words and not words[0].startswith("-"):
                keys.append(words.pop(0))
    if len(keys) != 1:
        return list(argv), dict(env or {})
    return rest, dict(env or {}, VLLM_API_KEY=keys[0])


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
    """Return a command line that a person can paste, with ``env`` in front; secrets are taken out."""
    words = ["%s=%s" % (key, shlex.quote(str(value))) for key, value in sorted((env or {}).items())]
    return scrub_text(" ".join(words + [shlex.quote(str(item)) for item in argv]))
