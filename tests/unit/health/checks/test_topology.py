"""NUMA, NVLink between all pairs and the way to the adapter: a node that is as Azure's topology file has it, and each thing off."""

from __future__ import annotations

import re

import pytest
from ansible.module_utils.plumbline.health.checks.topology import check_topology
from ansible.module_utils.plumbline.health.evidence import topology
from ansible.module_utils.plumbline.health.remedy import classify
from health_nodes import ADDRESSES, CAPTURES, H100, H200, SKUS, TOPO, node, pci_device, reasons, statuses, write

REAL = (CAPTURES / "h200x2/nvidia-smi.topo_m.txt").read_text()
# What an HGX board without a hypervisor prints: its switches show, and NICs that are no adapters of GPUs.
BARE_METAL = TOPO.replace(
    "GPU0\t X \tNV18\tNV18\tNV18\tNV18\tNV18\tNV18\tNV18\tNODE", "GPU0\t X \tNV18\tNV18\tNV18\tNV18\tNV18\tNV18\tNV18\tPXB"
)


def of(evidence, expect=H100):
    return {item["check"]: item for item in check_topology(evidence, expect)}


def test_a_node_as_azures_topology_file_has_it(root):
    for expect in (H100, H200):
        found = of(node(root), expect)
        assert {check: item["status"] for check, item in found.items()} == dict.fromkeys(
            ("numa.nodes", "numa.gpus", "numa.ib", "gpu.topology", "gpu.nic_path"), "healthy"
        )
    assert found["gpu.topology"]["seen"] == "NV18 between all 28 pairs" and found["gpu.nic_path"]["seen"] == "NODE on 8 GPUs"
    assert found["numa.gpus"]["threshold"] == "NUMA node 0: 0001, 0002, 0003, 0008; NUMA node 1: 0009, 000a, 000b, 000c"


@pytest.mark.parametrize(
    ("path", "text", "check", "status", "words"),
    [
        ("sys/devices/system/node/online", "0", "numa.nodes", "failed", "1 NUMA nodes"),
        ("sys/devices/system/node/online", "0-3", "numa.nodes", "failed", "4 NUMA nodes"),
        ("sys/devices/system/node/online", "", "numa.nodes", "incomplete", "not readable"),
        ("sys/bus/pci/devices/0008:00:00.0/numa_node", "1", "numa.gpus", "failed", "0008:00:00.0 at 1"),
        ("sys/bus/pci/devices/0008:00:00.0/numa_node", "-1", "numa.gpus", "incomplete", "does not tell that of 0008:00:00.0"),
        ("sys/bus/pci/devices/0105:00:00.0/numa_node", "0", "numa.ib", "failed", "0105:00:00.0 at 0"),
        ("sys/bus/pci/devices/0105:00:00.0/numa_node", "-1", "numa.ib", "incomplete", "0105:00:00.0"),
    ],
)
def test_numa_that_is_not_the_sizes(root, path, text, check, status, words):
    write(root, path, text)
    evidence = node(root)
    assert statuses(evidence) == {check: status}
    (found,) = reasons(evidence)[check]
    assert words in found["seen"] and found["remedy"]
    assert classify(found) == (("replace", "NHC2010") if status == "failed" else ("none", None))


def test_an_adapter_without_an_address_cannot_be_placed(root):
    (root / "sys/class/infiniband/mlx5_ib4/device").unlink()
    found = of(node(root))["numa.ib"]
    assert found["status"] == "incomplete" and "mlx5_ib4" in found["seen"]


@pytest.mark.parametrize(
    ("old", "new", "status", "words"),
    [
        ("NV18", "NV17", "failed", "GPU0-GPU1 NV17"),
        ("NV18", "SYS", "failed", "GPU0-GPU1 SYS"),
        ("NV18", "???", "incomplete", "not readable: GPU0-GPU1"),
    ],
)
def test_a_pair_without_all_its_links(root, old, new, status, words):
    evidence = node(root, topo=TOPO.replace(old, new, 1))
    assert statuses(evidence) == {"gpu.topology": status}
    (found,) = reasons(evidence)["gpu.topology"]
    assert found["seen"] == words and (classify(found) == ("reset_gpu", "NHC2016")) == (status == "failed")


def test_all_pairs_are_counted_and_a_few_named(root):
    found = of(node(root, topo=TOPO.replace("NV18", "NODE")))["gpu.topology"]
    assert found["status"] == "failed" and found["seen"].endswith("and 48 more")


@pytest.mark.parametrize(
    "text",
    ["", "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.\n", TOPO[: TOPO.index("GPU5\tNV18")], TOPO[:200]],
)
def test_no_whole_matrix_is_no_pass(root, text):
    evidence = node(root, topo=text)
    assert statuses(evidence) == {"gpu.topology": "incomplete"}
    assert of(evidence)["gpu.nic_path"]["status"] == "skipped"


def test_a_way_across_numa_nodes_degrades(root):
    # The adapters' legend turned round: each GPU's own is at the other NUMA node.
    text = re.sub(r"mlx5_ib(\d)", lambda found: "mlx5_ib%d" % ((int(found[1]) + 4) % 8), TOPO)
    evidence = node(root, topo=text)
    assert statuses(evidence) == {"gpu.nic_path": "degraded"}
    assert "GPU0-mlx5_ib0 SYS" in reasons(evidence)["gpu.nic_path"][0]["seen"]


