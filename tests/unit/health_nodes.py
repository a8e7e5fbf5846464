"""A healthy ND H100 v5 node, and a healthy machine without GPUs, as evidence, for tests that break one thing of it.

No ND H100 v5 was at hand. Its GPUs are the real H200 capture, eight times, with the address, name and fabric state of an ND H100
v5 put in; its NVLinks and its NHC log are the composed files (tests/captures/composed); its sysfs is written to a folder.
"""

from __future__ import annotations

import re

from ansible.module_utils.plumbline.health import expect as health_expect
from ansible.module_utils.plumbline.health.checks import nhc as nhc_check
from ansible.module_utils.plumbline.health.evidence import azure, devices, gpu_direct, image, infiniband, nhc_log, nvlink, topology
from ansible.module_utils.plumbline.health.evidence.kernel_log import as_evidence
from ansible.module_utils.plumbline.health.verdict import assess
from ansible.module_utils.plumbline.machine import nvidia
from project import ROOT
from skus import table

CAPTURES = ROOT / "tests" / "captures"
COMPOSED = CAPTURES / "composed"
SKUS = table()
H100 = health_expect.expectations(SKUS["Standard_ND96isr_H100_v5"])
H200 = health_expect.expectations(SKUS["Standard_ND96isr_H200_v5"])
LOG = (COMPOSED / "nhc.nd96isr_h100_v5.log").read_text()
NVLINK_S = (COMPOSED / "nvidia-smi.nvlink_s.h100.txt").read_text()
NVLINK_E = (COMPOSED / "nvidia-smi.nvlink_e.h100.txt").read_text()
TOPO = (COMPOSED / "nvidia-smi.topo_m.nd96isr_h100_v5.txt").read_text()
XML = (CAPTURES / "h200" / "nvidia-smi.q.xml").read_text()
ADDRESSES = [domain + ":00:00.0" for domain in H100["gpu_pci_domains"]]
GIB = 1 << 30
RUNS = {"LoadState": "loaded", "ActiveState": "active", "SubState": "running", "Result": "success"}


def smi_xml(addresses=tuple(ADDRESSES)):
    """Return ``nvidia-smi -q -x`` of a node with these GPUs, made of the one in the capture."""
    start, end = XML.index("\t<gpu id="), XML.index("</gpu>") + len("</gpu>\n")
    one = XML[start:end].replace("<product_name>NVIDIA H200<", "<product_name>NVIDIA H100 80GB HBM3<")
    one = re.sub(r"(<fabric>\s*)<state>N/A</state>(\s*)<status>N/A<", r"\1<state>Completed</state>\2<status>Success<", one)
    one = one.replace("<summary>N/A<", "<summary>Healthy<")
    gpus = ""
    for address in addresses:
        index = ADDRESSES.index(address)
        uuid = "GPU-00000000-1111-2222-3333-44444444444%d" % index
        gpus += one.replace("00000000:00:06.0", "0000" + address).replace("GPU-00000000-1111-2222-3333-444444444444", uuid)
    return XML[:start].replace("<attached_gpus>1<", "<attached_gpus>%d<" % len(addresses)) + gpus + XML[end:]


def write(root, path, text):
    """Write one file below ``root``."""
    place = root / path
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text + "\n")


def pci_device(root, address, numa_node):
    """Write the NUMA node of one device on the PCI bus."""
    write(root, "sys/bus/pci/devices/%s/numa_node" % address, str(numa_node))


