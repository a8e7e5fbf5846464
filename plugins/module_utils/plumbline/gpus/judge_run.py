"""Judges what the figures do not show: whether every device came through, copies between GPUs, and what the clock window saw."""

from __future__ import annotations

import re
import signal
import statistics

from ..core.fact import reason
from ..core.scrub import scrub_text
from . import equals
from . import judge as gpu_judge
from .devices import label

MEMORY = re.compile(r"OutOfMemoryError|out of memory|MemoryError|can't allocate memory", re.I)
NO_TORCH = re.compile(
    r"No module named|ImportError|sees \d+ CUDA devices|not compiled with CUDA|No CUDA GPUs|Found no NVIDIA|driver .* too old"
    r"|driver version is insufficient|no kernel image|libcuda", re.I,
)  # fmt: skip
CUDA = re.compile(r"CUDA error|CUBLAS|AcceleratorError|uncorrectable|illegal memory|device-side|ECC", re.I)

PHASES = {
    "starting": "while it started", "torch": "while it prepared the product", "waiting": "between two phases",
    "matrix": "at the matrix product", "read": "at reading",
    "copy": "at copying", "h2d": "at copies from the host", "d2h": "at copies to the host",
    "turn": "at its own copies from and to the host", "peers": "at copies between GPUs",
}  # fmt: skip


def came_through(devices, states, conductor):
    """Return a reason for each device that did not come to its end, or one that says that all did."""
    found = []
    for number, (device, state) in enumerate(zip(devices, states)):
        if state.get("stage") != "done":
            name = "device%d" % number
            found.append(_ended(label(device), state, (conductor.get("exits") or {}).get(name), (conductor.get("hung") or {}).get(name)))
    if not found:
        text = "%d device%s measured, all at once" % (len(devices), "" if len(devices) == 1 else "s")
        found.append(reason("gpu_baseline.run", "healthy", text, "each device comes through every phase"))
    return found


def peers_came_through(state, conductor, count):
    """Return a list with the reason of the process that copies between GPUs, if it did not come to its end."""
    if count < 2 or state.get("stage") == "done":
        return []
    ends, hung = conductor.get("exits") or {}, conductor.get("hung") or {}
    item = _ended("copies between GPUs", state, ends.get("peers"), hung.get("peers"))
    return [dict(item, check="gpu_baseline.peers")]


def _ended(name, state, status, hung):
    """Say how a device's process ended, and what to do."""
    where = PHASES.get(
        str(state.get("stage")).partition(".")[0], "at %s" % state.get("stage") if state.get("stage") else "before it said anything"
    )
    threshold, check = "each device comes through every phase", "gpu_baseline.run"
    said = state.get("error") or _last_line(state.get("log"))
    if hung:
        text = "%s: hung %s, given up after %g s" % (name, where, hung["waited_s"])
        return reason(check, "failed", text, threshold, "look at dmesg for Xid, and at nvidia-smi -q; reset the GPU or reboot the node")
    if MEMORY.search(said or ""):
        return reason(
            check, "incomplete", "%s: out of memory %s: %s" % (name, where, said), threshold,
            "end what else uses the memory, or lower gpu_baseline_memory_bytes and gpu_baseline_matrix_size",
        )  # fmt: skip
    if said and CUDA.search(said) and not NO_TORCH.search(said):
        text = "%s: %s: %s" % (name, where, said)
        return reason(
            check, "failed", text, threshold, "look at dmesg for Xid and at the gpu checks of node_health; reset the GPU or reboot the node"
        )
    if said and NO_TORCH.search(said):
        return reason(
            check, "incomplete", "%s: %s" % (name, said), "torch of the serving runtime that sees the GPU",
            "set gpu_baseline_python, vllm_serve_venv or vllm_serve_image to an environment whose torch is for this driver",
        )  # fmt: skip
    if status is not None and status < 0:
        text = "%s: killed by %s %s" % (name, _signal(-status), where)
        return reason(
            check, "incomplete", text, threshold, "look at dmesg: the kernel kills what takes too much memory; then measure again"
        )
    text = "%s: ended %s%s" % (name, where, ": %s" % said if said else "")
    return reason(check, "incomplete", text, threshold, "read the message, put it right, and measure again")


def _signal(number):
    try:
        return signal.Signals(number).name
    except ValueError:
        return "signal %d" % number


def _last_line(text):
    lines = [line.strip() for line in (text or "").splitlines() if line.strip()]
    return scrub_text(lines[-1])[:300] if lines else None