def test_where_the_switches_show_and_where_no_nic_is_shown(root):
    found = of(node(root, topo=BARE_METAL))["gpu.nic_path"]
    assert found["status"] == "healthy" and found["seen"] == "NODE, PXB on 8 GPUs"
    without = "\n".join("\t".join(line.split("\t")[:9] + line.split("\t")[17:]) for line in TOPO.splitlines() if "NIC" not in line[:4])
    evidence = node(root, topo=without.replace("  NIC", "  X"))
    assert statuses(evidence) == {} and of(evidence)["gpu.nic_path"]["status"] == "skipped"


def test_a_node_that_may_use_two_gpus_is_judged_by_these(root):
    evidence = node(root, topo=TOPO.replace("NV18\tNODE", "NV12\tNODE"))  # in the last column of GPUs only
    evidence["gpu"]["smi"]["gpus"] = evidence["gpu"]["smi"]["gpus"][:2]
    evidence["gpu"]["presence"]["pci"] = ADDRESSES[:2]
    pci_device(root, ADDRESSES[5], 0)
    found = of(evidence)
    assert found["gpu.topology"]["seen"] == "NV18 between all 1 pairs" and found["numa.gpus"]["seen"] == "2 where they belong"


@pytest.mark.parametrize("name", ["generic", "lab"])
def test_a_sku_that_says_nothing_is_shown_and_not_judged(root, name):
    from ansible.module_utils.plumbline.health import expect as health_expect

    found = of(node(root), health_expect.expectations(SKUS[name]))
    assert {check: (item["status"], item["seen"]) for check, item in found.items()} == {"numa.nodes": ("skipped", "2 NUMA nodes")}


def test_the_skus_numbers_are_of_devices_that_it_has():
    for expect in (H100, H200):
        domains = expect["gpu_pci_domains"]
        assert sorted(expect["gpu_numa_nodes"]) == sorted(expect["gpu_nic_domains"]) == domains
        assert sorted(expect["gpu_nic_domains"].values()) == sorted(expect["ib_numa_nodes"])
        # A GPU and the adapter at its switch are at one NUMA node.
        assert all(expect["ib_numa_nodes"][expect["gpu_nic_domains"][one]] == expect["gpu_numa_nodes"][one] for one in domains)
        assert len(expect["ib_numa_nodes"]) == len(expect["ib_ports"])


def test_the_real_matrix_of_two_gpus_and_of_one():
    assert topology.parse(REAL) == {"GPU0": {"GPU0": "X", "GPU1": "NV18"}, "GPU1": {"GPU0": "NV18", "GPU1": "X"}}
    assert topology.parse((CAPTURES / "h200/nvidia-smi.topo_m.txt").read_text()) == {"GPU0": {"GPU0": "X"}}
    two = {"gpu_fabric": True, "gpu_nvlink_count": 18}
    gpus = [{"index": 0, "bus_id": "0000:07:00.0"}, {"index": 1, "bus_id": "0000:08:00.0"}]
    for text, status in ((REAL, "healthy"), (REAL.replace("NV18", "NV16"), "failed"), (REAL.replace("NV18", "SYS"), "failed")):
        seen = {"numa_nodes": [0], "gpus": {}, "adapters": {}, "matrix": topology.parse(text), "said": None}
        evidence = {"topology": seen, "gpu": {"presence": {"pci": []}, "smi": {"gpus": gpus}}}
        assert of(evidence, two)["gpu.topology"]["status"] == status


def test_the_form_with_blanks_and_devices_as_columns():
    text = (
        "        GPU0    GPU1    mlx5_0  mlx5_1  CPU Affinity    NUMA Affinity\n"
        "GPU0     X      NV12    PIX     SYS     0-31            0\n"
        "GPU1    NV12     X      SYS     PHB     32-63           1\n"
        "mlx5_0  PIX     SYS      X      SYS     \n"
        "mlx5_1  SYS     PHB     SYS      X      \n"
        "\nLegend:\n\n  X    = Self\n"
    )
    assert topology.parse(text)["GPU1"] == {"GPU0": "NV12", "GPU1": "X", "mlx5_0": "SYS", "mlx5_1": "PHB"}


@pytest.mark.parametrize(("text", "found"), [("0-1", [0, 1]), ("0", [0]), ("0,2-3", [0, 2, 3]), ("", None), (None, None), ("x", None)])
def test_the_kernels_lists(text, found):
    assert topology.numbers(text) == found


def test_the_tool_is_asked_for_all_gpus_and_its_silence_is_told(tmp_path, monkeypatch):
    tool = tmp_path / "nvidia-smi"
    tool.write_text('#!/bin/sh\n[ "$*" = "topo -m" ] && cat %s || exit 2\n' % (CAPTURES / "h200x2/nvidia-smi.topo_m.txt"))
    tool.chmod(0o755)
    monkeypatch.setattr("ansible.module_utils.plumbline.machine.nvidia.ONLY", {"GPU-1": 1})
    assert set(topology.collect(str(tool), [], root=str(tmp_path))["matrix"]) == {"GPU0", "GPU1"}
    tool.write_text("#!/bin/sh\necho 'Unable to determine the device handle for GPU 0000:07:00.0: Unknown Error'\nexit 255\n")
    seen = topology.collect(str(tool), [], root=str(tmp_path))
    assert seen["matrix"] is None and "ended with 255" in seen["said"] and "Unable to determine" in seen["said"]
    assert topology.collect(None, [], root=str(tmp_path)) == {
        "numa_nodes": None, "gpus": {}, "adapters": {}, "matrix": None, "said": None,
    }  # fmt: skip
