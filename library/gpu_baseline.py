#!/usr/bin/python
"""Ansible module: each GPU of a node on its own, all at once, as one fact."""

from __future__ import annotations

DOCUMENTATION = r"""
module: gpu_baseline
short_description: Measure what each GPU of a node computes and moves, all at once, and find the one that is unlike the others
description:
  - Runs one program under the serving runtime's own torch, in its virtual environment or its image. It starts a process for each GPU, which
    all go through the same phases together - bf16 matrix products, reads and copies of the GPU's memory, copies from and to the host
    - and one for the copies between GPUs. Returns one fact of kind C(gpu_baseline).
  - What was computed is compared, element by element, with what the processor computed, with the GPU's own first product, and by its
    hash with that of equal GPUs. A wrong element is C(failed).
  - A GPU that is slower than its equals is named. At an equal clock that is C(failed); by a lower clock it is C(degraded), with what the
    driver names as the reason. Reads are also held against O(known), transfers against O(transfers).
  - Clocks and throttling are sampled meanwhile. A power cap is no fault.
  - A GPU on which something else runs is not measured. Without a GPU the same program measures the node's processors and memory.
  - An instance of MIG is a device of its own, compared with instances of the same profile.
options:
  python: {description: Python of an environment with torch; not used with O(image)., type: path, default: ''}
  image: {description: Image on the node with torch in it; empty runs O(python)., type: str, default: ''}
  docker: {description: The C(docker) command., type: str, default: docker}
  matrix_s: {description: Seconds of matrix products., type: float, default: 10}
  memory_s: {description: "Seconds of reads, and of copies.", type: float, default: 2}
  transfer_s: {description: Seconds of copies to the host and from it., type: float, default: 0.25}
  peer_s: {description: Seconds of copies for each pair of GPUs., type: float, default: 0.05}
  start_s: {description: Seconds that an environment may take to import torch and to make the inputs., type: int, default: 180}
  matrix_size: {description: Rows and columns of the matrices on a GPU., type: int, default: 8192}
  matrix_size_cpu: {description: The same on processors., type: int, default: 1024}
  memory_bytes:
    description: Bytes that are read and copied, a power of two; at most a quarter of what is free.
    type: int
    default: 4294967296
  memory_bytes_cpu: {description: The same on processors., type: int, default: 268435456}
  transfer_bytes: {description: Bytes of one copy between host and GPU., type: int, default: 268435456}
  idle_mib: {description: MiB that may be in use on a GPU that counts as free., type: int, default: 1024}
  known:
    description: "What is known of a GPU by its model: C({name: {hbm_read_min_gbps, source}})."
    type: dict
    default: {}
  transfers:
    description: Limits of the machine, C(h2d_min_gbps), C(p2p_min_gbps) and C(source).
    type: dict
    default: {}
  expected_mhz:
    description: Clock in MHz to which the GPUs were locked; V(0) takes it from the record of a lock, where there is one.
    type: int
    default: 0
  interval_s: {description: Seconds between two samples of the clocks., type: float, default: 0.2}
  gpus: {description: "GPUs that are measured, as the variable C(plumbline_gpus) has them; empty for all.", type: raw, default: []}
  nvidia_smi: {description: Path of C(nvidia-smi); found in E(PATH) where it is not given., type: path}
attributes:
  check_mode:
    support: full
    description: Nothing is started; the fact is C(skipped).
author: [Plumbline]
"""

EXAMPLES = r"""
- name: Measure each GPU
  gpu_baseline:
    python: /opt/plumbline/vllm/bin/python
    matrix_s: 10
"""

RETURN = r"""
fact:
  description: The fact under C(plumbline.gpu_baseline); shape in C(docs/schema/gpu_baseline.schema.json).
  returned: always
  type: dict
"""

import os
import shlex
import tempfile

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.plumbline.clocks import judge as clocks_judge
from ansible.module_utils.plumbline.clocks import window as clocks_window
from ansible.module_utils.plumbline.core import marks, processes
from ansible.module_utils.plumbline.core.fact import Measurement
from ansible.module_utils.plumbline.core.scrub import scrub_text
from ansible.module_utils.plumbline.gpus import clock_samples, devices, figures, judge, judge_run, program
from ansible.module_utils.plumbline.machine import gpu_choice, gpu_memory, nvidia
from ansible.module_utils.plumbline.serving.runtime import LABEL

