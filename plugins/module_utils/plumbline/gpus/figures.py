"""Makes figures of what the worker left: one row for each device, and the matrix of copies between GPUs.

Rates are 10⁹ bytes or 10¹² operations per second, of the median batch. A copy within a memory counts what it reads and what it writes.
"""

from __future__ import annotations

import statistics

# The clock mean of fewer samples says nothing of a few percent.
LEAST_SAMPLES = 5


def row(device, state, samples=None):
    """Return the figures of one device: what it is, and of each phase that it came through its rates; what is missing is None."""
    about, phases = state.get("about") or {}, state.get("phases") or {}
    found = {
        "index": device["index"],
        "uuid": device.get("uuid"),
        "bus_id": device.get("bus_id"),
        "model": device.get("model"),
        "mig": device.get("mig"),
        "sm_count": about.get("sm_count"),
        "threads": about.get("threads"),
    }
    found.update(matrix(device, phases.get("matrix"), samples))
    found.update(memory(device, phases, samples))
    for name in ("h2d", "d2h"):
        turns = transfer_rates(phases.get(name + "_alone"))
        found[name + "_gbps"] = max(turns, default=None)
        found[name + "_turns_gbps"] = turns
        found[name + "_together_gbps"] = max(transfer_rates(phases.get(name)), default=None)
    found["wrong_transfers"] = _sum(phases.get(name) for name in ("h2d", "d2h", "h2d_alone", "d2h_alone"))
    return found


def rate(phase, times=1):
    """Return the rate of the median batch of a phase that moved its size ``times`` times; None without one."""
    if not phase or not phase.get("times_s"):
        return None
    return round(times * phase["size_bytes"] / statistics.median(phase["times_s"]) / 1e9, 3)


def transfer_rates(phase):
    """Return the rate of each turn of copying, that of its median batch: GB/s; [] without one."""
    return [round(phase["size_bytes"] / statistics.median(times) / 1e9, 3) for times in (phase or {}).get("turns_s", []) if times]


def matrix(device, phase, samples):
    """Return the matrix product's figures. The sustained rate is that of the window's second half: a clock takes seconds to settle."""
    phase = phase or {}
    found = {
        "matrix_size": phase.get("size"),
        "bf16_tflops": None,
        "bf16_first_tflops": None,
        "tflops_per_ghz": None,
        "products_compared": phase.get("compared"),
        "wrong_elements": phase.get("wrong"),
        "exact_elements": phase.get("exact_elements"),
        "exact_wrong_elements": phase.get("exact_wrong"),
        "inputs_sha256": phase.get("inputs_sha256"),
        "product_sha256": phase.get("product_sha256"),
        "matrix_clocks": None,
    }
    times = phase.get("times_s")
    if not times:
        return found
    found["bf16_first_tflops"] = round(phase["operations"] / times[0] / 1e12, 6)
    found["bf16_tflops"] = round(phase["operations"] / statistics.median(times[len(times) // 2 :]) / 1e12, 6)
    if samples and device.get("bus_id"):
        clocks = samples.during(device["bus_id"], (phase["began"] + phase["ended"]) / 2, phase["ended"])
        found["matrix_clocks"] = clocks
        if clocks["sm_mhz"] and clocks["samples"] >= LEAST_SAMPLES:
            found["tflops_per_ghz"] = round(found["bf16_tflops"] / clocks["sm_mhz"] * 1000, 4)
    return found


def memory(device, phases, samples):
    """Return the figures of reads and copies within the device's memory."""
    read, copy = phases.get("read") or {}, phases.get("copy") or {}
    clocks = None
    if samples and device.get("bus_id") and read.get("times_s"):
        clocks = samples.during(device["bus_id"], read["began"], read["ended"])
    return {
        "read_gbps": rate(read),
        "read_best_gbps": round(read["size_bytes"] / min(read["times_s"]) / 1e9, 3) if read.get("times_s") else None,
        "read_method": read.get("method"),
        "read_without_triton": read.get("no_triton"),
        "read_bytes": read.get("size_bytes"),
        "read_clocks": clocks,
        "copy_gbps": rate(copy, 2),
        "wrong_memory": _sum((read, copy)),
    }


def _sum(phases):
    """Return how many values were wrong in phases, those that were not reached left out; None for none."""
    found = [phase["wrong"] for phase in phases if phase and phase.get("wrong") is not None]
    return sum(found) if found else None


def peers(state, devices):
    """Return ``{"peer_gbps", "peer_access", "peer_indexes", "wrong_peers"}``: rows are sources, columns targets, None where not measured.

    ``devices`` are all of the node's; those that the copies were between are the whole GPUs among them.
    """
    whole = [item["index"] for item in devices if item["kind"] == "cuda" and not item["mig"]]
    phase = (state.get("phases") or {}).get("peers")
    if len(whole) < 2 or not phase:
        return {"peer_gbps": [], "peer_access": [], "peer_indexes": [], "wrong_peers": None}
    rates, access = ([[None] * len(whole) for _row in whole] for _each in range(2))
    for pair in phase["pairs"]:
        source, target = pair["source"], pair["target"]
        rates[source][target] = rate(dict(pair, size_bytes=phase["size_bytes"]))
        access[source][target] = pair["access"]
    return {"peer_gbps": rates, "peer_access": access, "peer_indexes": whole, "wrong_peers": _sum(phase["pairs"])}
