"""Measures the devices of one node, each in a process of its own, all at once. Run as a script, under a Python that has torch.

    python torch_worker.py --folder F              the conductor: starts a process for each device of F/spec.json
    python torch_worker.py --folder F --device N   one device: a GPU, an instance of MIG, or the node's processors
    python torch_worker.py --folder F --peers      all GPUs, for the copies between them

Every process keeps what it has done in ``F/<name>.json``, rewritten whole each time, so that whoever started it can tell what happened
even when it was killed. The devices go through the same phases together: each says that it is ready, and the conductor lets all go
at once. One that fails, is killed or hangs is left behind, and the others go on. Statistics are made elsewhere (``gpus/figures.py``).

What is measured, each for a set time, in batches of queued operations between two events (on CPU: the host's clock):

- **matrix**: bf16 products of the same random matrices on every device, 2 n³ operations each. After each batch the last product is
  compared with the first, bit by bit. Before it, a product of small whole numbers, which bf16 inputs and sums in float32 hold exactly,
  is compared with the one that the processor computed: an error is seen on a single GPU as well.
- **read**: a buffer is read and nothing written but a sum for each block, by a Triton kernel (8192 values 16 times a program), or by
  ``torch.sum`` where Triton has no compiler. The sums are checked. **copy**: bytes read plus bytes written; the copy is compared.
- **h2d**, **d2h**: copies from and to pinned memory beside the GPU, all GPUs at once and then each alone, in several turns.
- **peers**: copies from each GPU to each other one, one pair at a time.
"""

from __future__ import annotations

import argparse
import ctypes
import hashlib
import importlib
import json
import os
import signal
import subprocess
import sys
import time

# Phases of a device, in order. After them come each device's own turns.
TOGETHER = ("matrix", "read", "copy", "h2d", "d2h")
# Turns of each device at copying alone. Whatever else uses the host's memory slows one of them (on four healthy H100s of a shared host one
# direction of one GPU came to 43 GB/s instead of 55); a bad link slows all, so the best turn counts.
TURNS = 3
POLL_S = 0.01
BATCH_S = 0.1  # of one batch, so that the host's part of it is nothing
EXACT_COLUMNS = 128  # columns of the product that the processor computes, repeated over the whole width
EXACT_LIMIT = 8  # of the whole numbers: a sum of 8192 products stays below 2^20, which every accumulator holds
SEED = 1
READ_BLOCKS = ((8192, 16, 8), (8192, 16, 4), (4096, 32, 8))  # values, turns, warps: those that were fastest on Hopper
KERNEL = "plumbline_read_kernel"  # Triton reads a kernel's source from the file that it is in
KERNEL_SOURCE = """
import triton
import triton.language as tl


@triton.jit
def read(source, sums, BLOCK: tl.constexpr, TURNS: tl.constexpr):
    program = tl.program_id(0)
    first = program * BLOCK * TURNS
    total = tl.zeros((BLOCK,), tl.float32)
    for turn in range(TURNS):
        total += tl.load(source + first + turn * BLOCK + tl.arange(0, BLOCK))
    tl.store(sums + program, tl.sum(total))
"""


def turn_of(number, turn):
    """Return the name of a device's turn."""
    return "turn.%d.%d" % (number, turn)


def short(error):
    """Return an exception in one line."""
    lines = str(error).strip().splitlines() or [""]
    return ("%s: %s" % (type(error).__name__, lines[0]))[:500]


def keep(path, value):
    """Write a JSON file that no reader sees half of. By hand: this file travels alone, without core/files.py."""
    with open(path + ".new", "w", encoding="utf-8") as text:
        json.dump(value, text)
    os.replace(path + ".new", path)


