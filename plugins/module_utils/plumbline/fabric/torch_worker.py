"""One rank of a collective measurement. torchrun runs this file as a script, under a Python that has torch.

It times an operation for each size of a sweep and keeps its progress in ``<folder>/rank<local rank>.json``,
so that whoever started it can tell what happened even when it was killed. The module ``collective_torch``
carries this file to the node and reads those files; the statistics are made there.

What a time is. Per size: fill the buffer, run once (a warm-up, whose values are checked), agree on a number of operations
from its time and the time budget, and time them in batches: one operation queued behind the other, as nccl-tests and serving
queue them, after a barrier. A sample is a batch's time divided by its operations, of the rank that took longest. The values of
the last operation are checked too. On CUDA the times come from two events on the stream around the batch, on CPU from the
host's monotonic clock around it (Gloo's operations block).

On CUDA small messages, those that decoding sends, are measured once more as a batch captured in a CUDA graph, which is how
serving launches them: no launch of the host is in that time. That comes after all sizes were measured plain, so whatever
becomes of it costs no plain number; what prevented it is in ``graph_error``.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import time
from datetime import timedelta

PERIOD = 251  # of the pattern in the data: a prime, so that a shifted or swapped block shows
WARMUPS = 5  # more of them for messages that take less than a budget's twentieth
BATCH = 20  # operations of a batch, as many as nccl-tests' default
SAMPLES = 5  # batches of a size, where the budget has operations enough
GRAPH_MAX_BYTES = 2**20  # the largest message that is measured in a graph: decoding sends less
GRAPH_OPERATIONS = 500  # of a size at most, in all samples


def contribution(rank, index):
    """Return the value that ``rank`` puts at ``index``: periodic, and small integers, so float32 sums are exact."""
    return rank + 1 + (index + rank) % PERIOD


def iterations_for(first_s, budget_s, least, most):
    """Return how many iterations fit the budget, within bounds, when one takes ``first_s`` seconds."""
    return max(least, min(most, int(budget_s / max(first_s, 1e-7))))


def batches(count):
    """Return ``(samples, operations of each)`` for about ``count`` operations, and never more than ``count``."""
    operations = max(1, min(BATCH, count // SAMPLES))
    return max(1, min(SAMPLES, count // operations)), operations


class State:
    """What this rank has done so far, rewritten whole each time so that a reader never sees half of it."""

    def __init__(self, folder, local_rank):
        self.path = os.path.join(folder, f"rank{local_rank}.json")
        self.data = {"pid": os.getpid(), "stage": "starting", "error": None, "graph_error": None, "samples": []}
        self.update()

    def update(self, **changes):
        # By hand: this file travels alone, without core/files.py.
        self.data.update(changes)
        with open(self.path + ".new", "w", encoding="utf-8") as text:
            json.dump(self.data, text)
        os.replace(self.path + ".new", self.path)


class Bench:
    """The operation under test, on one device."""

    def __init__(self, torch, dist, op, device, wait_s=60):
        self.torch, self.dist, self.op, self.device = torch, dist, op, device
        self.rank, self.ranks = dist.get_rank(), dist.get_world_size()
        self.wait_s = wait_s
        self.operations = 0

    def pattern(self, elements, ranks):
        """Return the sum of what ``ranks`` contribute, element by element: one period, repeated."""
        period = [float(sum(contribution(rank, index) for rank in ranks)) for index in range(PERIOD)]
        tile = self.torch.tensor(period, dtype=self.torch.float32, device=self.device)
        return tile.repeat(-(-elements // PERIOD))[:elements].contiguous()

    def prepare(self, size_bytes):
        elements = size_bytes // 4
        self.mine = self.pattern(elements, [self.rank])
        self.buffer = self.torch.zeros_like(self.mine)
        sources = range(self.ranks) if self.op == "all_reduce" else [(self.rank - 1) % self.ranks]
        self.expected = self.pattern(elements, sources)

    def fill(self):
        """Put fresh input in place, and let every rank be ready."""
        if self.op == "all_reduce":
            self.buffer.copy_(self.mine)
        else:
            self.buffer.zero_()
        self.dist.barrier()

    def once(self):
        """Run the operation; like sendrecv_perf, sendrecv sends to the next rank and receives from the one before."""
        if self.op == "all_reduce":
            self.dist.all_reduce(self.buffer)
        else:
            after, before = (self.rank + 1) % self.ranks, (self.rank - 1) % self.ranks
            pair = [
                self.dist.P2POp(self.dist.isend, self.mine, after),
                self.dist.P2POp(self.dist.irecv, self.buffer, before),
            ]
            for work in self.dist.batch_isend_irecv(pair):
                work.wait()
        self.operations += 1

    def mark(self):
        """Return a point in time: an event on the stream, or the host's monotonic clock in seconds."""
        if self.device.type != "cuda":
            return time.perf_counter()
        event = self.torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def between(self, start, end):
        """Return the seconds between two marks."""
        if self.device.type != "cuda":
            return end - start
        self.wait(end)
        return start.elapsed_time(end) / 1000

    def wait(self, event):
        """Wait for an event, with a bound beyond that of torch's watchdog, which does not watch over what a graph queued."""
        deadline = time.monotonic() + self.wait_s
        while not event.query():
            if time.monotonic() > deadline:
                raise RuntimeError(f"what was queued is not done after {self.wait_s} s")

    def timed(self, count, run=None):
        """Return the seconds of a batch of ``count`` runs on this rank, queued one behind the other."""
        run = run or self.once
        start = self.mark()
        for _number in range(count):
            run()
        return self.between(start, self.mark())

    def shared(self, values, dtype):
        """Return the sums over the ranks of a list of numbers (not counted as an operation under test)."""
        return self._reduced(values, dtype, self.dist.ReduceOp.SUM)

    def longest(self, values):
        """Return for each of a list of seconds those of the rank that took longest."""
        return self._reduced(values, self.torch.float64, self.dist.ReduceOp.MAX)

    def _reduced(self, values, dtype, how):
        tensor = self.torch.tensor(values, dtype=dtype, device=self.device)
        self.dist.all_reduce(tensor, op=how)
        return tensor.tolist()

    def wrong(self):
        return int((self.buffer != self.expected).sum().item())

    def sample(self, size_bytes, budget_s, least, most):
        """Measure one size; every rank returns the same sample."""
        self.operations = 0
        self.prepare(size_bytes)
        self.fill()
        first = self.timed(1)
        wrong = self.wrong()
        if self.op == "all_reduce":
            self.buffer.zero_()  # sums of sums would overflow; zeros stay zeros at the same speed
        first = self.shared([first], self.torch.float64)[0] / self.ranks
        if first < budget_s / 20:
            first = self.timed(WARMUPS) / WARMUPS
        elif self.device.type == "cuda" and first < 5 * budget_s:
            first = self.timed(1)  # NCCL connects in the first operation that needs a channel
        samples, operations = batches(self.agreed(iterations_for(first, budget_s, least, most)))
        # The last values can be checked where no sum was summed again; else an operation more is run for it.
        checkable = self.op == "sendrecv" or operations == 1
        times = []
        for number in range(samples):
            if checkable and number == samples - 1:
                self.fill()
            else:
                self.dist.barrier()
            times.append(self.timed(operations) / operations)
        if not checkable:
            self.fill()
            self.once()
        wrong = self.shared([wrong + self.wrong()], self.torch.int64)[0]
        return {
            "size_bytes": size_bytes,
            "times_us": [round(value * 1e6, 3) for value in self.longest(times)],
            "operations_per_sample": operations,
            "clock": "cuda_events" if self.device.type == "cuda" else "host",
            "operations": self.operations,
            "wrong": wrong,
        }

    def agreed(self, count):
        """Return rank 0's ``count``: each rank has its own idea of the time, and all must do the same number."""
        return int(self.shared([count if self.rank == 0 else 0], self.torch.int64)[0])

    def load(self, sample, seconds):
        """Repeat a sample's operation for about so many seconds: long enough for the GPUs' clocks to be seen at work."""
        if self.op == "all_reduce":
            self.buffer.zero_()
        self.operations = 0
        left = self.agreed(int(seconds * 1e6 / max(min(sample["times_us"]), 1)))
        while left > 0:
            self.timed(min(BATCH, left))
            left -= BATCH
        sample["operations"] += self.operations

    def captured(self, count):
        """Return a CUDA graph of ``count`` operations. On the stream that captures, one ran before: NCCL connects then."""
        torch = self.torch
        torch.cuda.synchronize()
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            self.once()
        torch.cuda.current_stream().wait_stream(stream)
        torch.cuda.synchronize()
        graph = torch.cuda.CUDAGraph()
        # thread_local: torch's watchdog asks for its events from another thread, which would end a capture of mode global.
        with torch.cuda.graph(graph, stream=stream, capture_error_mode="thread_local"):
            for _number in range(count):
                self.once()
        return graph

    def attempt(self, count):
        """Return ``(graph, None)``, or ``(None, why)`` on every rank where one of them could not capture: all must replay."""
        graph, error = None, None
        try:
            graph = self.captured(count)
        except Exception as problem:
            error = short(problem)
        failed = self.shared([int(graph is None)], self.torch.int64)[0]
        if failed and graph is not None:
            graph.reset()
            graph = None
        return graph, (error or f"{failed} other rank(s) could not capture") if failed else None

    def graph_sample(self, sample, budget_s):
        """Add to a plain sample its times in a graph; return why there are none, or None."""
        self.operations = 0
        self.prepare(sample["size_bytes"])
        graph, error = self.attempt(1)
        if error:
            return error
        self.fill()
        self.between(self.mark(), self.replayed(graph))
        sample["wrong"] += self.shared([self.wrong()], self.torch.int64)[0]
        graph.reset()  # before the communicator goes, which waits for the graphs that hold it
        median = sorted(sample["times_us"])[len(sample["times_us"]) // 2] / 1e6
        samples, operations = batches(self.agreed(iterations_for(median, budget_s, 1, BATCH * SAMPLES)))
        replays = max(1, min(GRAPH_OPERATIONS // (samples * operations), self.agreed(int(budget_s / (median * samples * operations)))))
        if self.op == "all_reduce":
            self.buffer.zero_()
        graph, error = self.attempt(operations)
        if error:
            return error
        self.between(self.mark(), self.replayed(graph))  # the first replay uploads the graph
        times = []
        for _number in range(samples):
            self.dist.barrier()
            times.append(self.timed(replays, graph.replay) / (replays * operations))
        sample["graph_times_us"] = [round(value * 1e6, 3) for value in self.longest(times)]
        sample["graph_operations_per_sample"] = replays * operations
        sample["graph_operations_captured"] = operations
        sample["operations"] += self.operations + operations * (samples * replays + 1) - operations
        self.torch.cuda.synchronize()
        graph.reset()
        return None

    def replayed(self, graph):
        """Replay a graph once; return the mark behind it."""
        graph.replay()
        return self.mark()


def short(error):
    """Return an exception in one line."""
    lines = str(error).strip().splitlines() or [""]
    return f"{type(error).__name__}: {lines[0]}"[:500]


def measure_graphs(args, state, bench):
    """Measure the small sizes in a CUDA graph, and keep each; return whether the ranks are still in step to leave together."""
    for sample in state.data["samples"]:
        if sample["size_bytes"] > GRAPH_MAX_BYTES:
            continue
        state.update(stage="graph", size_bytes=sample["size_bytes"])
        try:
            error = bench.graph_sample(sample, args.budget_s)
        except Exception as problem:  # plain numbers are there: what was seen is kept, and this rank goes without good-byes
            state.update(graph_error=f"at {sample['size_bytes']} bytes: {short(problem)}")
            return False
        if error:  # all ranks saw the same: no larger message will do better
            state.update(graph_error=f"at {sample['size_bytes']} bytes: {error}")
            return True
    return True


def measure(args, state):
    """Join the others, run the sweep, leave."""
    import torch
    import torch.distributed as dist

    state.update(torch_version=torch.__version__)
    local_rank = int(os.environ["LOCAL_RANK"])
    device = torch.device("cpu")
    if args.backend == "nccl":
        if not torch.cuda.is_available() or torch.cuda.device_count() <= local_rank:
            raise RuntimeError(f"backend nccl needs CUDA device {local_rank}, torch sees {torch.cuda.device_count()}")
        device = torch.device("cuda", local_rank)
        torch.cuda.set_device(device)
    state.update(stage="joining")
    dist.init_process_group(args.backend, timeout=timedelta(seconds=args.join_timeout_s))
    bench = Bench(torch, dist, args.op, device, args.join_timeout_s + 15)
    state.update(rank=bench.rank, ranks=bench.ranks)
    for size in args.sizes:
        state.update(stage="measuring", size_bytes=size)
        state.data["samples"].append(bench.sample(size, args.budget_s, args.min_iterations, args.iterations))
    if args.load_s > 0:
        bench.load(state.data["samples"][-1], args.load_s)
    if device.type == "cuda" and args.graph and not measure_graphs(args, state, bench):
        state.update(stage="done")
        os._exit(0)  # a communicator in which something hangs would not let this process go
    dist.barrier()
    state.update(stage="done")
    dist.destroy_process_group()


def main():
    parser = argparse.ArgumentParser(description="One rank of a collective measurement; start it with torchrun.")
    parser.add_argument("--op", choices=("all_reduce", "sendrecv"), required=True)
    parser.add_argument("--backend", choices=("gloo", "nccl"), default="gloo")
    parser.add_argument("--sizes", type=lambda text: [int(part) for part in text.split(",")], required=True, help="bytes")
    parser.add_argument("--iterations", type=int, default=100, help="operations at most, per size")
    parser.add_argument("--min-iterations", type=int, default=2, help="at least, per size, whatever the budget")
    parser.add_argument("--budget-s", type=float, default=0.4, help="seconds of timed iterations per size")
    parser.add_argument("--load-s", type=float, default=0.0, help="seconds of the largest message behind the sweep, for the clocks")
    parser.add_argument("--no-graph", dest="graph", action="store_false", help="measure nothing in a CUDA graph")
    parser.add_argument("--join-timeout-s", type=int, default=45, help="seconds to wait for another rank")
    parser.add_argument("--deadline-s", type=int, default=180, help="seconds after which this process ends, whatever")
    parser.add_argument("--folder", default=".", help="where rank<local rank>.json goes")
    args = parser.parse_args()
    # The last line of defence: SIGALRM ends this process even if all that started it is gone.
    signal.alarm(args.deadline_s)
    state = State(args.folder, os.environ["LOCAL_RANK"])
    try:
        measure(args, state)
    except Exception as error:
        state.update(error=short(error))
        raise


if __name__ == "__main__":
    main()
