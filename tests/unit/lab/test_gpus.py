"""Shares of the machine's GPUs: whose device files are whose."""

import subprocess

import pytest
from ansible.module_utils.plumbline.lab import gpus, host, plan
from ansible.module_utils.plumbline.machine import nvidia

LIST = """\
GPU 0: NVIDIA H200 (UUID: GPU-aaaa)
  MIG 1g.18gb     Device  0: (UUID: MIG-cccc)
GPU 1: NVIDIA H200 (UUID: GPU-bbbb)
"""
XML = """\
<?xml version="1.0" ?>
<nvidia_smi_log>
	<attached_gpus>2</attached_gpus>
	<gpu id="00000000:00:06.0">
		<uuid>GPU-aaaa</uuid>
		<minor_number>%s</minor_number>
	</gpu>
	<gpu id="00000000:00:07.0">
		<uuid>GPU-bbbb</uuid>
		<minor_number>1</minor_number>
	</gpu>
</nvidia_smi_log>
"""
INFORMATION = "Model: \t\t NVIDIA H200\nGPU UUID: \t GPU-aaaa\nBus Location: \t 0000:00:06.0\nDevice Minor: \t 0\nGPU Excluded:\t No\n"


def machine(count):
    return [{"index": index, "minor": index} for index in range(count)]


@pytest.mark.parametrize(
    ("count", "nodes", "expected"), [(4, 2, [[0, 1], [2, 3]]), (8, 3, [[0, 1, 2], [3, 4, 5], [6, 7]]), (2, 2, [[0], [1]]), (1, 1, [[0]])]
)
def test_shares_are_as_even_as_it_goes_and_neighbours(count, nodes, expected):
    assert [[gpu["index"] for gpu in share] for share in gpus.shares(machine(count), nodes)] == expected


def test_a_node_without_a_gpu_is_refused_with_both_ways_out():
    with pytest.raises(plan.LabError, match=r"lab_nodes is 2, but there are only 1 GPUs .* -e lab_nodes=1, or -e lab_gpus=none"):
        gpus.shares(machine(1), 2)


@pytest.mark.parametrize(("asked", "count"), [("auto", 4), ("none", 0), ("0", 0), ("2", 2), (3, 3), ("AUTO", 4)])
def test_how_many_are_used(asked, count):
    assert gpus.wanted(asked, 4) == count


@pytest.mark.parametrize(
    ("asked", "words"), [("5", "is 5, but `nvidia-smi -L` lists 4"), ("two", "expected auto, none"), ("-1", "expected auto")]
)
def test_what_cannot_be_used(asked, words):
    with pytest.raises(plan.LabError, match=words):
        gpus.wanted(asked, 4)


def test_gpus_of_the_list_without_their_parts():
    assert [gpu["uuid"] for gpu in gpus.parse_list(LIST)] == ["GPU-aaaa", "GPU-bbbb"]
    assert gpus.parse_list("NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver.") == []


def test_the_drivers_own_number_comes_first():
    found = gpus.joined(gpus.parse_list(LIST), gpus.parse_described(XML % "0"), {"0000:00:06.0": 3})
    assert [(gpu["minor"], gpu["bus_id"]) for gpu in found] == [(3, "0000:00:06.0"), (1, "0000:00:07.0")]
    assert nvidia.parse_information(INFORMATION) == 0
    assert nvidia.parse_information("Device Minor: \t ?\n") is None


def test_a_gpu_without_a_device_file_is_named():
    with pytest.raises(plan.LabError, match=r"GPU 0 \(GPU-aaaa, PCI address 0000:00:06.0\) has no minor number"):
        gpus.joined(gpus.parse_list(LIST), gpus.parse_described(XML % "N/A"), {})


def smi(monkeypatch, status, listed, described=XML % "0"):
    def call(*argv, check):
        return subprocess.CompletedProcess(argv, status, listed if argv[1:] == ("-L",) else described, "")

    monkeypatch.setattr(host, "call", call)
    monkeypatch.setattr(nvidia, "INFORMATION", "/nonexistent/*")


def test_gpus_of_a_machine(monkeypatch):
    smi(monkeypatch, 0, LIST)
    assert [gpu["minor"] for gpu in gpus.of_machine()] == [0, 1]


@pytest.mark.parametrize(("status", "text"), [(9, "NVIDIA-SMI has failed"), (0, "No devices were found"), (9, LIST)])
def test_a_machine_without_working_gpus_has_none(monkeypatch, status, text):
    smi(monkeypatch, status, text)
    assert gpus.of_machine() == []


def test_a_machine_without_nvidia_smi_has_none(monkeypatch):
    def call(*argv, check):
        raise host.HostError("the command `nvidia-smi` is not installed")

    monkeypatch.setattr(host, "call", call)
    assert gpus.of_machine() == []


def test_missing_device_files_are_named_with_what_cuda_said(monkeypatch):
    monkeypatch.setattr(gpus, "NEEDED", ("/nonexistent/nvidiactl",))
    monkeypatch.setattr(host, "call", lambda *argv, check: subprocess.CompletedProcess(argv, 1, "", "OSError: libcuda.so.1"))
    with pytest.raises(host.HostError, match=r"no /nonexistent/nvidiactl, /dev/nvidia77 \(cuInit ended with 1: OSError: libcuda.so.1\)"):
        gpus.device_files([77])


def test_a_node_gets_its_own_device_files_and_those_that_all_share(monkeypatch, tmp_path):
    for name in ("nvidiactl", "nvidia-uvm", "nvidia-nvswitch0"):
        (tmp_path / name).touch()
    monkeypatch.setattr(gpus, "NEEDED", (str(tmp_path / "nvidiactl"), str(tmp_path / "nvidia-uvm")))
    monkeypatch.setattr(gpus, "SHARED", (*gpus.NEEDED, str(tmp_path / "nvidia-nvswitch*"), str(tmp_path / "infiniband")))
    monkeypatch.setattr(gpus.os.path, "exists", lambda path: True)
    found = gpus.device_files([2, 3])
    assert [path.split("/")[-1] for path in found] == ["nvidia2", "nvidia3", "nvidia-nvswitch0", "nvidia-uvm", "nvidiactl"]
