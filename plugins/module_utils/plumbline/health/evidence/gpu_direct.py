"""The two ways in which an InfiniBand adapter reaches a GPU's memory: a peer-memory module, or DMA-BUF.

Sources: NVIDIA's GPUDirect RDMA documentation (nvidia-peermem comes with the driver, nv_peer_mem is its predecessor; DMA-BUF takes the
open kernel modules), and the kernel: ``ib_umem_dmabuf_get`` is in 5.12 and later. Distributions carry it into older ones, so its symbol
counts too.
"""

from __future__ import annotations

import os
import re

from ...core.files import read_text

MODULES = ("nvidia_peermem", "nv_peer_mem")
DMA_BUF_KERNEL = (5, 12)
SYMBOL = "ib_umem_dmabuf_get"


def gpu_direct(root="/"):
    """Return ``{"modules", "driver", "kernel", "dma_buf"}``: the peer-memory modules that are loaded, and whether DMA-BUF can do it.

    ``driver`` is ``open`` or ``proprietary``, None where its version cannot be read; ``dma_buf`` is then None too.
    """
    loaded = {line.split()[0] for line in (read_text(os.path.join(root, "proc/modules")) or "").splitlines() if line}
    modules = [name for name in MODULES if name in loaded or os.path.isdir(os.path.join(root, "sys/module", name))]
    said = read_text(os.path.join(root, "proc/driver/nvidia/version"))
    kernel = read_text(os.path.join(root, "proc/sys/kernel/osrelease"))
    driver = None if said is None else "open" if "open kernel module" in said.lower() else "proprietary"
    return {"modules": modules, "driver": driver, "kernel": kernel, "dma_buf": _dma_buf(driver, kernel, bool(modules), root)}


def _dma_buf(driver, kernel, settled, root):
    """Return whether driver and kernel can do it; the kernel's list of symbols, which is long, is only read where all depends on it."""
    number = re.match(r"(\d+)\.(\d+)", kernel or "")
    if driver is None or number is None:
        return None
    if driver != "open":
        return False
    if (int(number.group(1)), int(number.group(2))) >= DMA_BUF_KERNEL:
        return True
    return not settled and SYMBOL in (read_text(os.path.join(root, "proc/kallsyms")) or "")
