"""Figures of GPUs for the tests of the judge: those of a real H100 under its power cap, with the spread that was asked for."""

from __future__ import annotations

import random

# Measured on one H100 80GB HBM3 with random data: read 4 GiB, copy, and 8192³ products sustained at 1320 MHz and 688 of 700 W.
READ, COPY, TFLOPS, MHZ, WATTS = 3110.0, 3021.0, 682.0, 1320.0, 688.0
MODEL = "NVIDIA H100 80GB HBM3"


def row(index, **changes):
    """Return the figures of one healthy GPU (``figures.row``), with changes. ``tflops_per_ghz`` follows rate and clock."""
    clocks = {
        "samples": 22, "sm_mhz": MHZ, "sm_max_mhz": 1980, "memory_mhz": 2619, "power_w": WATTS, "temperature_c": 61,
        "reasons": {"sw_power_cap": 1.0},
    }  # fmt: skip
    found = {
        "index": index, "uuid": "GPU-%08d" % index, "bus_id": "0000:%02x:00.0" % (index + 1), "model": MODEL, "mig": None, "sm_count": 132,
        "threads": None, "matrix_size": 8192, "bf16_tflops": TFLOPS, "bf16_first_tflops": 784.0, "products_compared": 90,
        "wrong_elements": 0, "exact_elements": 8192 * 8192, "exact_wrong_elements": 0, "inputs_sha256": "in", "product_sha256": "out",
        "matrix_clocks": clocks, "read_gbps": READ, "read_best_gbps": 3125.0, "read_method": "triton 8192 x 16, 8 warps",
        "read_without_triton": None, "read_bytes": 2**32, "read_clocks": dict(clocks, sm_mhz=1965.0, reasons={}), "copy_gbps": COPY,
        "wrong_memory": 0, "h2d_gbps": 55.2, "d2h_gbps": 55.0, "h2d_together_gbps": 54.0, "d2h_together_gbps": 53.0, "wrong_transfers": 0,
    }  # fmt: skip
    for key, value in changes.items():
        if key in ("sm_mhz", "reasons", "temperature_c"):
            found["matrix_clocks"] = dict(found["matrix_clocks"], **{key: value})
        else:
            found[key] = value
    found["tflops_per_ghz"] = found["bf16_tflops"] / found["matrix_clocks"]["sm_mhz"] * 1000 if found["matrix_clocks"] else None
    return found


def rows(count, seed=1):
    """Return healthy GPUs with the spread of healthy ones: reads 0.2 %, transfers 1 %, clocks under the power cap 1.2 %."""
    source = random.Random(seed)
    found = []
    for index in range(count):
        clock = source.gauss(1, 0.012)
        found.append(row(
            index, read_gbps=READ * source.gauss(1, 0.002), copy_gbps=COPY * source.gauss(1, 0.002), sm_mhz=MHZ * clock,
            bf16_tflops=TFLOPS * clock * source.gauss(1, 0.003), h2d_gbps=55 * source.gauss(1, 0.01), d2h_gbps=55 * source.gauss(1, 0.01),
        ))  # fmt: skip
    return found