def copies_between(found, limits):
    """Judge the matrix of copies between GPUs (``figures.peers``): each GPU by its median, and the lowest pair by the SKU's limit."""
    names = ["GPU %d" % index for index in found["peer_indexes"]]
    rates = found["peer_gbps"]
    known = [rate for row in rates for rate in row if rate is not None]
    if not known:
        return []
    reasons = []
    if found["wrong_peers"]:
        text = "%d values were not what was copied from one GPU to another" % found["wrong_peers"]
        reasons.append(reason("gpu_baseline.peers.values", "failed", text, "no wrong value", gpu_judge.REPLACE))
    share = gpu_judge.SHARES["peers"]
    threshold = "no GPU's median more than %g %% below that of the others" % (100 * share)
    slow = []
    for what, of in (("from", _medians(names, rates)), ("to", _medians(names, [list(column) for column in zip(*rates)]))):
        slow += [
            "%s %s: %.0f GB/s, median %.0f" % (what, name, of[name], statistics.median(of.values())) for name in equals.slow(of, share)[0]
        ]
    text = "%d pairs between %.0f and %.0f GB/s" % (len(known), min(known), max(known))
    if slow and len(names) > 2:
        text = "%s; slow %s" % (text, "; ".join(slow))
        reasons.append(
            reason(
                "gpu_baseline.peers",
                "degraded",
                text,
                threshold,
                "look at its NVLink: nvidia-smi nvlink -s -i <GPU>, and nvidia-smi topo -p2p n",
            )
        )
    else:
        without = sum(access is False for row in found["peer_access"] for access in row)
        text += "; %d of them through the host: no peer access" % without if without else ""
        reasons.append(reason("gpu_baseline.peers", "healthy", text, threshold))
    least = limits.get("p2p_min_gbps")
    if not least:
        return reasons + [reason("gpu_baseline.peers.baseline", "skipped", "no baseline", None)]
    status = "healthy" if min(known) >= least else "degraded"
    threshold = "at least %g GB/s (%s)" % (least, limits.get("source"))
    remedy = None if status == "healthy" else "look at NVLink and the fabric manager; run Azure NHC"
    return reasons + [reason("gpu_baseline.peers.baseline", status, "the lowest is %.0f GB/s" % min(known), threshold, remedy)]


def _medians(names, rows):
    """Return the median rate of each row that has one, by name."""
    found = {}
    for name, row in zip(names, rows):
        known = [rate for rate in row if rate is not None]
        if known:
            found[name] = statistics.median(known)
    return found


def clocks(window, table):
    """Judge the window over the measurement; ``table`` is ``clocks.judge.numbers`` of it, and ``window.reasons`` what that said.

    A power cap is what a matrix product of this length brings on a healthy GPU, and moves its clock: so only heat and brakes count.
    """
    found = [item for item in window.reasons if item["check"] == "clocks.window" and item["status"] != "healthy"]
    found += [item for item in window.reasons if item["check"] == "clocks.lock" and item["status"] == "failed"]
    hot, capped = [], []
    for bus, item in table.items():
        grown = {name: item["throttle_us"].get(name) for name in (*gpu_judge.HEAT, gpu_judge.CAP)}
        seen = {name: item["reasons_seen"].get(name, 0) / max(1, item["loaded_samples"]) for name in grown}
        share = {
            name: us / (window.duration_s * 1e6) if us is not None else seen[name] for name, us in grown.items()
        }  # fmt: skip
        told = ["%s %.0f %% of the time" % (name, 100 * share[name]) for name in gpu_judge.HEAT if share[name] >= gpu_judge.HELD_SHARE]
        if told:
            hot.append("%s: %s" % (bus, ", ".join(told)))
        if share[gpu_judge.CAP] >= gpu_judge.HELD_SHARE:
            capped.append(bus)
    threshold = "no thermal or slowdown reason for %g %% of the time" % (100 * gpu_judge.HELD_SHARE)
    if hot:
        found.append(reason("gpu_baseline.clocks", "degraded", "held down: %s" % "; ".join(hot), threshold, gpu_judge.COOL))
    elif any(item["loaded_samples"] for item in table.values()):
        text = "%d GPUs watched under load" % len(table)
        text += "; %d of them at their power cap, as a product of matrices brings" % len(capped) if capped else ""
        found.append(reason("gpu_baseline.clocks", "healthy", text, threshold))
    else:
        found.append(reason("gpu_baseline.clocks", "skipped", "no sample under load: clocks were not judged", threshold))
    return found
