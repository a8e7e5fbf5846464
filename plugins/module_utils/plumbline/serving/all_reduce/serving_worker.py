"""One rank of the serving runtime's own all-reduce. torchrun runs this file as a script, under a Python that has vLLM.

Written for vLLM 0.25 to 0.32, whose functions and attributes it names; what a version lacks is an error that says so.

It makes vLLM's tensor-parallel group as vLLM's own workers make it, lets vLLM choose among its kernels (its custom all-reduce,
torch's symmetric memory, NCCL), and times ``tensor_model_parallel_all_reduce`` of the model's message: ``batch x hidden size``
values of the model's type. Progress is kept as ``torch_worker`` keeps it, whose file lies beside this one.

What a time is. On CUDA: a graph of so many all-reduces, captured in vLLM's ``graph_capture`` as its model runner captures them,
replayed so often that a sample lasts long, between two events on the stream, behind a replay that is not counted and in which
the ranks come into step. A sample is that time divided by the all-reduces, of the rank that took longest. Before it the same is
timed launched one by one (``eager_times_us``), which is all there is on CPU and where a graph cannot be captured. All results
are checked: every element of every all-reduce in the graph, for two inputs one after the other.

Which kernel ran is not guessed from sizes: the methods of vLLM's communicators are watched, and the one that gave the result
during the capture is ``path``.
"""

from __future__ import annotations

import argparse
import contextlib
import inspect
import os
import signal
import sys
import traceback
from datetime import timedelta

try:
    from ...fabric import torch_worker
except ImportError:  # on the node both files lie in one folder
    import torch_worker

GRAPH_OPERATIONS = 50  # in one graph; a token of a model of 24 layers has as many
SAMPLE_S = 0.02  # the least that a sample should last: what starts and ends it is far below a percent
REPLAYS = 2000  # of a graph in a sample at most
SAMPLES = 10
EAGER_OPERATIONS = 50  # of an eager sample
EXACT = {"bfloat16": 256, "float16": 2048, "float32": 2**24}  # whole numbers up to this have no rounding error
SHARED = "plumbline-%d-%s"  # names of shared memory begin so: the port, and which node
PRIMES = (13, 11, 7, 5, 3, 2)

# vLLM's attribute of each communicator (vllm/distributed/device_communicators/cuda_communicator.py), and how its log names it.
NAMES = {
    "ca_comm": "custom",
    "qr_comm": "quick_reduce",
    "symm_mem_comm": "symm_mem",
    "pynccl_comm": "nccl",
    "fi_ar_comm": "flashinfer",
    "fi_pcie_ipc_ar_comm": "flashinfer_pcie_ipc",
    "aiter_ar_comm": "aiter_custom",
}


def period_of(ranks, dtype):
    """Return the period of the data: a prime, so that a shifted block shows, and so small that every sum is exact in ``dtype``."""
    return next((prime for prime in PRIMES if ranks * prime <= EXACT[dtype]), 2)


def contribution(rank, index, turn, period):
    """Return the whole number that ``rank`` puts at ``index`` in its ``turn``-th input."""
    return (index * (turn + 1) + 3 * rank + turn) % period + 1


class Watch:
    """Notes which of vLLM's communicators gave the result of an all-reduce."""

    def __init__(self, communicator, dist):
        self.seen, self.depth = [], 0
        for name, item in sorted(vars(communicator).items()):
            if item is None or not (name in NAMES or name.endswith("_comm") or name == "dist_module"):
                continue
            if name == "dist_module" and inspect.ismodule(item):
                continue  # torch.distributed itself, watched below
            label = "shm" if name == "dist_module" else NAMES.get(name, name[: -len("_comm")])
            for method in dir(item):
                if "all_reduce" in method and not method.startswith("_") and callable(getattr(item, method)):
                    setattr(item, method, self._watched(getattr(item, method), label))
        self.torch_label = "gloo" if dist.get_backend() == "gloo" else "torch"
        dist.all_reduce = self._watched(dist.all_reduce, self.torch_label)

    def _watched(self, function, label):
        def call(*args, **kwargs):
            self.depth += 1
            try:
                result = function(*args, **kwargs)
            finally:
                self.depth -= 1
            if self.depth == 0 and (result is not None or label in ("shm", self.torch_label)):
                # NCCL into a buffer that the caller gives is vLLM's copy into NCCL's symmetric memory.
                symmetric = label == "nccl" and (len(args) > 1 or "out_tensor" in kwargs)
                self.seen.append("nccl_symm_mem" if symmetric else label)
            return result

        return call

    def of(self, run):
        """Return ``(what run() returned, the names that were seen meanwhile, joined)``."""
        self.seen = []
        result = run()
        return result, "+".join(dict.fromkeys(self.seen)) or "unknown"


