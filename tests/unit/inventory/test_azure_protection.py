"""Instances are protected for a run and given back, by the real plays and SDK against a stand-in of Azure."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys

import azure_world
import pytest
from project import ROOT, load

mock_arm = load("tests/mocks/arm/mock_arm.py")

SDK = bool(importlib.util.find_spec("azure") and importlib.util.find_spec("azure.mgmt") and importlib.util.find_spec("azure.mgmt.compute"))
pytestmark = pytest.mark.skipif(not SDK, reason="the Azure SDK is not installed (860 MB, a minute): `make azure`, then this again")
SETS = azure_world.compute("virtualMachineScaleSets")
OWN = {"protectFromScaleIn": True, "protectFromScaleSetActions": False}
BOTH = {"protectFromScaleIn": True, "protectFromScaleSetActions": True}
NEITHER = {"protectFromScaleIn": False, "protectFromScaleSetActions": False}
PLAYS = """
- import_playbook: {root}/playbooks/azure_protect.yml
- hosts: nodes
  gather_facts: false
  ignore_errors: true
  ignore_unreachable: true
  tasks:
    - name: The long phases, in which a node dies and another one fails
      ansible.builtin.fail: {{msg: failed}}
      when: inventory_hostname == 'train_0'
    - ansible.builtin.ping:
- import_playbook: {root}/playbooks/azure_give_back.yml
- hosts: localhost:nodes
  gather_facts: false
  tasks:
    - ansible.builtin.debug: {{msg: "and then the report"}}
      run_once: true
