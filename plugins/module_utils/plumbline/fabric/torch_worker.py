"""One rank of a collective measurement. torchrun runs this file as a script, under a Python that has torch.

It times an operation for each size of a sweep and keeps its progress in ``<folder>/rank<local rank>.json``,
so that whoever started it can tell what happened even when it was killed. The module ``collective_torch``
carries this file to the node and reads those files; the statistics are made there.

Per size: fill the buffer, run once (a warm-up, whose values are checked), agree on a number of iterations
from its time and the time budget, time each iteration, and check the values of the last one too. A time is
the mean over the ranks of the same iteration, as nccl-tests takes it. On CUDA the times come from events on
the stream, on CPU from the clock around the (blocking) call.
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


def contribution(rank, index):
    """Return the value that ``rank`` puts at ``index``: periodic, and small integers, so float32 sums are exact."""
    return rank + 1 + (index + rank) % PERIOD


def iterations_for(first_s, budget_s, least, most):
    """Return how many iterations fit the budget, within bounds, when one takes ``first_s`` seconds."""
    return max(least, min(most, int(budget_s / max(first_s, 1e-7))))


class State:
    """What this rank has done so far, rewritten whole each time so that a reader never sees half of it."""

    def __init__(self, folder, local_rank):
        self.path = os.path.join(folder, f"rank{local_rank}.json")
        self.data = {"pid": os.getpid(), "stage": "starting", "error": None, "samples": []}
        self.update()

    def update(self, **changes):
        # By hand: this file travels alone, without core/files.py.
        self.data.update(changes)
        with open(self.path + ".new", "w", encoding="utf-8") as text:
            json.dump(self.data, text)
        os.replace(self.path + ".new", self.path)


class Bench:
    """The operation under test, on one device."""

    def __init__(self, torch, dist, op, device):
        self.torch, self.dist, self.op, self.device = torch, dist, op, device
        self.rank, self.ranks = dist.get_rank(), dist.get_world_size()
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

    def timed(self, count, refill_last=False):
        """Return the seconds of each of ``count`` runs on this rank."""
        cuda = self.device.type == "cuda"
        marks = []
        for number in range(count):
            if refill_last and number == count - 1:
                self.fill()
            if cuda:
                start, end = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
                start.record()
                self.once()
                end.record()
            else:
                start = time.perf_counter()
                self.once()
                end = time.perf_counter()
            marks.append((start, end))
        if cuda:
            self.torch.cuda.synchronize()
            return [start.elapsed_time(end) / 1000 for start, end in marks]
        return [end - start for start, end in marks]

    def shared(self, values, dtype):
        """Return the sums over the ranks of a list of numbers (not counted as an operation under test)."""
        tensor = self.torch.tensor(values, dtype=dtype, device=self.device)
        self.dist.all_reduce(tensor)
        return tensor.tolist()

    def wrong(self):
        return int((self.buffer != self.expected).sum().item())

    def sample(self, size_bytes, budget_s, least, most):
        """Measure one size; every rank returns the same sample."""
        self.operations = 0
        self.prepare(size_bytes)
        self.fill()
        first = self.timed(1)[0]
        wrong = self.wrong()
        if self.op == "all_reduce":
            self.buffer.zero_()  # sums of sums would overflow; zeros stay zeros at the same speed
        first = self.shared([first], self.torch.float64)[0] / self.ranks
        if first < budget_s / 20:
            first = min(self.timed(WARMUPS))
        # Each rank has its own idea of the time, all must do the same number: rank 0's.
        count = iterations_for(first, budget_s, least, most) if self.rank == 0 else 0
        count = self.shared([count], self.torch.int64)[0]
        times = self.timed(count, refill_last=True)
        wrong = self.shared([wrong + self.wrong()], self.torch.int64)[0]
        mean = self.shared(times, self.torch.float64)
        return {
            "size_bytes": size_bytes,
            "times_us": [round(value / self.ranks * 1e6, 3) for value in mean],
            "operations": self.operations,
            "wrong": wrong,
        }


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
    bench = Bench(torch, dist, args.op, device)
    state.update(rank=bench.rank, ranks=bench.ranks)
    for size in args.sizes:
        state.update(stage="measuring", size_bytes=size)
        state.data["samples"].append(bench.sample(size, args.budget_s, args.min_iterations, args.iterations))
    dist.barrier()
    state.update(stage="done")
    dist.destroy_process_group()


def main():
    parser = argparse.ArgumentParser(description="One rank of a collective measurement; start it with torchrun.")
    parser.add_argument("--op", choices=("all_reduce", "sendrecv"), required=True)
    parser.add_argument("--backend", choices=("gloo", "nccl"), default="gloo")
    parser.add_argument("--sizes", type=lambda text: [int(part) for part in text.split(",")], required=True, help="bytes")
    parser.add_argument("--iterations", type=int, default=100, help="at most, per size")
    parser.add_argument("--min-iterations", type=int, default=2, help="at least, per size, whatever the budget")
    parser.add_argument("--budget-s", type=float, default=0.4, help="seconds of timed iterations per size")
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
        lines = str(error).strip().splitlines() or [""]
        state.update(error=f"{type(error).__name__}: {lines[0]}"[:500])
        raise


if __name__ == "__main__":
    main()
