"""The module azure_identity: what it says of a machine of Azure's, and what it says where it cannot tell."""

from __future__ import annotations

import azure_identity
import azure_node
from health_nodes import ADDRESSES
from module_run import run_module
from project import ROOT

ID = "/subscriptions/a/resourceGroups/rg/providers/Microsoft.Compute/virtualMachines/n1"


def test_a_machine_of_azures(tmp_path, capsys):
    root = azure_node.machine(tmp_path / "node")
    with azure_node.MockMetadata(ID) as metadata:
        given = {"root": str(root), "nvidia_smi": azure_node.nvidia_smi(tmp_path), "metadata": metadata.address}
        plain = run_module(azure_identity, capsys, **given)
        whole = run_module(azure_identity, capsys, serials=True, **given)
    assert (whole["physical_host"], whole["resource_id"], whole["vm_id"]) == (azure_node.HOST, ID, azure_node.VM_ID)
    assert whole["problems"] == [] and whole["changed"] is False
    assert [gpu["serial"] for gpu in whole["gpus"]] == azure_node.SERIALS
    assert [gpu["address"] for gpu in whole["gpus"]] == ADDRESSES
    assert {gpu["location"] for gpu in whole["gpus"]} == {"0000" + address for address in ADDRESSES}
    # Only who asks for serial numbers gets them.
    assert {gpu["serial"] for gpu in plain["gpus"]} == {None}


def test_the_form_of_a_real_nvidia_smi():
    lines = (ROOT / "tests/captures/h200/nvidia-smi.query.csv").read_text().splitlines()
    columns = [[cell.strip() for cell in line.split(",")] for line in lines]
    chosen = [columns[0].index(name) for name in ("pci.bus_id", "name", "serial")]
    text = "\n".join(", ".join(row[number] for number in chosen) for row in columns)
    assert azure_identity.rows(text) == [
        {"location": "00000000:00:06.0", "product": "NVIDIA H200", "serial": "1650000000000", "address": "0000:00:06.0"}
    ]


def test_a_lost_gpu_does_not_hide_the_others():
    text = "pci.bus_id, name, serial\nUnable to determine the device handle for GPU2: 0002:00:00.0: Unknown Error\n"
    text += "00000001:00:00.0, NVIDIA H100 80GB HBM3, 1650123456700\n"
    assert [gpu["serial"] for gpu in azure_identity.rows(text)] == ["1650123456700"]
    assert azure_identity.rows("No devices were found\n") == []


def test_elsewhere_it_says_what_is_not_known(tmp_path, capsys):
    told = run_module(azure_identity, capsys, root=str(tmp_path), nvidia_smi="/bin/false", serials=True)
    assert told["physical_host"] is None and told["resource_id"] is None and told["gpus"] == []
    said = "; ".join(told["problems"])
    assert "no virtual machine of Azure" in said and "no PhysicalHostName" in said and "serial numbers are not known" in said


def test_a_metadata_service_that_is_not_there_or_answers_nonsense_is_said(tmp_path, capsys):
    root = azure_node.machine(tmp_path / "node")
    (tmp_path / "nonsense.json").write_text("<html>")
    (tmp_path / "list.json").write_text("[]")
    for address in ("http://127.0.0.1:1/", (tmp_path / "nonsense.json").as_uri(), (tmp_path / "list.json").as_uri()):
        told = run_module(azure_identity, capsys, root=str(root), metadata=address)
        assert told["resource_id"] is None and told["vm_id"] is None
        assert told["problems"][0].startswith("the metadata service told nothing"), address