"""


def of(azure, node):
    """Return the policy that the stand-in has of an instance."""
    name, _, number = node.rpartition("_")
    path = "%s/flex/virtualMachines/%s" % (SETS, node) if name.startswith("flex") else "%s/%s/virtualMachines/%s" % (SETS, name, number)
    return azure.resources[path.lower()]["properties"].get("protectionPolicy")


@pytest.fixture
def azure(tmp_path):
    """Return a stand-in with train_0, train_2, which its owner has protected from scale-in, and flex_1a2b3c4d."""
    world = azure_world.usual()
    world.resources[("%s/train/virtualMachines/2" % SETS).lower()]["properties"]["protectionPolicy"] = dict(OWN)
    with mock_arm.MockAzure(tmp_path, world.resources) as stand_in:
        yield stand_in
        assert stand_in.strangers == []


@pytest.fixture
def play(tmp_path):
    """Return a function that runs the plays of a run, or the playbook that is named, on nodes of which none answers."""
    dead = tmp_path / "mock-ssh-255"
    dead.write_text("#!/bin/sh\nexit 255\n")
    dead.chmod(0o755)
    hosts = {
        "train_%d" % number: {"id": "%s/train/virtualMachines/%d" % (SETS, number), "vmss": {"id": SETS + "/train"}} for number in (0, 2)
    }
    machine = azure_world.compute("virtualMachines") + "/flex_1a2b3c4d"
    hosts["flex_1a2b3c4d"] = {"id": machine, "vmss": {"id": SETS + "/flex"}}
    variables = {"ansible_host": "192.0.2.1", "ansible_ssh_executable": str(dead), "ansible_python_interpreter": sys.executable}
    (tmp_path / "hosts.yml").write_text(json.dumps({"nodes": {"hosts": hosts, "vars": variables}}))
    (tmp_path / "run.yml").write_text(PLAYS.format(root=ROOT))
    (tmp_path / "home").mkdir()

    def run(azure, playbook=None, words=(), inventory=tmp_path / "hosts.yml", **variables):
        known = {name: value for name, value in os.environ.items() if not name.startswith(("AZURE_", "ANSIBLE_AZURE_"))}
        known.update(azure.environment(), HOME=str(tmp_path / "home"), PLUMBLINE_RESULTS_DIR=str(tmp_path / "results"))
        command = ["ansible-playbook", "-i", str(inventory), playbook or str(tmp_path / "run.yml")]
        return subprocess.run(
            [*command, "-e", json.dumps(variables), *words], cwd=ROOT, env=known, capture_output=True, text=True, check=False
        )

    run.memory = tmp_path / "home/.local/state/plumbline/azure_protection"
    return run


def flat(done):
    return " ".join((done.stdout + done.stderr).split())


def test_without_the_variable_azure_is_not_asked(azure, play):
    done = play(azure)
    assert "and then the report" in done.stdout, done.stdout
    assert not azure.asked and not azure.sent and not play.memory.exists()


@pytest.mark.parametrize(("level", "during"), [("scale_in", OWN), ("scale_set_actions", BOTH)])
def test_a_run_protects_and_gives_back_although_its_nodes_die(azure, play, level, during):
    done = play(azure, azure_protection=level)
    assert "and then the report" in done.stdout, done.stdout + done.stderr
    protected = {path.rpartition("/")[2]: body["properties"] for path, _, body in azure.sent[: len(azure.sent) // 2]}
    # The policy and nothing else: with more of its description an instance differs from the set's model.
    assert all(body == {"protectionPolicy": during} for body in protected.values())
    # train_2 was protected from scale-in by its owner: the lower level finds nothing to do there.
    assert sorted(protected) == (["0", "2", "flex_1a2b3c4d"] if during == BOTH else ["0", "flex_1a2b3c4d"])
    assert {version for _, version, _ in azure.sent} == {"2024-07-01"}
    assert [of(azure, node) for node in ("train_0", "train_2", "flex_1a2b3c4d")] == [NEITHER, OWN, NEITHER]
    assert list(play.memory.iterdir()) == []


def test_check_mode_changes_nothing(azure, play):
    done = play(azure, words=("--check",), azure_protection="scale_in")
    assert "train_0 would be protected from scale-in" in flat(done) and azure.sent == [] and not play.memory.exists()


def killed(azure, play):
    """Leave behind what a run does whose controller dies in the long phases."""
    done = play(azure, str(ROOT / "playbooks/azure_protect.yml"), azure_protection="scale_set_actions")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [of(azure, node) for node in ("train_0", "train_2", "flex_1a2b3c4d")] == [BOTH] * 3


def test_reset_gives_back_what_a_killed_run_left_also_for_nodes_that_do_not_answer(azure, play):
    killed(azure, play)
    done = play(azure, "playbooks/reset.yml")
    assert "train_2 is protected from scale-in again" in flat(done), done.stdout + done.stderr
    assert done.returncode == 4  # of the nodes themselves nothing could be undone
    assert [of(azure, node) for node in ("train_0", "train_2", "flex_1a2b3c4d")] == [NEITHER, OWN, NEITHER]


def test_reset_leaves_what_somebody_changed_meanwhile_and_what_is_gone(azure, play):
    killed(azure, play)
    azure.resources[("%s/train/virtualMachines/0" % SETS).lower()]["properties"]["protectionPolicy"] = dict(OWN)
    del azure.resources[("%s/flex/virtualMachines/flex_1a2b3c4d" % SETS).lower()]
    done = play(azure, "playbooks/reset.yml")
    assert "train_0 is protected from scale-in, which somebody else made so meanwhile; left as it is" in flat(done)
    assert "flex_1a2b3c4d is gone" in flat(done)
    assert of(azure, "train_0") == OWN and list(play.memory.iterdir()) == []


def test_the_next_run_after_a_killed_one_gives_back_what_was_before_both(azure, play):
    killed(azure, play)
    play(azure, azure_protection="scale_in")
    assert [of(azure, node) for node in ("train_0", "train_2", "flex_1a2b3c4d")] == [NEITHER, OWN, NEITHER]


def test_a_run_that_may_not_protect_ends_before_it_begins_and_leaves_nothing(azure, play):
    refusal = (403, {}, {"error": {"code": "AuthorizationFailed", "message": "no"}})
    azure.refusals = {"/train/virtualMachines/2": [refusal]}
    done = play(azure, azure_protection="scale_set_actions")
    assert done.returncode != 0 and "and then the report" not in done.stdout
    assert "train_2: Azure answers 403" in flat(done) and "Virtual Machine Contributor" in flat(done)
    assert [of(azure, node) for node in ("train_0", "train_2", "flex_1a2b3c4d")] == [NEITHER, OWN, NEITHER]


def test_what_could_not_be_given_back_fails_and_is_remembered(azure, play):
    killed(azure, play)
    azure.put_refusals = [(403, {}, {"error": {"code": "AuthorizationFailed", "message": "no"}})]
    done = play(azure, "playbooks/reset.yml")
    assert done.returncode != 0 and "playbooks/reset.yml undoes it once this is right" in flat(done)
    assert len(list(play.memory.iterdir())) == 1
    play(azure, "playbooks/reset.yml")
    assert [of(azure, node) for node in ("train_0", "train_2", "flex_1a2b3c4d")] == [NEITHER, OWN, NEITHER]


def test_what_a_run_could_not_give_back_is_an_incident_of_it(azure, play, tmp_path):
    refusal = (403, {}, {"error": {"code": "AuthorizationFailed", "message": "no"}})
    azure.put_refusals = [None, None, refusal]
    done = play(azure, azure_protection="scale_in")
    assert "and then the report" in done.stdout, done.stdout + done.stderr
    (kept,) = (tmp_path / "results").glob("*/incidents.json")
    messages = [
        item["message"]
        for item in json.loads(kept.read_text())
        if item["task"].endswith("Give the instances the protection back that they had")
    ]
    assert len(messages) == 1 and "playbooks/reset.yml undoes it once this is right" in messages[0]
    assert sum(of(azure, node) == OWN for node in ("train_0", "flex_1a2b3c4d")) == 1


def test_nodes_of_no_scale_set_cannot_be_protected(azure, play):
    done = play(azure, azure_protection="scale_in", id="", vmss={})
    assert done.returncode != 0 and "is of no scale set that is known: use inventory/azure" in flat(done)


def test_the_reset_of_the_nodes_goes_on_where_azure_refuses_and_fails_at_its_end(azure, play):
    killed(azure, play)
    azure.refusals = {"/train/virtualMachines/2": [(403, {}, {"error": {"code": "AuthorizationFailed", "message": "no"}})]}
    # On this machine, so in check mode: nothing of it is ended.
    done = play(azure, "playbooks/reset.yml", ("--check",), ansible_connection="local", ansible_become=False)
    said = flat(done)
    assert said.index("PLAY [Undo what Plumbline did]") < said.index("TASK [Fail for instances that are still protected]"), said
    assert done.returncode == 2 and "train_2: Azure answers 403" in said


def test_from_the_real_inventory_by_the_commands_of_the_page(azure, play, tmp_path):
    folder = tmp_path / "inventory"
    shutil.copytree(ROOT / "inventory/azure", folder)
    path = folder / "azure_scale_set.yml"
    text = path.read_text().replace("my-resource-group", azure_world.GROUP).replace("[my-scale-set]", "[train, flex]")
    path.write_text(text)
    done = play(azure, "playbooks/azure_protect.yml", inventory=folder, azure_protection="scale_in")
    assert done.returncode == 0, done.stdout + done.stderr
    assert [of(azure, node) for node in ("train_0", "train_2", "flex_1a2b3c4d", "flex_5e6f7a8b")] == [OWN] * 4
    assert "train_2 is deallocated, its provisioning succeeded: it is not protected" in flat(done)
    assert of(azure, "train_3") is None and "train_3 is unknown, its provisioning failed: it is not protected" in flat(done)
    assert {record["node"] for record in map(json.loads, (item.read_text() for item in play.memory.iterdir()))} == {
        "train_0",
        "flex_1a2b3c4d",
        "flex_5e6f7a8b",
    }
    # The end of a run gives back what that run protected, and of this one there is no more to come.
    done = play(azure, "playbooks/azure_give_back.yml", inventory=folder)
    assert "is protected by another run" in flat(done) and of(azure, "train_0") == OWN
    done = play(azure, "playbooks/reset.yml", ("--check",), inventory=folder, ansible_connection="local", ansible_become=False)
    assert "train_0 would be not protected again" in flat(done) and of(azure, "train_0") == OWN
