"""Which devices are measured: GPUs, instances of MIG, processors beside them."""

from __future__ import annotations

import pytest
from ansible.module_utils.plumbline.gpus import devices
from ansible.module_utils.plumbline.machine import nvidia

# As the MIG User Guide shows it ("Creating GPU Instances").
LISTING = """GPU 0: A100-SXM4-40GB (UUID: GPU-e86cb44c-6756-fd30-cd4a-1e6da3caf9b0)
  MIG 3g.20gb Device 0: (UUID: MIG-c7384736-a75d-5afc-978f-d2f1294409fd)
  MIG 3g.20gb Device 1: (UUID: MIG-a28ad590-3fda-56dd-84fc-0a0b96edc58d)
GPU 1: A100-SXM4-40GB (UUID: GPU-11111111-6756-fd30-cd4a-1e6da3caf9b0)
GPU 2: A100-SXM4-40GB (UUID: GPU-22222222-6756-fd30-cd4a-1e6da3caf9b0)
"""
ROWS = """index, uuid, name, pci.bus_id, mig.mode.current
0, GPU-e86cb44c-6756-fd30-cd4a-1e6da3caf9b0, A100-SXM4-40GB, 00000000:36:00.0, Enabled
1, GPU-11111111-6756-fd30-cd4a-1e6da3caf9b0, A100-SXM4-40GB, 00000000:3B:00.0, Disabled
2, GPU-22222222-6756-fd30-cd4a-1e6da3caf9b0, A100-SXM4-40GB, 00000000:41:00.0, Enabled
"""


@pytest.fixture
def answers(monkeypatch):
    """Answer ``nvidia-smi`` from texts."""

    def put(rows=ROWS, listing=LISTING):
        def run(_tool, arguments, *_given, **_more):
            return (0, listing, "") if arguments == ["-L"] else (0, rows, "")

        monkeypatch.setattr(nvidia, "run", run)

    return put


def test_instances_of_mig_are_devices_of_their_own_and_a_gpu_without_one_is_told(answers):
    answers()
    found, empty = devices.of_node(None)
    assert [(item["index"], item["mig"], item["visible"][:9]) for item in found] == [
        (0, "3g.20gb", "MIG-c7384"), (0, "3g.20gb", "MIG-a28ad"), (1, None, "GPU-11111"),
    ]  # fmt: skip
    assert empty == [2] and found[0]["bus_id"] == "0000:36:00.0"
    assert devices.label(found[0]) == "GPU 0 3g.20gb MIG-c7384736-a75d-5afc-978f-d2f1294409fd" and devices.label(found[2]) == "GPU 1"


def test_a_driver_that_knows_no_mig_has_none(monkeypatch):
    asked = []

    def run(_tool, arguments, *_given, **_more):
        asked.append(arguments[0])
        if "mig" in arguments[0]:
            return 2, 'Field "mig.mode.current" is not a valid field to query.\n', ""
        return 0, "\n".join(line.rpartition(",")[0] for line in ROWS.splitlines()) + "\n", ""

    monkeypatch.setattr(nvidia, "run", run)
    found, empty = devices.of_node(None)
    assert len(found) == 3 and empty == [] and len(asked) == 2


def test_a_driver_that_fails_is_an_error(monkeypatch):
    monkeypatch.setattr(nvidia, "run", lambda *_given, **_more: (9, "", "NVIDIA-SMI has failed because it couldn't communicate"))
    with pytest.raises(nvidia.NvidiaError, match="couldn't communicate"):
        devices.of_node(None)


def test_processors_beside_a_gpu_are_those_that_the_kernel_lists(tmp_path):
    folder = tmp_path / "sys/bus/pci/devices/0001:00:00.0"
    folder.mkdir(parents=True)
    (folder / "local_cpulist").write_text("0-2,48-49\n")
    assert devices.cpus_beside("0001:00:00.0", str(tmp_path)) == [0, 1, 2, 48, 49]
    assert devices.cpus_beside("0002:00:00.0", str(tmp_path)) == [] and devices.cpu_list("") == []
    assert devices.processors()["threads"] >= 1