def sysfs(root):
    """Write the sysfs of eight InfiniBand ports, the interfaces and the disks of an ND H100 v5."""
    for number in range(8):
        base = "sys/class/infiniband/mlx5_ib%d" % number
        write(root, base + "/ports/1/state", "4: ACTIVE")
        write(root, base + "/ports/1/phys_state", "5: LinkUp")
        write(root, base + "/ports/1/rate", "400 Gb/sec (4X NDR)")
        write(root, base + "/ports/1/link_layer", "InfiniBand")
        write(root, base + "/ports/1/counters/link_downed", "0")
        write(root, base + "/fw_ver", "28.39.3004")
        pci_device(root, "%04x:00:00.0" % (0x101 + number), number // 4)
        (root / base / "device").symlink_to(root / "sys/bus/pci/devices" / ("%04x:00:00.0" % (0x101 + number)))
        (root / base / "device/net" / ("ib%d" % number)).mkdir(parents=True)
        write(root, "sys/class/net/ib%d/carrier_changes" % number, "2")
    for number, address in enumerate(ADDRESSES):
        pci_device(root, address, number // 4)
    write(root, "sys/devices/system/node/online", "0-1")
    (root / "sys/module/nvidia_peermem").mkdir(parents=True)
    write(root, "proc/driver/nvidia/version", "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.95.05  Release Build")
    write(root, "proc/sys/kernel/osrelease", "5.15.0-1074-azure")
    for name in ("lo", "eth0", "docker0"):
        (root / "sys/class/net" / name).mkdir(parents=True)
    for number in range(8):
        (root / "sys/block" / ("nvme%dn1" % number)).mkdir(parents=True)
    pool = root / "var/lib/hyperv/.kvp_pool_3"
    pool.parent.mkdir(parents=True)
    records = (("HostName", "PHYSHOST000001"), ("PhysicalHostName", "PHYSHOST000001"))
    pool.write_bytes(b"".join(key.encode().ljust(512, b"\0") + value.encode().ljust(2048, b"\0") for key, value in records))


def nhc_evidence(text, **changes):
    """Return what ``nhc_run.run`` returns for a log."""
    return dict(
        {
            "error": None, "log": "/var/log/plumbline/nhc/run/nhc.log", "conf": "/var/log/plumbline/nhc/run/nhc.conf",
            "checks": H100["nhc_checks"], "text": text, "parsed": nhc_log.parse(text), "rc": 0, "timed_out": False,
            "duration_s": 400.0, "command": "run-health-checks.sh",
        },
        **changes,
    )  # fmt: skip


def kernel_log(lines, source="journal", complete=True, error=None):
    """Return what ``kernel_log.collect`` returns for these lines: texts, as parsed, or None for a log that could not be read."""
    if lines is not None:
        lines = [line if isinstance(line, dict) else {"text": line, "at_s": 0.0} for line in lines]
    return as_evidence(lines, source, complete, error)


def bare(path="/", place="/"):
    """Return the evidence of a healthy machine without GPU, InfiniBand, NVMe and NHC; its one disk is judged below ``path``."""
    return {
        "system": {"hostname": "n1", "kernel": "5.15", "os": "Ubuntu", "python": "3.10.12", "booted_at": None, "boot_id": "b"},
        "cpu": {"count": 96, "usable": 96, "load": [1.0, 1.0, 1.0]},
        "memory": {"total": 1885 * GIB, "available": 1850 * GIB, "swap_total": 0},
        "disks": [
            {
                "path": path, "place": place, "error": None, "total_bytes": 1000 * GIB, "free_bytes": 700 * GIB,
                "inodes_total": 1000, "inodes_free": 900, "read_only": False, "write": {"ms": 3.5, "error": None},
            }
        ],
        "read_only_mounts": [],
        "nic": {
            "interface": "eth0", "address": "10.0.0.4", "how": "inventory address", "wanted": "10.0.0.4", "operstate": "up",
            "carrier": 1, "carrier_changes": 2, "mtu": 1500, "speed_mbit_s": 100000, "rx_packets": 1000000, "tx_packets": 1000000,
            "rx_errors": 0, "tx_errors": 0, "rx_dropped": 10, "tx_dropped": 0,
        },
        "kernel_clock": {"error": None, "synchronised": True, "offset_ms": 0.1, "max_error_ms": 2.0},
        "clock_skew": {"skew_ms": 3.0, "bound_ms": 10.0, "samples": 4},
        "kernel_log": kernel_log(["Linux version 5.15.0-1074-azure"]),
        "gpu": {"presence": {"pci": [], "driver": False, "tool": None}, "smi": None, "error": None, "nvlink": None},
        "ib": [],
        "devices": {"interfaces": ["eth0", "lo"], "nvme": []},
        "gpu_direct": {"modules": [], "driver": None, "kernel": "5.15.0-1074-azure", "dma_buf": None},
        "topology": {"numa_nodes": [0], "gpus": {}, "adapters": {}, "matrix": None, "said": None},
        "pci_acs": {"bridges": 0, "redirecting": [], "unreadable": []},
        "host_settings": {
            "virtual": True, "memory_lock": {"limit_bytes": 8 << 20, "lifted": False}, "huge_pages": "madvise", "governors": [],
        },
        "hung": {"waited_s": 0.0, "processes": [], "kernel_threads": []},
        "services": {"units": {}, "error": None, "absent": "no service is named"},
        "image": {"versions": image.versions("/nonexistent"), "topology": None},
        "host": {},
        "nhc": {"skipped": ("not asked for", None)},
    }  # fmt: skip


def node(root, xml=None, nvlink_s=NVLINK_S, nvlink_e=NVLINK_E, kernel=(), log=LOG, pci=tuple(ADDRESSES), topo=TOPO):
    """Return the evidence of an ND H100 v5; ``root`` holds what :func:`sysfs` wrote."""
    return dict(
        bare(),
        kernel_log=kernel_log(["Linux version 5.15.0-1074-azure", *kernel]),
        gpu={
            "presence": {"pci": list(pci), "driver": True, "tool": "/usr/bin/nvidia-smi"},
            "smi": nvidia.parse_xml(xml or smi_xml()),
            "error": None,
            "nvlink": {"status": nvlink.parse_status(nvlink_s), "errors": nvlink.parse_errors(nvlink_e), "said": []},
        },
        ib=infiniband.collect(str(root)),
        devices=devices.devices(str(root)),
        gpu_direct=gpu_direct.gpu_direct(str(root)),
        topology=dict(topology.collect(None, pci, root=str(root)), matrix=topology.parse(topo), said="no whole matrix"),
        host_settings={"virtual": True, "memory_lock": {"limit_bytes": None, "lifted": True}, "huge_pages": "madvise", "governors": []},
        image={
            "versions": {"path": image.VERSIONS, "error": None, "image": "22.04.2026051201", "components": {"NCCL": "2.28.9-1"}},
            "topology": {"path": H100["topology_file"], "there": True, "error": None},
        },
        services={"units": {name: dict(RUNS) for name in H100["services_active"]}, "error": None, "absent": None},
        host=azure.host_values(str(root)),
        nhc=nhc_evidence(log),
    )


def reasons(evidence, expect=None):
    """Return ``{check: [reason, ...]}`` of what is neither healthy nor skipped."""
    found = {}
    for item in assess(evidence, expect or H100):
        if item["status"] not in ("healthy", "skipped"):
            found.setdefault(item["check"], []).append(item)
    return found


def statuses(evidence, expect=None):
    """Return ``{check: worst status}`` of what is neither healthy nor skipped."""
    order = ("degraded", "incomplete", "failed")
    return {check: max((i["status"] for i in items), key=order.index) for check, items in reasons(evidence, expect).items()}


def judged(text, expect=None):
    """Return ``{check: status}`` of an NHC log alone, healthy ones left out."""
    items = nhc_check.judge(nhc_log.parse(text), expect or H100)
    return {item["check"]: item["status"] for item in items if item["status"] != "healthy"}