NAME = "gpus"
PHASES = ("matrix", "memory", "transfer", "peer", "start")


def find_devices(args, found):
    """Return the devices to measure; [] after saying why there is nothing to do."""
    tool = args["nvidia_smi"]
    if not nvidia.is_present(nvidia.presence(tool)):
        return [devices.processors()]
    try:
        chosen, empty = devices.of_node(tool)
    except nvidia.NvidiaError as error:
        found.add("gpu_baseline.gpus", "incomplete", str(error), "a driver that answers for each GPU", "see the gpu checks of node_health")
        return []
    if empty:
        text = "GPU %s in MIG mode, without an instance" % ", ".join(map(str, empty))
        found.add("gpu_baseline.mig", "skipped", text, None, "make instances, or switch MIG off: nvidia-smi -mig 0")
    if not chosen and not empty:
        found.add("gpu_baseline.gpus", "incomplete", "nvidia-smi shows no GPU", "a GPU", "see the gpu checks of node_health")
    return chosen


def is_free(args, found, chosen):
    """Return whether nothing else runs on the devices; a layout that was left serving, and somebody else's program, are told apart."""
    ours = set(processes.marked())
    if chosen[0]["kind"] == "cpu":
        if ours:
            found.add("gpu_baseline.idle", "skipped", "a layout serves on this node: not measured", None, "end it with playbooks/reset.yml")
        return not ours
    tool = args["nvidia_smi"]
    try:
        table = [gpu for gpu in gpu_memory.read(tool) if gpu["index"] in {item["index"] for item in chosen}]
    except nvidia.NvidiaError as error:
        found.add("gpu_baseline.idle", "incomplete", str(error), "a driver that answers", "see the gpu checks of node_health")
        return False
    busy = gpu_memory.busy(table, args["idle_mib"])
    if not busy:
        return True
    holders = gpu_memory.holders(tool)
    if holders and ours.issuperset(item["pid"] for item in holders):
        found.add("gpu_baseline.idle", "skipped", "a layout serves on these GPUs: not measured", None, "end it with playbooks/reset.yml")
        return False
    named = ", ".join("%d %s" % (item["pid"], item["name"]) for item in holders) or "no process that the driver lists"
    found.add(
        "gpu_baseline.idle", "incomplete", "%s; held by %s" % ("; ".join(busy), named), "at most %d MiB in use" % args["idle_mib"],
        "end what runs there, or leave the GPU out with plumbline_gpus; then measure again",
    )  # fmt: skip
    return False


def has_runtime(args, found):
    """Return whether there is a Python to run the program with; says what is missing."""
    if args["image"] or os.access(args["python"], os.X_OK):
        return True
    found.add(
        "gpu_baseline.torch", "incomplete", "no executable %s" % (args["python"] or "Python is named"), "a Python that has torch",
        "install the serving runtime there (in a lab: playbooks/lab_up.yml), or set gpu_baseline_python",
    )  # fmt: skip
    return False


def specification(args, chosen):
    """Return what the program reads; processors get smaller matrices and buffers."""
    end = "_cpu" if chosen[0]["kind"] == "cpu" else ""
    sizes = {"matrix": args["matrix_size" + end], "memory_bytes": args["memory_bytes" + end], "transfer_bytes": args["transfer_bytes"]}
    return program.specification(chosen, {name: args[name + "_s"] for name in PHASES}, sizes)


def measure(args, found, chosen, tmpdir):
    """Run the program, and put what it left into the measurement."""
    on_gpus = chosen[0]["kind"] == "cuda"
    window = clocks_window.Window(args["expected_mhz"], args["interval_s"], nvidia_smi=args["nvidia_smi"])
    samples = clock_samples.Samples(window)
    with tempfile.TemporaryDirectory(prefix="plumbline-gpus-", dir=tmpdir) as folder:
        spec = specification(args, chosen)
        program.prepare(folder, spec)
        argv = program.command(folder, args["python"], args["image"], args["docker"], LABEL, on_gpus)
        found.command = shlex.join(argv)
        try:
            with samples:
                status, said = program.run(argv, folder, spec["deadline_s"], bool(args["image"]))
        except OSError as error:
            found.add(
                "gpu_baseline.run", "incomplete", "%s did not start: %s" % (argv[0], error), None, "look whether it can be run by hand"
            )
            return
        states, peers, conductor = program.left(folder, len(chosen))
    if not conductor:
        text = "the program ended with %s and left nothing: %s" % (status, scrub_text(" ".join(said.split()))[-300:] or "no message")
        found.add("gpu_baseline.run", "incomplete", text, "a program that measures", "look whether it can be run by hand")
        return
    if status != 0:
        how = "was stopped after %d s" % spec["deadline_s"] if status is None else "ended with %d" % status
        found.add(
            "gpu_baseline.program", "incomplete", "the program %s; what it measured until then is kept" % how, "one that comes to its end",
            "look at dmesg: the kernel kills what takes too much memory; then measure again",
        )  # fmt: skip
    fill(args, found, chosen, (states, peers, conductor), (window, samples))


