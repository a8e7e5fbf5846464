"""playbooks/report_to_azure.yml from a kept run to the last insight: the real playbook, connection and SDK, a stand-in of Azure."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys

import azure_node
import azure_world
import pytest
from ansible.module_utils.plumbline.controller.azure import arm
from health_nodes import ADDRESSES
from project import ROOT, load

mock_arm = load("tests/mocks/arm/mock_arm.py")

SDK = bool(importlib.util.find_spec("azure") and importlib.util.find_spec("azure.mgmt") and importlib.util.find_spec("azure.mgmt.compute"))
pytestmark = pytest.mark.skipif(not SDK, reason="the Azure SDK is not installed (860 MB, a minute): `make azure`, then this again")
ID = "%s/train/virtualMachines/0" % azure_world.compute("virtualMachineScaleSets")
SPARE = "%s/train/virtualMachines/2" % azure_world.compute("virtualMachineScaleSets")
LOST = ["NVRM: Xid (PCI:%s): 79, pid='<unknown>', name=<unknown>, GPU has fallen off the bus." % ADDRESSES[3][:-2]]


def insight(code, terminal, title="title", at="2026-11-27T20:00:00Z"):
    content = {"title": title, "description": "what Azure says"}
    details = {"statusCode": code, "terminalInsight": terminal}
    return {"name": code, "properties": {"additionalDetails": details, "content": content, "eventTime": at, "status": "Resolved"}}


ACKNOWLEDGED, REMOVED = insight("AcknowledgedUnhealthy", False), insight("NodeRemovedFromService", True, at="2026-11-27T20:05:00Z")


@pytest.fixture
def azure(tmp_path):
    with mock_arm.MockAzure(tmp_path, azure_world.usual().resources) as stand_in:
        stand_in.insights = [[], [ACKNOWLEDGED], [ACKNOWLEDGED, REMOVED]]
        yield stand_in
        assert stand_in.strangers == []


@pytest.fixture
def site(tmp_path):
    """Return a function that runs the playbook for train_0, in which a run has found a GPU off the bus, and train_2, which is well."""
    root = azure_node.machine(tmp_path / "node")
    facts = {"train_0": azure_node.broken(root, kernel=LOST), "train_2": azure_node.broken(root)}
    run = azure_node.run_folder(tmp_path / "run-1", facts)
    (tmp_path / "home").mkdir()
    hosts = {
        "train_0": {"id": ID, "vmid": azure_node.VM_ID, "ansible_host": "192.0.2.1"},
        "train_2": {"id": SPARE, "vmid": azure_node.VM_ID, "ansible_host": "192.0.2.2"},
    }
    variables = {"ansible_ssh_executable": str(ROOT / "tests/mocks/arm/mock-ssh"), "ansible_become": False}
    variables["ansible_python_interpreter"] = sys.executable
    inventory = tmp_path / "hosts.yml"
    inventory.write_text(json.dumps({"nodes": {"hosts": hosts, "vars": variables}}))

    with azure_node.MockMetadata(ID) as metadata:

        def play(azure, *words, limit="train_0", addresses=tuple(ADDRESSES), inventory=inventory, **more):
            given = {"nvidia_smi": azure_node.nvidia_smi(tmp_path, addresses), "root": str(root), "metadata": metadata.address}
            extra = {"__azure_identity": given, "azure_report_run_dir": str(run), "azure_report_poll_s": 0.05, **more}
            known = {name: value for name, value in os.environ.items() if not name.startswith(("AZURE_", "ANSIBLE_AZURE_"))}
            known.update(azure.environment(), HOME=str(tmp_path / "home"), PLUMBLINE_RESULTS_DIR=str(tmp_path / "results"))
            known.update(ANSIBLE_LOG_PATH=str(tmp_path / "ansible.log"))
            command = ["ansible-playbook", "-i", str(inventory), "playbooks/report_to_azure.yml", "-e", json.dumps(extra), *words]
            command += ["--limit", limit] if limit else []
            return subprocess.run(command, cwd=ROOT, env=known, capture_output=True, text=True, check=False)

        play.folder = tmp_path
        yield play


def flat(done):
    return " ".join((done.stdout + done.stderr).split())


def test_without_the_second_word_the_request_is_shown_and_nothing_is_sent(azure, site):
    done = site(azure)
    assert done.returncode == 0, done.stdout + done.stderr
    assert azure.sent == [] and not any("impact" in path for path in azure.asked)
    for words in ("Resource.Hpc.Unhealthy.XID79FallenOffBus", '"PhysicalHostName": "PHYSHOST000001"', ID, "(in the request only)"):
        assert words in done.stdout, words
    assert "train_0: nothing was sent (to send it: -e azure_report_confirm=train_0)" in flat(done)


def test_with_it_the_request_is_sent_once_and_its_insights_are_followed_to_the_end(azure, site):
    done = site(azure, azure_report_confirm="train_0")
    assert done.returncode == 0, done.stdout + done.stderr
    ((path, version, body),) = azure.sent
    assert path.startswith(azure_world.SUBSCRIPTION + "/providers/Microsoft.Impact/workloadImpacts/") and version == "2023-02-01-preview"
    properties = body["properties"]
    assert properties["impactCategory"] == "Resource.Hpc.Unhealthy.XID79FallenOffBus"
    assert properties["startDateTime"] == azure_node.STARTED_AT and properties["impactedResourceId"] == ID
    assert "XID 79" in properties["impactDescription"]
    assert properties["additionalProperties"] == {
        "PhysicalHostName": "PHYSHOST000001",
        "VmUniqueId": azure_node.VM_ID,
        "Manufacturer": "NVIDIA",
        "SerialNumber": azure_node.SERIALS[3],
        "ModelNumber": "NVIDIA H100 80GB HBM3",
        "Location": "0000" + ADDRESSES[3],
    }
    assert "AcknowledgedUnhealthy title what Azure says" in done.stdout and "Azure takes the node back" in flat(done)
    assert azure.asked[(path + "/insights").lower()] == 3
    # The same again: Azure has it, so it is followed and not sent.
    done = site(azure, azure_report_confirm="train_0")
    assert done.returncode == 0 and len(azure.sent) == 1 and "was sent before" in done.stdout


@pytest.mark.parametrize("words", [("-vvv",), ("-vvv", "--check", "--diff")], ids=["sent", "check"])
def test_serial_numbers_are_in_the_request_alone(azure, site, words):
    azure.insights = [[insight("NodeRemovedFromService", True, "GPU %s is bad" % azure_node.SERIALS[3])]]
    done = site(azure, *words, azure_report_confirm="train_0")
    assert done.returncode == 0, done.stdout + done.stderr
    # The connection said what it ran, so that it would have said what came back.
    assert "SSH: EXEC" in done.stdout and "azure_identity" in done.stdout
    assert "censored due to no log" in done.stdout and len(azure.sent) == ("--check" not in words)
    kept = [path for path in site.folder.rglob("*") if path.is_file() and path.name != "mock-nvidia-smi"]
    assert site.folder / "ansible.log" in kept
    for text in (done.stdout, done.stderr, *(path.read_text(errors="replace") for path in kept)):
        assert not [serial for serial in azure_node.SERIALS if serial in text]


@pytest.mark.parametrize(
    ("limit", "confirm", "words"),
    [
        ("", "train_0", "name them: --limit"),
        ("train_0", "train_2", "names train_2 and --limit chose train_0, expected the same nodes: nothing was sent"),
        ("train_0,train_2", "train_0", "names train_0 and --limit chose train_0, train_2"),
        ("train_2", "train_2", "the run says healthy of it, expected failed"),
    ],
)
def test_what_was_not_meant_is_not_sent(azure, site, limit, confirm, words):
    done = site(azure, limit=limit, azure_report_confirm=confirm)
    assert done.returncode != 0 and words in flat(done), done.stdout
    assert azure.sent == []


def test_a_node_that_does_not_answer_is_named_by_the_run_and_the_inventory(azure, site):
    # What ssh ends with where it does not reach a machine.
    dead = site.folder / "mock-ssh-255"
    dead.write_text("#!/bin/sh\nexit 255\n")
    dead.chmod(0o755)
    more = {"ansible_ssh_executable": str(dead), "ansible_python_interpreter": "auto_silent"}
    done = site(azure, azure_report_confirm="train_0", **more)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "train_0: the node does not answer" in flat(done)
    more = azure.sent[0][2]["properties"]["additionalProperties"]
    assert more == {
        "PhysicalHostName": "PHYSHOST000001",
        "VmUniqueId": azure_node.VM_ID,
        "Manufacturer": "NVIDIA",
        "Location": ADDRESSES[3],
    }


def test_from_the_real_inventory_by_the_commands_of_the_page(azure, site):
    folder = site.folder / "inventory"
    shutil.copytree(ROOT / "inventory/azure", folder)
    path = folder / "azure_scale_set.yml"
    path.write_text(path.read_text().replace("my-resource-group", azure_world.GROUP).replace("[my-scale-set]", "[train]"))
    dead = site.folder / "mock-ssh-255"
    dead.write_text("#!/bin/sh\nexit 255\n")
    dead.chmod(0o755)
    shown = site(azure, inventory=folder, ansible_ssh_executable=str(dead))
    assert shown.returncode == 0 and azure.sent == [], shown.stdout + shown.stderr
    done = site(azure, inventory=folder, ansible_ssh_executable=str(dead), azure_report_confirm="train_0")
    assert done.returncode == 0 and len(azure.sent) == 1, done.stdout + done.stderr
    properties = azure.sent[0][2]["properties"]
    assert properties["impactedResourceId"] == ID and properties["additionalProperties"]["VmUniqueId"] == azure_node.VM_ID


def test_a_machine_that_is_no_longer_the_one_of_the_run_is_not_reported(azure, site):
    pool = site.folder / "node/var/lib/hyperv/.kvp_pool_3"
    pool.write_bytes(pool.read_bytes().replace(b"PHYSHOST000001", b"PHYSHOST000002"))
    done = site(azure, azure_report_confirm="train_0")
    said = "its physical host is PHYSHOST000002 by the node now and PHYSHOST000001 by the run: the fault was seen on another machine"
    assert done.returncode != 0 and said in flat(done) and azure.sent == []


def refusal(status, code, message="no"):
    return (status, {"Retry-After": "0.01"} if status == 429 else {}, {"error": {"code": code, "message": message}})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        (refusal(403, "AuthorizationFailed"), "role Impact Reporter on the subscription"),
        (refusal(409, "MissingSubscriptionRegistration"), "az provider register --namespace Microsoft.Impact"),
        (refusal(404, "InvalidResourceType"), "not onboarded to Guest Health Reporting"),
        (refusal(409, "Conflict"), "the same command again follows it"),
        (refusal(400, "InvalidRequest", "serial %s is unknown" % azure_node.SERIALS[3]), "compare it with what was shown"),
    ],
)
def test_a_refusal_says_what_to_do(azure, site, given, words):
    azure.put_refusals = [given]
    done = site(azure, azure_report_confirm="train_0")
    assert done.returncode != 0 and words in flat(done), done.stdout
    assert azure.sent == [] and azure_node.SERIALS[3] not in done.stdout + done.stderr


def test_a_throttled_report_is_repeated_when_azure_says(azure, site):
    azure.put_refusals = [refusal(429, "TooManyRequests")] * 2
    done = site(azure, azure_report_confirm="train_0")
    assert done.returncode == 0 and len(azure.sent) == 1


@pytest.mark.parametrize(
    ("insights", "words"),
    [
        ([[]], "no terminal insight within 0.3 s (azure_report_timeout_s), none came"),
        ([[ACKNOWLEDGED]], "the last was AcknowledgedUnhealthy"),
        ([[insight("TooManyRequests", True)]], "Azure took too many reports and did not take this one"),
        ([[insight("SomethingNew", True)]], "an end that is not known here: SomethingNew"),
    ],
)
def test_an_insight_that_is_no_end_fails_the_task(azure, site, insights, words):
    azure.insights = insights
    done = site(azure, azure_report_confirm="train_0", azure_report_timeout_s=0.3)
    assert done.returncode != 0 and words in flat(done), done.stdout
    assert len(azure.sent) == 1


def test_a_list_is_read_to_its_last_page_and_an_error_has_azures_code(azure, monkeypatch):
    for name, value in azure.environment().items():
        monkeypatch.setenv(name, value)
    azure.page = 2
    client = arm.Arm()
    machines = client.all_of(azure_world.compute("virtualMachines"), "2024-07-01")
    assert len(machines) > 2 and len(machines) == len(azure.resources[azure_world.compute("virtualMachines").lower()])
    with pytest.raises(arm.Refused, match="Azure answers 404 to GET /nowhere") as refused:
        client.ask("GET", "/nowhere", "2024-07-01")
    assert (refused.value.status, refused.value.code) == (404, "ResourceNotFound")


def test_a_login_that_fails_says_so(azure, monkeypatch):
    for name, value in azure.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AZURE_SECRET", "not-the-secret")
    with pytest.raises(arm.Refused) as refused:
        arm.Arm().ask("GET", azure_world.compute("virtualMachines"), "2024-07-01")
    assert "AADSTS7000215" in str(refused.value) and "not-the-secret" not in str(refused.value)
