"""The figures that a prediction takes where the run has measured none. Standard library only.

``COSTS`` are fitted by ``fit`` to four captures of this project, and to nothing else (``tests/captures/h200``, ``tests/captures/h200x2``):
Qwen2.5-7B and 32B on one H200, 72B at TP2 and at PP2 on two; vLLM 0.25.0, CUDA graphs, torch.compile, one request, 16-bit weights.
A test fits them anew. The other tables are published or measured figures with their source.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class Costs(NamedTuple):
    """Fitted costs in ms, and what gives the range of a prediction from them (see ``fit.Fitted``)."""

    layer_ms: float
    hand_over_ms: float
    residual: float
    student: float
    inverse: tuple

    def spread(self, layers_per_ms, hand_overs_per_ms):
        """Return the half width of a prediction's 95 % range, as a share of it: Student's interval of a new observation."""
        one, both, other = self.inverse
        lever = one * layers_per_ms**2 + 2 * both * layers_per_ms * hand_overs_per_ms + other * hand_overs_per_ms**2
        return self.student * self.residual * (1 + lever) ** 0.5


COSTS = Costs(layer_ms=0.05039, hand_over_ms=1.539, residual=0.00719, student=4.303, inverse=(0.01606, -1.285, 1597.6))

# The costs are those of these GPUs: fitted on the H200, and held against the H100 by the study's A and B (docs/explain.md).
COVERED_GPUS = ("H100", "H200")
# The boards with NVLink between all of them (SXM): other memory, clocks and links go by the names PCIe, NVL, GH200 and MIG.
COVERED_NAME = re.compile(r"\bH[12]00\b(?!.*\b(?:PCIe|NVL|MIG)\b)")
# The largest message whose time is its latency, in bytes: within it the published figures, of 16 KiB, stand for any. Measured on two
# H200s in a CUDA graph: 5.8 µs at 8 B, 6.9 at 16 KiB, 7.2 at 64 KiB.
LATENCY_BOUND_BYTES = 64 * 1024

# What a server's products read of the rate that the GPU baseline's kernel in Triton measured, by the GPU's name; others read all of it.
# The costs above are fitted with 4322 GB/s, which plain kernels read of an H200, where that kernel reads 4583. On four other H200s
# torch.sum came to 95 to 99 % of it, and a product of matrix and vector to 91 to 96 %; the rate that fits the captures best is 4383.
# An H100 has two thirds of the rate for as many multiprocessors: TP4 there takes what it should at the whole of it (docs/explain.md).
SERVED_SHARE = {"NVIDIA H200": 4322 / 4583}

# µs of a 16 KiB all-reduce in a CUDA graph by ranks, within a node of H100 SXM.
CUSTOM_US = {2: 4.4, 4: 4.9, 8: 5.2}
CUSTOM_SOURCE = "published for vLLM's own kernel on H100 SXM, 16 KiB"
NCCL_US = {2: 7.1, 4: 11.0, 8: 16.6}
NCCL_SOURCE = "published for NCCL on H100 SXM, 16 KiB"
# By (ranks, nodes).
ACROSS_US = {(16, 2): 28.0}
ACROSS_SOURCE = "NCCL's own model of 16 KiB over 2 × 8 GPUs and InfiniBand, not a measurement"