def fill(args, found, chosen, left, watched):
    """Put the figures and their verdicts into the measurement."""
    (states, peers, conductor), (window, samples) = left, watched
    rows = [figures.row(device, state, samples if window.present else None) for device, state in zip(chosen, states)]
    between = figures.peers(peers, chosen)
    on_gpus = chosen[0]["kind"] == "cuda"
    found.measured.update(gpus=rows if on_gpus else [], cpu=None if on_gpus else rows[0], **between)
    first = next((state for state in states if state.get("torch_version")), {})
    found.context.update(
        torch_version=first.get("torch_version"),
        cuda_version=first.get("cuda_version"),
        clocks=window.context(),
    )
    found.reasons += judge_run.came_through(chosen, states, conductor)
    found.reasons += judge_run.peers_came_through(peers, conductor, len(between["peer_indexes"]) or whole(chosen))
    found.reasons += judge.judge(rows, args["known"], args["transfers"])
    found.reasons += judge_run.copies_between(between, args["transfers"])
    if window.present:
        found.reasons += judge_run.clocks(window, clocks_judge.numbers(window))


def whole(chosen):
    """Return the number of whole GPUs."""
    return sum(1 for item in chosen if item["kind"] == "cuda" and not item["mig"])


def argument_spec():
    """Return the module's arguments."""
    return {
        "python": {"type": "path", "default": ""},
        "image": {"type": "str", "default": ""},
        "docker": {"type": "str", "default": "docker"},
        "matrix_s": {"type": "float", "default": 10},
        "memory_s": {"type": "float", "default": 2},
        "transfer_s": {"type": "float", "default": 0.25},
        "peer_s": {"type": "float", "default": 0.05},
        "start_s": {"type": "int", "default": 180},
        "matrix_size": {"type": "int", "default": 8192},
        "matrix_size_cpu": {"type": "int", "default": 1024},
        "memory_bytes": {"type": "int", "default": 4294967296},
        "memory_bytes_cpu": {"type": "int", "default": 268435456},
        "transfer_bytes": {"type": "int", "default": 268435456},
        "idle_mib": {"type": "int", "default": 1024},
        "known": {"type": "dict", "default": {}},
        "transfers": {"type": "dict", "default": {}},
        "expected_mhz": {"type": "int", "default": 0},
        "interval_s": {"type": "float", "default": clocks_window.SHORT_INTERVAL_S},
        "gpus": {"type": "raw", "default": []},
        "nvidia_smi": {"type": "path"},
    }


def main():
    """Run the module."""
    module = AnsibleModule(argument_spec=argument_spec(), supports_check_mode=True)
    args = module.params
    for name in ("matrix_size", "matrix_size_cpu", "memory_bytes", "memory_bytes_cpu", "transfer_bytes", "start_s"):
        if args[name] < 1:
            module.fail_json(msg="gpu_baseline: %s is %d, expected at least 1" % (name, args[name]))
    for name in PHASES[:4]:
        if not 0 < args[name + "_s"] <= 3600:
            module.fail_json(msg="gpu_baseline: %s_s is %g, expected more than 0 and at most 3600 seconds" % (name, args[name + "_s"]))
    gpu_choice.of_module(module)
    found = Measurement("gpu_baseline", NAME)
    found.context.update(image=args["image"] or None, python=None if args["image"] else args["python"])
    if module.check_mode:
        found.add("check_mode", "skipped", "would measure each GPU", None)
    else:
        chosen = find_devices(args, found)
        if chosen and is_free(args, found, chosen) and has_runtime(args, found):
            measure(args, found, chosen, module.tmpdir)
    module.exit_json(changed=False, **found.result())


if __name__ == "__main__":
    marks.belong(marks.measuring())  # reset finds it, and what it started, when its connection is lost
    main()