class State:
    """What one process has done so far."""

    def __init__(self, folder, name):
        self.path = os.path.join(folder, name + ".json")
        self.data = {"pid": os.getpid(), "stage": "starting", "error": None, "ready": [], "phases": {}}
        self.update()

    def update(self, **changes):
        self.data.update(changes)
        keep(self.path, self.data)

    def wait_for(self, folder, phase, patience_s):
        """Say that this process is ready for a phase, and wait until the conductor lets all go; raises when it never does."""
        self.update(ready=self.data["ready"] + [phase], stage="waiting")
        path, deadline = os.path.join(folder, "go." + phase), time.monotonic() + patience_s
        while not os.path.exists(path):
            if time.monotonic() > deadline:
                raise RuntimeError("nobody let phase %s go within %d s" % (phase, patience_s))
            time.sleep(POLL_S)
        self.update(stage=phase)


class Cuda:
    """Times work on one CUDA device."""

    def __init__(self, torch, number=0):
        self.torch, self.device = torch, torch.device("cuda", number)
        torch.cuda.set_device(self.device)

    def seconds(self, work, count):
        """Return the seconds that ``count`` runs of ``work`` take, queued one behind the other."""
        first, last = (self.torch.cuda.Event(enable_timing=True) for _each in range(2))
        first.record()
        for _number in range(count):
            work()
        last.record()
        last.synchronize()
        return first.elapsed_time(last) / 1000

    def free_bytes(self):
        return self.torch.cuda.mem_get_info(self.device)[0]

    def about(self):
        """Return what is known of the device."""
        found = self.torch.cuda.get_device_properties(self.device)
        return {
            "name": found.name,
            "sm_count": found.multi_processor_count,
            "capability": "%d.%d" % (found.major, found.minor),
            "memory_bytes": found.total_memory,
        }

    def sync(self):
        self.torch.cuda.synchronize(self.device)


class Cpu:
    """Times work on the node's processors."""

    def __init__(self, torch):
        self.torch, self.device = torch, torch.device("cpu")

    def seconds(self, work, count):
        began = time.perf_counter()
        for _number in range(count):
            work()
        return time.perf_counter() - began

    def free_bytes(self):
        """Return the memory that is available; MemAvailable of /proc/meminfo is in KiB (proc_meminfo(5))."""
        with open("/proc/meminfo", encoding="ascii") as lines:
            for line in lines:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
        return 2**31

    def about(self):
        return {"name": None, "sm_count": None, "capability": None, "memory_bytes": None, "threads": self.torch.get_num_threads()}

    def sync(self):
        pass


def batches(device, work, seconds, now=time.monotonic):
    """Run ``work`` for about so many seconds; return the seconds of one run, from each batch in turn.

    ``after`` each batch the caller looks at the result: this is a generator.
    """
    device.seconds(work, 1)  # a first run connects, compiles and allocates
    once = max(device.seconds(work, 1), 1e-7)
    count = max(1, int(min(BATCH_S, seconds / 4) / once))
    began = now()
    while True:
        yield device.seconds(work, count) / count
        if now() - began >= seconds:
            return


def digest(torch, tensor):
    """Return the SHA-256 of a tensor's bytes."""
    host = tensor.detach().to("cpu").contiguous()
    size = host.numel() * host.element_size()
    return hashlib.sha256((ctypes.c_char * size).from_address(host.data_ptr())).hexdigest()


def wrong(torch, found, expected):
    """Return how many elements of two bf16 tensors differ in any bit."""
    return int((found.view(torch.int16) != expected.view(torch.int16)).sum().item())


def whole_numbers(torch, rows, columns, seed):
    """Return a matrix of small whole numbers, the same everywhere: made by the processor."""
    source = torch.Generator(device="cpu")
    source.manual_seed(seed)
    return torch.randint(-EXACT_LIMIT, EXACT_LIMIT + 1, (rows, columns), generator=source, dtype=torch.int8)


