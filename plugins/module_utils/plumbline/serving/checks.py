"""What must be right on one node before a layout starts there. Each check returns reasons (``fact.reason``); none is a pass by silence."""

from __future__ import annotations

import os
import re

from ..core.fact import reason
from ..machine import gpu_choice, gpu_memory, net, nvidia
from ..model import manifest
from ..model.memory import ImpossibleLayout, UnknownModel, fit
from .command import ranks_on
from .options import CACHE, FIT, LAYER_PARTITION, WEIGHTS, effective

MIB = 1024**2


def default_utilization(version):
    """Return vLLM's own default of --gpu-memory-utilization: 0.92 from 0.20 on, 0.9 before and where the version is not known.

    Source: ``vllm/config/cache.py`` of 0.17.1 and of 0.20.2 to 0.32.0.
    """
    found = re.match(r"(\d+)\.(\d+)", version or "")
    return 0.92 if found and (int(found.group(1)), int(found.group(2))) >= (0, 20) else 0.9


def check_gpus(gpus, users, layout, idle_mib):
    """Judge the node's GPUs (``gpu_memory.read``): enough for the layout's ranks, and nothing else on them.

    ``users`` are the processes on them (``gpu_memory.holders``).
    """
    if not gpus:
        return [reason("serve.gpus", "skipped", "no GPU")]
    wanted, busy = ranks_on(layout), gpu_memory.busy(gpus, idle_mib)
    if len(gpus) < wanted:
        return [
            reason(
                "serve.gpus", "failed", "%d GPU(s) answer" % len(gpus), "%d for the ranks on this node" % wanted,
                "see the node's health verdict, or choose a smaller layout%s"
                % (", or more GPUs in %s" % gpu_choice.VARIABLE if nvidia.ONLY else ""),
            )
        ]  # fmt: skip
    if busy:
        owners = ", ".join(_holder(one, gpus) for one in users) or "none that the driver lists"
        return [
            reason(
                "serve.gpus", "failed", "%s; processes on GPUs: %s" % ("; ".join(busy), owners),
                "at most %d MiB in use on each GPU" % idle_mib,
                "end them (`nvidia-smi`, playbooks/reset.yml for Plumbline's own), take other GPUs (%s), or raise vllm_serve_gpu_idle_mib"
                % gpu_choice.VARIABLE,
            )
        ]  # fmt: skip
    return [reason("serve.gpus", "healthy", "%d GPU(s), none in use" % len(gpus), "%d free" % wanted)]


def _holder(one, gpus):
    """Return a process that holds memory in words: its pid, and where the driver says them its name, how much and of which GPU."""
    if isinstance(one, int):
        return str(one)
    index = [gpu["index"] for gpu in gpus if one["uuid"] and gpu.get("uuid") == one["uuid"]]
    held = "%d MiB" % one["used_mib"] if one["used_mib"] is not None else ""
    more = " ".join(filter(None, (one["name"], held, "of GPU %d" % index[0] if index else "")))
    return "%d%s" % (one["pid"], " (%s)" % more if more else "")


def check_choice(chosen, env):
    """Judge that what a program gets in ``env`` does not undo the node's ``chosen`` GPUs (``gpu_choice.look_only_at``)."""
    given = (env or {}).get("CUDA_VISIBLE_DEVICES")
    if not chosen or given in (None, ""):
        return []
    seen = "CUDA_VISIBLE_DEVICES=%s in the layout's environment, and %s for this node" % (given, gpu_choice.VARIABLE)
    remedy = "leave CUDA_VISIBLE_DEVICES out of vllm_serve_env and the layout: %s sets it, and the checks follow it" % gpu_choice.VARIABLE
    return [reason("serve.gpu_choice", "failed", seen, "one of them", remedy)]


def check_address(address, layout):
    """Judge the address that the inventory gives this node: over several nodes none of the loopback can be meant."""
    found = net.numeric(address)
    if layout["nodes"] < 2 or not net.is_loopback(found):
        return []
    seen = address if found == address else "%s is %s here" % (address, found)
    remedy = "set plumbline_address of this node to the address by which the others reach it (`ip -brief address`), or serve with nodes: 1"
    return [
        reason("serve.address", "failed", "%s: no other node reaches it" % seen, "an address of this node that %d nodes share"
               % layout["nodes"], remedy)
    ]  # fmt: skip


def ranks_of(gpus, layout):
    """Return ``[{"index", "uuid"}]``: the GPUs that the layout's ranks take on this node, in the order of the ranks there."""
    return [{"index": gpu["index"], "uuid": gpu.get("uuid")} for gpu in gpus[: ranks_on(layout)]]


def check_ports(address, ports):
    """Judge the ports that this node must listen on: ``{what for: port}``."""
    found = []
    for purpose, port in sorted(ports.items()):
        # Ray takes the machine's own address where it is given one of the loopback.
        error = net.port_error(port, address) or (net.port_error(port, net.own_address(address)) if purpose == "ray_port" else None)
        if error:
            found.append(
                reason(
                    "serve.port", "failed", "port %d of %s (%s): %s" % (port, address, purpose, error), "a free port",
                    "end what listens there (`ss -ltnp`), run playbooks/reset.yml, or set vllm_serve_%s" % purpose,
                )
            )  # fmt: skip
    return found


