"""What is said of a node, and of which machine, comes from the kept run and from the node; what does not agree is not reported."""

from __future__ import annotations

import azure_node
import pytest
from ansible.module_utils.plumbline.controller.azure import categories, report
from ansible.module_utils.plumbline.controller.report import data
from health_nodes import ADDRESSES, smi_xml
from nhc_mock import ERROR, after

P = categories.PREFIX
ID = "/subscriptions/00000000-0000-0000-0000-00000000000a/resourceGroups/rg/providers/Microsoft.Compute"
ID += "/virtualMachineScaleSets/t/virtualMachines/0"
OPTIONS = {"run_id": "r", "run_started_at": "2026-11-27T18:00:00Z", "description": "", "log_url": ""}
NAMES = {"physical_host": "PHYSHOST000001", "resource_id": ID, "vm_id": azure_node.VM_ID}
GPUS = [
    {"address": address, "location": "0000" + address, "product": "NVIDIA H100 80GB HBM3", "serial": serial}
    for address, serial in zip(ADDRESSES, azure_node.SERIALS, strict=True)
]


@pytest.fixture
def said(tmp_path):
    """Return a function that breaks a node and returns what the run says of it."""
    root = azure_node.machine(tmp_path / "node")

    def run(incidents=(), **changes):
        facts = {"n1": azure_node.broken(root, **changes)}
        return report.faults(data.load(str(azure_node.run_folder(tmp_path / "run", facts, incidents))), "n1")

    return run


def test_a_good_node_has_nothing_to_report(said):
    about = said()
    assert about["status"] == "healthy" and about["found"] == [] and about["without"] == []
    assert report.chosen(about, "", "")[1].startswith("the run says healthy of it")
    # Not even by the operator's own category.
    assert report.chosen(about, P + "ManualInvestigation", "look")[1].startswith("the run says healthy of it")


def test_a_lost_gpu_is_reported_with_its_place_and_others_beside_it(said):
    about = said(xml=smi_xml(ADDRESSES[:-1]), pci=ADDRESSES[:-1], kernel=["EXT4-fs error (device sda1): bad block"])
    fault, problem = report.chosen(about, "", "")
    assert problem is None and fault["category"] == P + "HpcMissingGpu" and fault["class"] == "replace"
    body = report.request(about, fault, NAMES, {"gpus": GPUS[:-1]}, OPTIONS)["properties"]
    assert body["startDateTime"] == azure_node.STARTED_AT
    more = body["additionalProperties"]
    # The driver does not show it, so its serial number is not known; its place is.
    assert more["Location"] == ADDRESSES[-1] and "SerialNumber" not in more and more["PhysicalHostName"] == "PHYSHOST000001"
    assert any(item["check"] == "kernel_log.filesystem" for item in about["without"])


def test_the_gpu_that_the_finding_names_and_no_other(said):
    xml = smi_xml()
    start = xml.index('<gpu id="0000%s' % ADDRESSES[2])
    xml = xml[:start] + xml[start:].replace("<remapped_row_failure>No<", "<remapped_row_failure>Yes<", 1)
    about = said(xml=xml)
    fault = report.chosen(about, "", "")[0]
    assert fault["category"] == P + "HpcRowRemapFailure"
    more = report.request(about, fault, NAMES, {"gpus": GPUS}, OPTIONS)["properties"]["additionalProperties"]
    assert (more["SerialNumber"], more["Location"]) == (azure_node.SERIALS[2], "0000" + ADDRESSES[2])
    assert more["UCE"] == "0"


def test_a_fault_that_is_not_of_a_gpu_carries_no_serial_number(said, tmp_path):
    (tmp_path / "node/sys/class/infiniband/mlx5_ib3/ports/1/state").write_text("1: DOWN\n")
    about = said()
    fault = report.chosen(about, "", "")[0]
    assert fault["category"] == P + "IBPortDown"
    body = report.request(about, fault, NAMES, {"gpus": GPUS}, dict(OPTIONS, log_url="https://x.example/log.zip"))
    assert set(body["properties"]["additionalProperties"]) == {"PhysicalHostName", "VmUniqueId", "LogUrl"}


def test_a_fault_without_a_category_says_so_and_may_be_given_one(said):
    about = said(kernel=["EXT4-fs error (device sda1): bad block"])
    fault, problem = report.chosen(about, "", "")
    assert fault is None and "kernel_log.filesystem: it may be the kernel's own fault" in problem and "azure_report_category" in problem
    assert report.chosen(about, "Resource.Hpc.Unhealthy.Nonsense", "x")[1].startswith("azure_report_category is")
    assert "azure_report_description is not" in report.chosen(about, P + "ManualInvestigation", "")[1]
    fault, problem = report.chosen(about, P + "ManualInvestigation", "its file system breaks each day")
    body = report.request(about, fault, NAMES, {}, dict(OPTIONS, description="its file system breaks each day"))["properties"]
    assert problem is None and body["impactDescription"] == "its file system breaks each day"
    assert body["startDateTime"] == OPTIONS["run_started_at"]