class Matrix:
    """bf16 products of two matrices of n × n."""

    def __init__(self, torch, device, size):
        self.torch, self.device, self.size = torch, device, size
        self.operations = 2 * size**3

    def exact(self):
        """Return ``(elements, how many are wrong)`` of a product whose right values the processor knows."""
        torch, n = self.torch, self.size
        columns = min(EXACT_COLUMNS, n)
        left, right = whole_numbers(torch, n, n, SEED), whole_numbers(torch, n, columns, SEED + 1)
        expected = (left.to(torch.float32) @ right.to(torch.float32)).to(torch.bfloat16)
        wide = right.repeat(1, -(-n // columns))[:, :n]
        found = self.product(*(item.to(self.device.device).to(torch.bfloat16) for item in (left, wide)))
        expected = expected.to(self.device.device).repeat(1, -(-n // columns))[:, :n].contiguous()
        return n * n, wrong(torch, found, expected)

    def product(self, left, right):
        return left @ right

    def prepare(self):
        """Make the inputs, and the first product, which all others must equal."""
        torch = self.torch
        elements, bad = self.exact()
        source = torch.Generator(device=self.device.device)
        source.manual_seed(SEED)
        make = {"generator": source, "device": self.device.device, "dtype": torch.float32}
        self.left, self.right = (torch.randn((self.size, self.size), **make).to(torch.bfloat16) for _each in range(2))
        self.out = torch.empty_like(self.left)
        self.first = self.product(self.left, self.right)
        self.work()
        self.found = {
            "size": self.size,
            "exact_elements": elements,
            "exact_wrong": bad,
            "inputs_sha256": digest(torch, torch.cat([self.left, self.right])),
            "product_sha256": digest(torch, self.first),
            "wrong": wrong(torch, self.out, self.first),
        }

    def work(self):
        self.torch.mm(self.left, self.right, out=self.out)

    def measure(self, seconds, state):
        """Measure for so many seconds what was prepared; keeps the times, and how many elements of the products were wrong."""
        began = time.monotonic()
        found = dict(self.found, operations=self.operations, times_s=[], compared=1, began=began, ended=began)
        state.data["phases"]["matrix"] = found
        for once in batches(self.device, self.work, seconds):
            found["times_s"].append(once)
            found["wrong"] += wrong(self.torch, self.out, self.first)
            found["compared"] += 1
            found["ended"] = time.monotonic()
            state.update()  # what was measured stays when this process is killed
        del self.left, self.right, self.out, self.first


def triton_reads(torch, buffer):
    """Return ``[(name, work, out, expected)]``: kernels that read the buffer of ones; raises where Triton cannot compile."""
    kernels, found = importlib.import_module(KERNEL), []
    for block, turns, warps in READ_BLOCKS:
        programs = buffer.numel() // (block * turns)  # both are powers of two
        out = torch.zeros(programs, device=buffer.device, dtype=torch.float32)

        def work(programs=programs, out=out, block=block, turns=turns, warps=warps):
            kernels.read[(programs,)](buffer, out, BLOCK=block, TURNS=turns, num_warps=warps)

        found.append(("triton %d x %d, %d warps" % (block, turns, warps), work, out, float(block * turns)))
    for _name, work, _out, _expected in found:
        work()
    torch.cuda.synchronize()
    return found


def sum_read(torch, buffer):
    """Return ``[(name, work, out, expected)]``: ``torch.sum`` over the buffer of ones."""
    out = torch.zeros((), device=buffer.device, dtype=torch.float32)
    return [("torch.sum", lambda: torch.sum(buffer, dim=0, out=out), out, float(buffer.numel()))]


class Memory:
    """Reads and copies of a buffer of float32 ones."""

    def __init__(self, torch, device, size_bytes):
        self.torch, self.device = torch, device
        # A quarter of what is free: two buffers, and room. A power of two, so that blocks fit it.
        most = min(size_bytes, device.free_bytes() // 4)
        self.size_bytes = 2 ** max(20, most.bit_length() - 1)
        self.buffer = torch.ones(self.size_bytes // 4, device=device.device, dtype=torch.float32)

    def prepare(self):
        """Choose the fastest way to read; where Triton cannot compile (no compiler, no headers of Python) the sum reads as well."""
        self.no_triton, ways = None, None
        if self.device.device.type == "cuda":
            try:
                ways = triton_reads(self.torch, self.buffer)
            except Exception as error:
                self.device.sync()  # an error of the GPU itself is raised here
                self.no_triton = short(error)
        ways = ways or sum_read(self.torch, self.buffer)
        tried = {name: min(self.device.seconds(work, 2) for _turn in range(3)) for name, work, _out, _expected in ways}
        self.way = min(ways, key=lambda way: tried[way[0]])

    def read(self, seconds, state):
        """Measure the way that was chosen, and look at what it read."""
        name, work, out, expected = self.way
        began, times = time.monotonic(), list(batches(self.device, work, seconds))
        # A sum over all of a buffer is rounded; that of a block is a whole number.
        slack = 1e-6 * expected if name == "torch.sum" else 0
        state.data["phases"]["read"] = {
            "method": name, "no_triton": self.no_triton, "size_bytes": self.size_bytes, "times_s": times, "began": began,
            "ended": time.monotonic(), "wrong": int(((out - expected).abs() > slack).sum().item()),
        }  # fmt: skip

    def copy(self, seconds, state):
        """Measure copies within the memory."""
        target = self.torch.zeros_like(self.buffer)
        began, times = time.monotonic(), list(batches(self.device, lambda: target.copy_(self.buffer), seconds))
        state.data["phases"]["copy"] = {
            "size_bytes": self.size_bytes, "times_s": times, "began": began, "ended": time.monotonic(),
            "wrong": int((target != self.buffer).sum().item()),
        }  # fmt: skip

    def free(self):
        del self.buffer, self.way


class Transfer:
    """Copies between pinned memory of the host and the GPU."""

    def __init__(self, torch, device, size_bytes):
        self.torch, self.device, self.size_bytes = torch, device, size_bytes
        source = torch.Generator(device="cpu")
        source.manual_seed(SEED)
        self.host = torch.randint(0, 256, (size_bytes,), generator=source, dtype=torch.uint8).pin_memory()
        self.back = torch.zeros(size_bytes, dtype=torch.uint8, pin_memory=True)
        self.there = torch.zeros(size_bytes, device=device.device, dtype=torch.uint8)

    def measure(self, name, seconds, state, direction=None):
        """Measure one direction once more; what arrived back at the host is compared with what left it."""

        def up():
            self.there.copy_(self.host, non_blocking=True)

        def down():
            self.back.copy_(self.there, non_blocking=True)

        began, times = time.monotonic(), list(batches(self.device, up if (direction or name) == "h2d" else down, seconds))
        ended = time.monotonic()
        down()
        self.device.sync()
        phase = state.data["phases"].setdefault(name, {"size_bytes": self.size_bytes, "turns_s": [], "began": began, "wrong": 0})
        phase["turns_s"].append(times)
        phase["wrong"] += int((self.back != self.host).sum().item())
        phase["ended"] = ended


def load_torch(state):
    """Import torch and note its versions."""
    import torch

    versions = {"torch_version": torch.__version__, "cuda_version": torch.version.cuda}
    state.update(stage="torch", **versions)
    # A sum that is split over several programs is added up in float32, not in bf16.
    torch.backends.cuda.matmul.allow_bf16_reduced_precision_reduction = False
    return torch


def pin(cpus):
    """Stay on the processors beside the device, as far as this process may use them."""
    usable = set(cpus or ()) & os.sched_getaffinity(0)
    if usable:
        os.sched_setaffinity(0, usable)
    return sorted(usable)


def measure_device(spec, number, state):
    """Take one device through its phases."""
    item, folder, patience = spec["devices"][number], spec["folder"], spec["patience_s"]
    state.update(cpus=len(pin(item.get("cpus"))))
    torch = load_torch(state)
    on_gpu = item["kind"] == "cuda"
    if on_gpu and torch.cuda.device_count() != 1:
        text = "torch %s sees %d CUDA devices where one was chosen (%s)"
        raise RuntimeError(text % (torch.__version__, torch.cuda.device_count(), item["visible"]))
    if not on_gpu and item.get("threads"):
        torch.set_num_threads(item["threads"])
    device = Cuda(torch) if on_gpu else Cpu(torch)
    state.update(about=device.about())
    matrix = Matrix(torch, device, spec["matrix_size"])
    matrix.prepare()
    state.wait_for(folder, "matrix", patience)
    matrix.measure(spec["matrix_s"], state)
    state.update(stage="read")
    if on_gpu:
        torch.cuda.empty_cache()
    memory = Memory(torch, device, spec["memory_bytes"])
    memory.prepare()
    state.wait_for(folder, "read", patience)
    memory.read(spec["memory_s"], state)
    state.wait_for(folder, "copy", patience)
    memory.copy(spec["memory_s"], state)
    memory.free()
    if on_gpu:
        torch.cuda.empty_cache()
        transfers(torch, device, spec, number, state)
    state.update(stage="done")


def transfers(torch, device, spec, number, state):
    """Copy from and to the host: all devices at once, then each alone in its turns."""
    transfer = Transfer(torch, device, spec["transfer_bytes"])
    for name in ("h2d", "d2h"):
        state.wait_for(spec["folder"], name, spec["patience_s"])
        transfer.measure(name, spec["transfer_s"], state)
    for turn in range(TURNS):
        state.wait_for(spec["folder"], turn_of(number, turn), spec["patience_s"])
        for name in ("h2d", "d2h"):
            transfer.measure(name + "_alone", spec["transfer_s"], state, name)


def measure_peers(spec, state):
    """Copy from each GPU to each other one, one pair after the other."""
    torch = load_torch(state)
    state.wait_for(spec["folder"], "peers", spec["patience_s"])
    count, size = torch.cuda.device_count(), spec["transfer_bytes"]
    pattern = torch.arange(size // 8, dtype=torch.int64)
    sources = [pattern.to("cuda:%d" % number) for number in range(count)]
    found = state.data["phases"]["peers"] = {"count": count, "size_bytes": size, "pairs": []}
    for source in range(count):
        device = Cuda(torch, source)
        for target in (number for number in range(count) if number != source):
            there = torch.zeros(size // 8, dtype=torch.int64, device="cuda:%d" % target)
            torch.cuda.synchronize(target)
            times = list(
                batches(device, lambda there=there, source=source: there.copy_(sources[source], non_blocking=True), spec["peer_s"])
            )
            torch.cuda.synchronize(target)
            found["pairs"].append({
                "source": source, "target": target, "access": bool(torch.cuda.can_device_access_peer(source, target)),
                "times_s": times, "wrong": int((there != sources[target]).sum().item()),
            })  # fmt: skip
            state.update()
    state.update(stage="done")


class Conductor:
    """Starts the processes, lets them go from phase to phase together, and leaves behind who does not come along."""

    def __init__(self, spec):
        self.spec, self.folder = spec, spec["folder"]
        self.children, self.hung = {}, {}

    def start(self, name, arguments, env):
        with open(os.path.join(self.folder, name + ".log"), "wb") as log:
            command = [sys.executable, os.path.abspath(__file__), "--folder", self.folder, *arguments]
            self.children[name] = subprocess.Popen(command, env=env, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def states(self):
        found = {}
        for name in self.children:
            try:
                with open(os.path.join(self.folder, name + ".json"), encoding="utf-8") as text:
                    found[name] = json.load(text)
            except (OSError, ValueError):
                found[name] = {"ready": []}
        return found

    def note(self):
        """Keep how each process ended so far: its exit status, and in which phase it was given up."""
        ends = {name: child.poll() for name, child in self.children.items()}
        keep(os.path.join(self.folder, "conductor.json"), {"exits": ends, "hung": self.hung})

    def gather(self, names, phase, patience_s):
        """Wait until all of ``names`` that still run are ready for the phase, and let them go."""
        self.ready(names, phase, patience_s)
        with open(os.path.join(self.folder, "go." + phase), "w", encoding="utf-8"):
            pass

    def ready(self, names, phase, patience_s):
        """Wait until all of ``names`` that still run are ready for the phase; give up those that are not in time."""
        deadline = time.monotonic() + patience_s
        while True:
            states = self.states()
            late = [name for name in names if self.children[name].poll() is None and phase not in states[name]["ready"]]
            if not late or time.monotonic() >= deadline:
                break
            time.sleep(POLL_S)
        for name in late:
            self.hung[name] = {"before": phase, "stage": states[name].get("stage"), "waited_s": round(patience_s, 1)}
            self.children[name].kill()
        self.note()

    def turns(self, names):
        """Let one device after the other copy alone, and all of them several times: see :data:`TURNS`."""
        limit = self.spec["transfer_s"] + self.spec["slack_s"]
        for turn in range(TURNS):
            for number, name in enumerate(names):
                self.gather([name], turn_of(number, turn), limit)
                if turn + 1 < TURNS:
                    self.ready([name], turn_of(number, turn + 1), limit + self.spec["transfer_s"])
                else:
                    self.end([name], "its own turn", limit + self.spec["transfer_s"])

    def run(self):
        spec = self.spec
        devices = ["device%d" % number for number in range(len(spec["devices"]))]
        base = {key: value for key, value in os.environ.items() if key not in ("CUDA_VISIBLE_DEVICES", "NVIDIA_TF32_OVERRIDE")}
        base.update(CUDA_DEVICE_ORDER="PCI_BUS_ID", TRITON_CACHE_DIR=os.path.join(self.folder, "triton"), PYTHONDONTWRITEBYTECODE="1")
        with open(os.path.join(self.folder, KERNEL + ".py"), "w", encoding="utf-8") as text:
            text.write(KERNEL_SOURCE)
        for number, name in enumerate(devices):
            visible = spec["devices"][number].get("visible")
            self.start(name, ["--device", str(number)], dict(base, CUDA_VISIBLE_DEVICES=visible or ""))
        if spec.get("peers"):
            self.start("peers", ["--peers"], dict(base, CUDA_VISIBLE_DEVICES=",".join(spec["peers"])))
        on_gpus = any(item["kind"] == "cuda" for item in spec["devices"])
        length = {"matrix": spec["start_s"], "read": spec["matrix_s"], "copy": spec["memory_s"], "h2d": spec["memory_s"],
                  "d2h": spec["transfer_s"]}  # fmt: skip
        for phase in TOGETHER if on_gpus else TOGETHER[:3]:
            self.gather(devices, phase, length[phase] + spec["slack_s"])
        self.turns(devices if on_gpus else [])
        self.end(devices, "the end", spec["memory_s"] + spec["slack_s"])
        if spec.get("peers"):
            self.gather(["peers"], "peers", spec["start_s"])
            pairs = len(spec["peers"]) * (len(spec["peers"]) - 1)
            self.end(["peers"], "the end", pairs * (spec["peer_s"] + 1) + spec["slack_s"])
        self.note()

    def end(self, names, before, patience_s):
        """Wait for processes to end; kill those that do not."""
        deadline = time.monotonic() + patience_s

        def left():
            return [name for name in names if self.children[name].poll() is None]

        while left() and time.monotonic() < deadline:
            time.sleep(POLL_S)
        for name in left():
            self.hung.setdefault(name, {"before": before, "stage": self.states()[name].get("stage"), "waited_s": round(patience_s, 1)})
            self.children[name].kill()
        grace = time.monotonic() + 5
        while left() and time.monotonic() < grace:  # one in the driver goes when the driver lets it
            time.sleep(POLL_S)


def main():
    """Be the conductor, or one of those it starts."""
    parser = argparse.ArgumentParser(description="Measures the devices of one node with torch.")
    parser.add_argument("--folder", required=True)
    parser.add_argument("--device", type=int)
    parser.add_argument("--peers", action="store_true")
    given = parser.parse_args()
    with open(os.path.join(given.folder, "spec.json"), encoding="utf-8") as text:
        spec = dict(json.load(text), folder=given.folder)
    # The last line of defence: SIGALRM ends this process even if all that started it is gone.
    signal.alarm(int(spec["deadline_s"]))
    if given.device is None and not given.peers:
        conductor = Conductor(spec)
        try:
            conductor.run()
        finally:
            for child in conductor.children.values():
                child.kill()
        os._exit(0)
    sys.path.insert(0, given.folder)  # the kernel's file is there
    state = State(given.folder, "peers" if given.peers else "device%d" % given.device)
    try:
        measure_peers(spec, state) if given.peers else measure_device(spec, given.device, state)
    except BaseException as error:
        state.update(error=short(error))
        raise


if __name__ == "__main__":
    main()