def check_model(folder, require_manifest):
    """Judge the model's folder: complete by its manifest, which `--tags model` has verified hash by hash."""
    again = "run `ansible-playbook site.yml --tags model`, or set vllm_serve_model"
    if not os.path.isfile(os.path.join(folder, "config.json")):
        return [reason("serve.model", "failed", "no config.json in %s" % folder, "a complete model folder", again)]
    try:
        known = manifest.load(folder)
    except manifest.ManifestError as error:
        return [reason("serve.model", "failed", str(error), "a readable manifest", again)]
    if known is None:
        if not require_manifest:
            return [reason("serve.model", "skipped", "no manifest in %s, and none is asked for" % folder)]
        return [
            reason(
                "serve.model", "failed", "no manifest in %s: nobody has verified this model" % folder, "a verified manifest",
                again + ", or vllm_serve_require_manifest: false",
            )
        ]  # fmt: skip
    present = manifest.files_below(folder)
    wrong = sorted(name for name, entry in known["files"].items() if present.get(name) != entry["size"])
    if wrong:
        seen = "%s: %d of %d files differ from the manifest in size or are missing: %s" % (
            folder, len(wrong), len(known["files"]), ", ".join(wrong[:5]),
        )  # fmt: skip
        repair = "check the disk (smartctl, dmesg), then run `ansible-playbook site.yml --tags model -e model_sync_on_corruption=repair`"
        return [reason("serve.model", "failed", seen, "all files as in the manifest", repair + ", or set vllm_serve_model")]
    return [
        reason(
            "serve.model", "healthy", "%d files as in the manifest %s" % (len(present), manifest.digest(known)[:12]),
            "the size of every file",
        )
    ]  # fmt: skip


def check_memory(gpus, config, layout, dtype, max_model_len, arguments, version=None, env=None):
    """Judge whether weights and one request fit; return ``(reasons, the numbers or None)``.

    ``arguments``, ``env`` and ``version`` are those of vLLM; the layout's own ``extra_args`` come after the arguments.
    """
    if not gpus:
        return [reason("serve.memory", "skipped", "no GPU")], None
    sizes = [gpu["total_mib"] for gpu in gpus if gpu["total_mib"]]
    if not sizes:
        return [reason("serve.memory", "incomplete", "the driver does not say how much memory a GPU has", "a size", "see nvidia-smi")], None
    options = effective(layout, dtype, max_model_len, arguments, env)
    against = options.why_not(WEIGHTS, FIT, CACHE)
    if against:
        return [reason("serve.memory", "skipped", "no arithmetic with %s" % against)], None
    length, utilization = options.max_model_len, options.utilization or default_utilization(version)
    if length is None or options.tp is None or options.pp is None:
        return [reason("serve.memory", "skipped", "no arithmetic without a context length, tp and pp")], None
    wanted = "weights and one request of %d tokens" % length
    try:
        found = fit(
            config, options.dtype, options.tp, options.pp, int(min(sizes) * MIB), utilization, length, options.kv_dtype,
            partition=options.partition,
        )  # fmt: skip
    except UnknownModel as error:
        return [reason("serve.memory", "skipped", "no arithmetic for this model: %s" % error)], None
    except ImpossibleLayout as error:
        remedy = "choose another tp or pp" + (", or leave out %s" % LAYER_PARTITION if options.partition else "")
        return [reason("serve.memory", "failed", str(error), "a layout that divides the model", remedy)], None
    if found["fits"]:
        return [reason("serve.memory", "healthy", found["sentence"], wanted)], found
    remedy = "more ranks (tp, pp), a shorter vllm_serve_max_model_len, a smaller dtype, or a higher --gpu-memory-utilization"
    # What vLLM needs beside weights and cache is an estimate, so that alone only warns.
    status = "degraded" if found["fits_without_overhead"] else "failed"
    return [reason("serve.memory", status, found["sentence"], wanted, remedy)], found


def check_programs(has_program, versions, executor, in_container):
    """Judge vLLM and, for the executor ``ray``, Ray. ``versions`` is ``{"vllm": str or None, "ray": str or None}``."""
    where = "the image" if in_container else "vllm_serve_venv"
    if not has_program:
        return [
            reason(
                "serve.program", "failed", "no vllm command in %s" % where, "an executable vllm",
                "choose an image that has it" if in_container else "install vLLM there or set vllm_serve_venv",
            )
        ]  # fmt: skip
    if executor == "ray" and not versions.get("ray"):
        return [
            reason(
                "serve.ray", "failed", "vLLM %s in %s, but no Ray" % (versions.get("vllm") or "of unknown version", where),
                "Ray for the executor ray",
                "Ray left vLLM's dependencies and images at 0.18: take an image of 0.17 or before, derive one with "
                "`pip install ray`, or set executor: mp (native, over several nodes too)",
            )
        ]  # fmt: skip
    seen = ", ".join("%s %s" % (name, version) for name, version in sorted(versions.items()) if version)
    return [reason("serve.program", "healthy", seen or "a vllm command", "vLLM%s" % (" and Ray" if executor == "ray" else ""))]


def gpu_reasons(tool, layout, idle_mib, chosen=()):
    """Return ``(reasons, gpus)`` of this node's GPUs in the order of the ``chosen``; a driver that does not answer is a failure."""
    try:
        order = [gpu["index"] for gpu in chosen]
        gpus = sorted(gpu_memory.read(tool), key=lambda gpu: order.index(gpu["index"]) if gpu["index"] in order else gpu["index"])
        return check_gpus(gpus, gpu_memory.holders(tool) if gpus else [], layout, idle_mib), gpus
    except nvidia.NvidiaError as error:
        return [reason("serve.gpus", "failed", str(error), "an answer of nvidia-smi", "see the node's health verdict")], []