class Bench(torch_worker.Bench):
    """vLLM's all-reduce on one device; what the ranks tell each other goes over the group's CPU side."""

    def __init__(self, torch, vllm, dtype, device, wait_s):
        super().__init__(torch, torch.distributed, "all_reduce", device, wait_s)
        self.vllm, self.group, self.dtype = vllm, vllm.get_tp_group(), dtype
        self.period = period_of(self.ranks, dtype)
        self.world = self.dist.all_reduce  # as it is before it is watched
        self.watch = Watch(self.group.device_communicator, self.dist)

    def _reduced(self, values, dtype, how):
        tensor = self.torch.tensor(values, dtype=dtype)
        self.world(tensor, op=how, group=self.group.cpu_group)
        return tensor.tolist()

    def ready(self):
        """Wait until every rank is here and its device has nothing left to do."""
        if self.device.type == "cuda":
            self.torch.cuda.synchronize()
        self.dist.barrier(group=self.group.cpu_group)

    def values(self, ranks, turn):
        """Return the sum of what ``ranks`` contribute in a turn, in the shape of the message."""
        period = [float(sum(contribution(rank, index, turn, self.period) for rank in ranks)) for index in range(self.period)]
        tile = self.torch.tensor(period, dtype=getattr(self.torch, self.dtype), device=self.device)
        elements = self.input.numel()
        return tile.repeat(-(-elements // self.period))[:elements].view(self.input.shape)

    def fill(self, turn):
        """Put a turn's input in place on every rank."""
        self.input.copy_(self.values([self.rank], turn))
        self.ready()

    def wrong_in(self, results, turn):
        """Return how many elements of ``results`` are wrong, on all ranks."""
        expected = self.values(range(self.ranks), turn)
        mine = sum(int((result != expected).sum().item()) for result in results)
        return int(self.shared([mine], self.torch.int64)[0])

    def reduce(self):
        """All-reduce the message as the model's layers do; return the result."""
        return self.vllm.tensor_model_parallel_all_reduce(self.input)

    def message(self, batch, hidden_size, state):
        """Measure the message of a batch: yield the result as far as it has come, more in it each time."""
        torch = self.torch
        self.input = torch.zeros((batch, hidden_size), dtype=getattr(torch, self.dtype), device=self.device)
        found = {"batch": batch, "message_bytes": self.input.numel() * self.input.element_size(), "dtype": self.dtype}
        self.eager(found)
        yield found
        if self.device.type == "cuda":
            state.update(stage="graph")
            self.in_graph(found)
            yield found

    def eager(self, found):
        """Time the all-reduce launched one by one, and check it; ``operations`` of a sample queue one behind the other."""
        self.fill(0)
        result, found["eager_path"] = self.watch.of(self.reduce)
        wrong = self.wrong_in([result], 0)
        self.input.zero_()  # on CPU it works in place: sums of sums would overflow, zeros stay zeros
        self.ready()
        first = self.longest([self.timed(torch_worker.WARMUPS, self.reduce) / torch_worker.WARMUPS])[0]
        operations = max(1, min(EAGER_OPERATIONS, int(SAMPLE_S * 5 / max(first, 1e-7))))
        times = []
        for _number in range(SAMPLES):
            self.ready()
            times.append(self.timed(operations, self.reduce) / operations)
        self.fill(1)
        wrong += self.wrong_in([self.reduce()], 1)
        found.update(eager_times_us=self.microseconds(times), eager_operations_per_sample=operations, wrong=wrong)

    def in_graph(self, found):
        """Add the times in a CUDA graph, or ``graph_error``: on every rank where one could not capture, since all must replay."""
        graph, error = None, None
        try:
            graph, results, found["path"] = self.capture()
        except Exception as problem:
            error = torch_worker.short(problem)
        failed = int(self.shared([int(error is not None)], self.torch.int64)[0])
        if failed:
            found["graph_error"] = error or f"{failed} other rank(s) could not capture"
            return
        wrong = 0
        for turn in (0, 1):  # a replay that reads what it read before shows
            self.fill(turn)
            self.between(self.mark(), self.replayed(graph))
            wrong += self.wrong_in(results, turn)
        operations = len(results)
        self.ready()
        once = self.longest([self.timed(1, graph.replay)])[0]
        replays = self.agreed(max(1, min(REPLAYS, int(SAMPLE_S / max(once, 1e-6)))))
        times = []
        for _number in range(SAMPLES):
            self.ready()
            graph.replay()  # not counted: in it the ranks wait for the last one
            times.append(self.timed(replays, graph.replay) / (replays * operations))
        wrong += self.wrong_in(results, 1)
        found.update(times_us=self.microseconds(times), operations_per_graph=operations, replays_per_sample=replays)
        found["wrong"] += wrong
        self.torch.cuda.synchronize()
        graph.reset()

    def capture(self):
        """Return ``(graph, its results, path)``: as vLLM's model runner captures, on vLLM's stream and in its context."""
        torch = self.torch
        self.ready()
        with self.vllm.graph_capture(device=self.device) as context:
            self.reduce()  # NCCL connects on the stream that captures; the custom kernel only makes room here
            torch.cuda.synchronize()
            graph = torch.cuda.CUDAGraph()
            # thread_local: torch's watchdog asks for its events from another thread, which would end a capture of mode global.
            with torch.cuda.graph(graph, stream=context.stream, capture_error_mode="thread_local"):
                results, path = self.watch.of(lambda: [self.reduce() for _number in range(GRAPH_OPERATIONS)])
        torch.cuda.synchronize()
        if any(result.data_ptr() == self.input.data_ptr() for result in results):
            raise RuntimeError("vLLM reduced in place, whose results in a graph cannot be checked")
        return graph, results, path

    def microseconds(self, times):
        """Return seconds of this rank as µs of the rank that took longest."""
        return [round(value * 1e6, 3) for value in self.longest(times)]


class Vllm:
    """What is used of vLLM, looked up by name so that what a version lacks is named."""

    def __init__(self, state):
        import vllm
        import vllm._custom_ops  # which loads vLLM's own kernels: without them it finds neither its custom all-reduce nor its shared memory
        from vllm import distributed
        from vllm.distributed import parallel_state
        from vllm.platforms import current_platform

        state.update(vllm_version=getattr(vllm, "__version__", None), platform=current_platform.device_type)
        self.parallel_state, self.platform = parallel_state, current_platform
        self.tensor_model_parallel_all_reduce = distributed.tensor_model_parallel_all_reduce
        self.get_tp_group = parallel_state.get_tp_group
        self.graph_capture = parallel_state.graph_capture

    def join(self, args, local_rank, config):
        """Make the process group of all ranks, as vLLM's worker does."""
        state = self.parallel_state
        # Its default configuration says what the platform and the environment forbid.
        state.set_custom_all_reduce(args.custom and not config.parallel_config.disable_custom_all_reduce)
        backend = "gloo" if args.device == "cpu" else "nccl"
        given = {
            "world_size": int(os.environ["WORLD_SIZE"]),
            "rank": int(os.environ["RANK"]),
            "distributed_init_method": "env://",
            "local_rank": local_rank,
            "backend": backend,
        }
        if "timeout" in inspect.signature(state.init_distributed_environment).parameters:
            given["timeout"] = timedelta(seconds=args.join_timeout_s)
        state.init_distributed_environment(**given)

    def groups(self, tp):
        """Make the tensor-parallel group of all ranks."""
        self.parallel_state.ensure_model_parallel_initialized(tp, 1)


@contextlib.contextmanager
def configured():
    """Enter a default configuration of vLLM, without which newer versions make no groups."""
    from vllm.config import VllmConfig, set_current_vllm_config

    config = VllmConfig()
    with set_current_vllm_config(config):
        yield config


def communicators(communicator):
    """Return ``{communicator: "on" or "off"}`` as vLLM set them up for this group."""
    return {
        label: "off" if getattr(getattr(communicator, name), "disabled", False) else "on"
        for name, label in NAMES.items()
        if getattr(communicator, name, None) is not None
    }


def measure_messages(args, state, bench):
    """Measure one message after the other, and keep what is known of each as it comes."""
    for batch in args.batches:
        state.update(stage="measuring", size_bytes=batch * args.hidden_size * (4 if args.dtype == "float32" else 2))
        state.data["samples"].append({})
        for found in bench.message(batch, args.hidden_size, state):
            state.data["samples"][-1] = found
            state.update()


def measure(args, state):
    """Join the others, make vLLM's group, measure every message, leave."""
    state.update(stage="importing")
    local_rank = int(os.environ["LOCAL_RANK"])
    # CPU ranks that agree on this name talk through shared memory, so it says on which node they are.
    os.environ["VLLM_DIST_IDENT"] = SHARED % (int(os.environ["MASTER_PORT"]), os.environ.get("GROUP_RANK", "0"))
    import torch

    state.update(torch_version=torch.__version__)
    vllm = Vllm(state)
    device = torch.device("cpu")
    if args.device == "cuda":
        if not torch.cuda.is_available() or torch.cuda.device_count() <= local_rank:
            raise RuntimeError(f"CUDA device {local_rank} is needed, torch sees {torch.cuda.device_count()}")
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
        state.update(gpu=torch.cuda.get_device_name(device))
    state.update(stage="configuring")
    with configured() as config:
        state.update(stage="joining")
        vllm.join(args, local_rank, config)
        state.update(stage="groups", rank=torch.distributed.get_rank(), ranks=torch.distributed.get_world_size())
        vllm.groups(state.data["ranks"])
        communicator = vllm.get_tp_group().device_communicator
        state.update(communicator=type(communicator).__name__, communicators=communicators(communicator))
        bench = Bench(torch, vllm, args.dtype, device, args.join_timeout_s + 15)
        with torch.inference_mode():  # as vLLM runs its model, and not as it makes its groups
            measure_messages(args, state, bench)
    state.update(stage="done")
    # All is measured, on every rank alike. A rank that leaves first must not end the others' last barrier in an error.
    with contextlib.suppress(RuntimeError):
        bench.ready()
    if device.type == "cuda":
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)  # what may hang in taking vLLM's groups down is not waited for; on CPU its shared memory goes only with a whole end


def main():
    parser = argparse.ArgumentParser(description="One rank of vLLM's all-reduce; start it with torchrun.")
    parser.add_argument("--device", choices=("cuda", "cpu"), required=True)
    parser.add_argument("--hidden-size", type=int, required=True, help="values of a token's activations")
    parser.add_argument("--batches", type=lambda text: [int(part) for part in text.split(",")], required=True, help="tokens of a step")
    parser.add_argument("--dtype", choices=tuple(EXACT), default="bfloat16")
    parser.add_argument("--no-custom", dest="custom", action="store_false", help="as where vLLM disables its custom all-reduce")
    parser.add_argument("--join-timeout-s", type=int, default=60, help="seconds to wait for another rank")
    parser.add_argument("--deadline-s", type=int, default=180, help="seconds after which this process ends, whatever")
    parser.add_argument("--folder", default=".", help="where rank<local rank>.json goes")
    args = parser.parse_args()
    signal.alarm(args.deadline_s)  # the last line of defence: SIGALRM ends this process even if all that started it is gone
    state = torch_worker.State(args.folder, os.environ["LOCAL_RANK"])
    try:
        measure(args, state)
    except BaseException as error:
        state.update(error=torch_worker.short(error), trace=traceback.format_exc()[-4000:])
        raise


if __name__ == "__main__":
    main()
