"""GPUDirect RDMA and ACS: what is missing, what forces a detour, and machines that have neither."""

from __future__ import annotations

import struct

import pytest
from ansible.module_utils.plumbline.health.checks.gpu_direct import check_gpu_direct
from ansible.module_utils.plumbline.health.evidence import gpu_direct, pci_acs
from health_nodes import write

OPEN = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build"
CLOSED = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05  Release Build"
INFINIBAND = [{"link_layer": "InfiniBand"}]
GPU = {"pci": ["0000:41:00.0"], "driver": True, "tool": "/usr/bin/nvidia-smi"}


def judged(root, ib=tuple(INFINIBAND), gpu=None, virtual=False, **expect):
    """Return ``{check: reason}`` of the machine below ``root``."""
    evidence = {
        "ib": list(ib), "gpu": {"presence": gpu or GPU}, "host_settings": {"virtual": virtual},
        "gpu_direct": gpu_direct.gpu_direct(str(root)), "pci_acs": pci_acs.pci_acs(str(root)),
    }  # fmt: skip
    return {item["check"]: item for item in check_gpu_direct(evidence, expect)}


@pytest.mark.parametrize(
    ("driver", "kernel", "modules", "symbols", "status"),
    [
        (CLOSED, "5.15.0-1104-azure", "nvidia_peermem 16384 0 - Live 0x0", "", "healthy"),
        (CLOSED, "4.18.0-553", "nv_peer_mem 16384 0 - Live 0x0", "", "healthy"),
        (OPEN, "6.8.0-1040-azure", "", "", "healthy"),
        (OPEN, "4.18.0-553.el8_10.x86_64", "", "0000000000000000 T ib_umem_dmabuf_get\t[ib_uverbs]", "healthy"),
        (OPEN, "4.18.0-553.el8_10.x86_64", "", "0000000000000000 T ib_umem_get\t[ib_uverbs]", "degraded"),
        (CLOSED, "6.8.0-1040-azure", "nvidia 1 0 - Live 0x0", "", "degraded"),
        (None, "6.8.0-1040-azure", "", "", "incomplete"),
    ],
)
def test_the_way_to_the_gpus_memory(tmp_path, driver, kernel, modules, symbols, status):
    if driver:
        write(tmp_path, "proc/driver/nvidia/version", driver)
    write(tmp_path, "proc/sys/kernel/osrelease", kernel)
    write(tmp_path, "proc/modules", modules)
    write(tmp_path, "proc/kallsyms", symbols)
    found = judged(tmp_path)["ib.gpu_direct"]
    assert found["status"] == status and bool(found["remedy"]) == (status != "healthy")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"ib": ()}, "no InfiniBand port"),
        ({"ib": ({"link_layer": "Ethernet"},)}, "no InfiniBand port"),
        ({"ib_ports": []}, "no InfiniBand port"),
        ({"gpu": {"pci": [], "driver": False, "tool": None}}, "no GPU"),
        ({"gpu": {"pci": ["0000:41:00.0"], "driver": False, "tool": None}}, "the NVIDIA driver is not loaded"),
    ],
)
def test_a_machine_without_either_needs_no_way(tmp_path, changes, words):
    found = judged(tmp_path, **changes)
    assert {item["status"] for item in found.values()} == {"skipped"} and found["ib.gpu_direct"]["seen"] == words


def config(control=None, size=4096):
    """Return a configuration space with AER at 0x100 and, where ``control`` is given, ACS behind it."""
    data = bytearray(size)
    if size > 0x100:
        struct.pack_into("<I", data, 0x100, 0x0001 | 2 << 16 | (0x148 << 20 if control is not None else 0))
    if control is not None:
        struct.pack_into("<IHH", data, 0x148, 0x000D | 1 << 16, 0x5F, control)
    return bytes(data)


def board(root, switch, port):
    """Write a GPU below a port of a switch, as sysfs nests it; ``switch`` and ``port`` are configuration spaces."""
    below = root / "sys/devices/pci0000:40/0000:40:01.0/0000:40:02.0/0000:41:00.0"
    for folder, kind, data in ((below.parent.parent, "0x060400", switch), (below.parent, "0x060400", port), (below, "0x030200", config())):
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "class").write_text(kind + "\n")
        (folder / "vendor").write_text("0x10de\n" if folder == below else "0x1000\n")
        (folder / "config").write_bytes(data)
    links = root / "sys/bus/pci/devices"
    links.mkdir(parents=True, exist_ok=True)
    for folder in (below, below.parent, below.parent.parent):
        (links / folder.name).symlink_to(folder)


@pytest.mark.parametrize(
    ("switch", "port", "status", "words"),
    [
        (config(), config(0x0000), "healthy", "off on 2 bridges"),
        (config(), config(0x0003), "healthy", "off on 2 bridges"),  # source validation and translation blocking send nothing elsewhere
        (config(), config(0x001D), "degraded", "0000:40:02.0"),
        (config(0x0004), config(), "degraded", "0000:40:01.0"),
        (config(), config(size=64), "skipped", "others than root"),
        (config(size=256), config(), "healthy", "off on 2 bridges"),
    ],
)
def test_acs(tmp_path, switch, port, status, words):
    board(tmp_path, switch, port)
    found = judged(tmp_path)["pci.acs"]
    assert found["status"] == status and words in found["seen"]
    assert ("setpci" in (found["remedy"] or "")) == (status == "degraded")
    in_a_machine = judged(tmp_path, virtual=True)["pci.acs"]
    assert in_a_machine["status"] == "skipped" and "not applicable in a virtual machine" in in_a_machine["seen"]


def test_a_chain_of_capabilities_that_bites_its_tail_ends(tmp_path):
    data = bytearray(config())
    struct.pack_into("<I", data, 0x100, 0x0001 | 2 << 16 | 0x100 << 20)
    (tmp_path / "config").write_bytes(bytes(data))
    assert pci_acs.control(str(tmp_path)) == 0
    assert pci_acs.control(str(tmp_path / "nothing")) is None