def test_a_node_that_was_lost_has_no_category(said, tmp_path):
    folder = azure_node.run_folder(tmp_path / "lost", {}, [{"host": "n1", "task": "Judge", "state": "unreachable", "message": "gone"}])
    about = report.faults(data.load(str(folder)), "n1")
    assert about["status"] == "failed" and "does not answer tells nothing" in report.chosen(about, "", "")[1]
    assert report.faults(data.load(str(folder)), "n9")["status"] is None
    assert report.chosen(report.faults(data.load(str(folder)), "n9"), "", "")[1] == "the run has nothing of it"


def test_a_fact_that_breaks_its_schema_is_no_evidence(tmp_path):
    root = azure_node.machine(tmp_path / "node")
    fact = azure_node.broken(root, kernel=["NVRM: Xid (PCI:0001:00:00): 79, pid=1, gone"])
    fact["measured"]["cpu_count"] = "many"
    about = report.faults(data.load(str(azure_node.run_folder(tmp_path / "run", {"n1": fact}))), "n1")
    assert about["physical_host"] is None


def test_the_log_of_a_failed_nhc_names_the_category(said):
    seen = "check_ecc: GPU id 3: Row remap error. FaultCode: NHC2007"
    log = after("check_gpu_ecc 2000", ERROR + seen)
    about = said(log=log)
    assert P + "HpcRowRemapFailure" in {item["category"] for item in about["found"]}


WHOLE = {"physical_host": "PHYSHOST000001", "resource_id": ID, "vm_id": azure_node.VM_ID}
INVENTORY = {"id": ID.upper().replace("/SUBSCRIPTIONS", "/subscriptions"), "vmid": azure_node.VM_ID}


def test_the_node_the_inventory_and_the_run_agree():
    assert report.named(WHOLE, INVENTORY, "PHYSHOST000001") == (WHOLE, [])
    # Azure's ids differ in capitals here and there.
    assert report.named(None, INVENTORY, "PHYSHOST000001")[1] == []
    assert report.named(WHOLE, {"id": None, "vmid": None}, None) == (WHOLE, [])


@pytest.mark.parametrize(
    ("identity", "inventory", "host", "words"),
    [
        (WHOLE, INVENTORY, "PHYSHOST000009", "physical host is PHYSHOST000001 by the node now and PHYSHOST000009 by the run"),
        (WHOLE, dict(INVENTORY, id=ID + "7"), None, "resource id is"),
        (WHOLE, dict(INVENTORY, vmid=azure_node.VM_ID.replace("0", "1")), None, "vm id is"),
        (None, {"id": None, "vmid": None}, "PHYSHOST000001", "its resource id is not known"),
        (None, {"id": "/a/b", "vmid": None}, "PHYSHOST000001", "its resource id is /a/b, expected a machine's of Azure"),
        (None, {"id": ID, "vmid": None}, None, "neither its physical host nor its VM id is known"),
        (None, {"id": ID, "vmid": "x"}, None, "its vm id is 'x'"),
        (dict(WHOLE, physical_host="no host name"), INVENTORY, None, "its physical host is 'no host name'"),
    ],
)
def test_what_does_not_agree_or_is_not_known_is_said(identity, inventory, host, words):
    assert words in "; ".join(report.named(identity, inventory, host)[1])


def test_the_same_fault_of_the_same_run_has_the_same_name():
    body = {"properties": {"impactedResourceId": ID, "impactCategory": P + "NvLink"}}
    other = {"properties": {"impactedResourceId": ID, "impactCategory": P + "MissingIB"}}
    capitals = {"properties": {"impactedResourceId": ID.upper(), "impactCategory": P + "NvLink"}}
    assert report.impact_name("a", body) == report.impact_name("a", capitals)
    assert len({report.impact_name("a", body), report.impact_name("b", body), report.impact_name("a", other)}) == 3


def test_serial_numbers_are_hidden():
    body = {"properties": {"additionalProperties": {"SerialNumber": "1650123456700", "Location": "0"}}}
    assert report.shown(body)["properties"]["additionalProperties"] == {"SerialNumber": "(in the request only)", "Location": "0"}
    assert body["properties"]["additionalProperties"]["SerialNumber"] == "1650123456700"
    assert "1650123456700" not in report.without_serials("GPU 1650123456700", {"gpus": [{"serial": "1650123456700"}, {"serial": None}]})
