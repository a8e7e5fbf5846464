"""inventory/azure through the real `ansible-inventory`, azure_rm and Azure SDK, against a stand-in of Azure (tests/mocks/arm/)."""

from __future__ import annotations

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import azure_world
import pytest
import tomllib
from project import ROOT, load

mock_arm = load("tests/mocks/arm/mock_arm.py")

SDK = bool(importlib.util.find_spec("azure") and importlib.util.find_spec("azure.mgmt") and importlib.util.find_spec("azure.mgmt.compute"))
needs_sdk = pytest.mark.skipif(not SDK, reason="the Azure SDK is not installed (860 MB, a minute): `make azure`, then this again")
TRAIN = ["train_0", "train_2", "train_3"]
FLEX = ["flex_1a2b3c4d", "flex_5e6f7a8b"]
BUSY = (429, {"Retry-After": "0.2"}, {"error": {"code": "TooManyRequests", "message": "slow down"}})


@pytest.fixture
def azure(tmp_path):
    """Return a stand-in with the usual subscription; each list comes in pages of two."""
    with mock_arm.MockAzure(tmp_path, azure_world.usual().resources, page=2) as stand_in:
        yield stand_in
        assert stand_in.strangers == []


@pytest.fixture
def ask(tmp_path):
    """Return a function that copies inventory/azure, edits its two lines, and asks: (what --list says, warnings)."""

    def run(stand_in, sets="[train]", more="", group="train-rg", arguments=("--list",), **environment):
        folder = tmp_path / "inventory"
        shutil.copytree(ROOT / "inventory/azure", folder, dirs_exist_ok=True)
        path = folder / "azure_scale_set.yml"
        text = path.read_text().replace("my-resource-group", group).replace("[my-scale-set]", sets)
        path.write_text(text + more)
        done = command(stand_in, ["ansible-inventory", "-i", str(folder), *arguments], **environment)
        assert done.returncode == 0, done.stderr
        return (json.loads(done.stdout) if "--list" in arguments else done.stdout), " ".join(done.stderr.split())

    def command(stand_in, words, **environment):
        known = {name: value for name, value in os.environ.items() if not name.startswith(("AZURE_", "ANSIBLE_AZURE_"))}
        known.update(stand_in.environment() if stand_in else {}, HOME=str(tmp_path), **environment)
        return subprocess.run(words, cwd=ROOT, env=known, capture_output=True, text=True, check=False)

    run.command, run.folder = command, tmp_path / "inventory"
    return run


def hosts(answer, group="nodes"):
    return sorted(answer.get(group, {}).get("hosts", []))


def plain(value):
    """Return a value of --list without Ansible's mark for texts that are no templates."""
    if isinstance(value, dict):
        return value["__ansible_unsafe"] if set(value) == {"__ansible_unsafe"} else {key: plain(item) for key, item in value.items()}
    return [plain(item) for item in value] if isinstance(value, list) else value


def variable(answer, host, name):
    return plain(answer["_meta"]["hostvars"][host].get(name))


@needs_sdk
def test_from_a_clone_two_lines_are_edited_and_the_graph_has_exactly_the_sets_nodes(azure, ask):
    graph, warnings = ask(azure, "[train, flex]", arguments=("--graph",))
    assert graph.splitlines() == (
        ["@all:", "  |--@ungrouped:", "  |--@nodes:"]
        + ["  |  |--" + name for name in FLEX + TRAIN]
        + ["  |--@scale_set_flex:", *("  |  |--" + name for name in FLEX)]
        + ["  |--@scale_set_train:", *("  |  |--" + name for name in TRAIN)]
    )
    assert "train has a capacity of 4 and Azure lists 3 (train_0, train_2, train_3), 1 missing: never came, or went away" in warnings
    assert "train_2 is deallocated" in warnings and "train_3 is unknown, its provisioning failed" in warnings
    # Of foreign machines, and of another resource group, nothing was asked.
    foreign = [path for path in azure.asked if re.search("login|train_9|infer/|flexi_|other-rg", path) and "openid" not in path]
    assert foreign == []


@needs_sdk
def test_variables_of_both_kinds_of_set(azure, ask):
    answer, _ = ask(azure, "[train, flex]")
    assert [variable(answer, name, "ansible_host") for name in TRAIN] == ["10.0.0.4", "10.0.0.5", "10.0.0.6"]
    assert [variable(answer, name, "ansible_host") for name in FLEX] == ["10.0.2.4", "10.0.2.5"]
    assert [variable(answer, name, "powerstate") for name in TRAIN] == ["running", "deallocated", "unknown"]
    assert variable(answer, "train_3", "provisioning_state") == "failed"
    assert {variable(answer, name, "virtual_machine_size") for name in TRAIN + FLEX} == {azure_world.SIZE}
    assert [variable(answer, name, "vmss")["name"] for name in ("train_0", FLEX[0])] == ["train", "flex"]
    assert {variable(answer, name, "preflight_expected_nodes") for name in TRAIN + FLEX} == {6}
    # What inventory/azure/group_vars says still holds.
    assert variable(answer, "train_0", "ansible_user") == "azureuser"
    assert variable(answer, "train_0", "azure_tags") == {}


@needs_sdk
def test_one_set_as_a_text_in_another_case_and_public_addresses(azure, ask):
    answer, warnings = ask(azure, "TRAIN", "\naddress: public\n", group="TRAIN-rg")
    assert hosts(answer) == TRAIN
    assert [variable(answer, name, "ansible_host") for name in TRAIN] == ["203.0.113.4", "203.0.113.5", "train_3"]
    answer, warnings = ask(azure, "[flex]", "\naddress: public\n")
    assert [variable(answer, name, "ansible_host") for name in FLEX] == ["203.0.113.7", FLEX[1]]
    assert "flex_5e6f7a8b has no public address" in warnings


@needs_sdk
def test_throttled_requests_are_repeated_when_azure_says(azure, ask):
    azure.refusals = {
        "/virtualMachineScaleSets": [BUSY],
        "/train/virtualMachines": [BUSY, BUSY],
        "/train/virtualMachines/0/instanceView": [BUSY],
        # azure_rm asks this one by another client of the SDK.
        "/train/virtualMachines/2/networkInterfaces": [BUSY],
        "/flex_1a2b3c4d-nic": [BUSY],
    }
    answer, _ = ask(azure, "[train, flex]")
    assert hosts(answer) == FLEX + TRAIN
    assert variable(answer, "train_2", "ansible_host") == "10.0.0.5"
    assert not any(azure.refusals.values())
    # Without Azure's word the SDK's first try again comes at once.
    assert len(azure.waited) == 6 and min(azure.waited) >= 0.2


@needs_sdk
def test_what_stays_throttled_is_said_and_nothing_is_left_out_silently(azure, ask):
    azure.refusals = {"/flex_1a2b3c4d-nic": [(429, {"Retry-After": "0.01"}, BUSY[2])] * 100}
    answer, warnings = ask(azure, "[flex]")
    assert hosts(answer) == [] and "Azure answers 429 to GET" in warnings and "try later" in warnings


@needs_sdk
@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"group": "trane-rg"}, ["404", "trane-rg", "is resource_group right"]),
        ({"sets": "[train, trian]"}, ["resource group train-rg has no scale set trian; it has: flex, flexi, infer, train"]),
        ({"AZURE_SECRET": "wrong"}, ["Azure cannot be asked", "AADSTS7000215"]),
        ({"AZURE_SUBSCRIPTION_ID": "11111111-0000-0000-0000-00000000000a"}, ["404", "the subscription?"]),
    ],
)
def test_what_is_wrong_is_said_in_azures_words(azure, ask, change, words):
    answer, warnings = ask(azure, **change)
    assert hosts(answer) == [] and all(word in warnings for word in words), warnings


@needs_sdk
def test_a_login_without_rights_is_told_which(azure, ask):
    azure.refusals = {"/virtualMachines": [(403, {}, {"error": {"code": "AuthorizationFailed", "message": "The client has no right"}})]}
    answer, warnings = ask(azure)
    assert (
        hosts(answer) == []
        and "403" in warnings
        and "AuthorizationFailed: The client has no right; the login needs the role Reader" in warnings
    )


@needs_sdk
def test_a_machine_that_goes_away_meanwhile_is_missed_by_name(azure, ask):
    path = azure_world.compute("virtualMachineScaleSets").lower() + "/train/virtualmachines/3"
    del azure.resources[path + "/instanceview"], azure.resources[path + "/networkinterfaces"]
    answer, warnings = ask(azure)
    assert hosts(answer) == TRAIN[:2]
    assert "train_3: Azure lists it and tells nothing more of it" in warnings
    assert variable(answer, "train_0", "preflight_expected_nodes") == 4


@needs_sdk
def test_filters_by_tag_lower_the_number_that_is_expected(azure, ask):
    machines = azure.resources[azure_world.compute("virtualMachineScaleSets").lower() + "/train/virtualmachines"]
    machines[1]["tags"] = {"purpose": "spare"}
    answer, _ = ask(azure, more="\nexclude_host_filters: [\"tags.purpose is defined and tags.purpose == 'spare'\"]\n")
    assert hosts(answer) == ["train_0", "train_3"]
    assert variable(answer, "train_0", "preflight_expected_nodes") == 3


LOGINS = ("AZURE_TENANT", "AZURE_CLIENT_ID", "AZURE_SECRET")


@needs_sdk
@pytest.mark.parametrize("login", ["az", "msi", "none"])
def test_every_login_of_the_page(azure, ask, tmp_path, login):
    azure.resources = whole().resources
    here = tmp_path / "bin"
    here.mkdir()
    given = {name: value for name, value in azure.environment().items() if name not in LOGINS}
    given["PATH"] = "%s:%s:/usr/bin:/bin" % (here, Path(sys.executable).parent)
    if login == "msi":
        given |= azure.managed_identity()
    else:
        del given["AZURE_SUBSCRIPTION_ID"]
    if login == "az":
        (here / "az").symlink_to(ROOT / "tests/mocks/arm/mock-az")
    more = "\nauth_source: msi\n" if login == "msi" else ""
    answer, warnings = ask(None, more=more, **given)
    assert hosts(answer) == ([] if login == "none" else ["train_0", "train_1"]), warnings
    assert ("no login to Azure" in warnings) == (login == "none"), warnings


@needs_sdk
def test_an_instance_that_is_just_coming_is_a_node_without_an_address(azure, ask):
    path = azure_world.compute("virtualMachineScaleSets").lower() + "/train/virtualmachines"
    new, newest = azure.resources[path][0], azure.resources[path][1]
    new["properties"].update(provisioningState="Creating", networkProfile={})
    azure.resources[path + "/0/networkinterfaces"] = []
    for hole in ("storageProfile", "osProfile"):
        del newest["properties"][hole]
    answer, warnings = ask(azure)
    assert hosts(answer) == ["train_0", "train_3"] and variable(answer, "train_0", "ansible_host") == "train_0"
    assert "train_0 is running, its provisioning creating" in warnings
    assert "train_2: Azure lists it and tells nothing more of it" in warnings


def whole():
    """Return a subscription whose one set is whole and runs."""
    world = azure_world.World()
    world.scale_set("train", 2)
    world.uniform("train", 0, "127.0.0.4")
    world.uniform("train", 1, "127.0.0.5")
    return world


@needs_sdk
def test_a_whole_answer_is_kept_and_one_that_is_not_is_asked_anew(azure, ask):
    azure.resources = whole().resources
    answer, warnings = ask(azure)
    assert hosts(answer) == ["train_0", "train_1"] and "WARNING" not in warnings
    asked = sum(azure.asked.values())
    kept, _ = ask(azure)
    assert (kept, sum(azure.asked.values())) == (answer, asked)
    # Another set is another question; what Azure has not whole is asked each time.
    machines = azure.resources[azure_world.compute("virtualMachineScaleSets").lower() + "/train/virtualmachines"]
    gone = machines.pop()
    short, warnings = ask(azure, arguments=("--list", "--flush-cache"))
    assert hosts(short) == ["train_0"]
    assert "capacity of 2 and Azure lists 1 (train_0), 1 missing: train_1, which it had when it was last whole (20" in warnings
    machines.append(gone)
    again, warnings = ask(azure)
    assert (again, "WARNING" in warnings) == (answer, False)
    other, warnings = ask(azure, "[nothing]")
    assert hosts(other) == [] and "no scale set nothing" in warnings


@needs_sdk
def test_preflight_names_the_missing_one(azure, ask):
    azure.resources = whole().resources
    ask(azure)
    azure.resources[azure_world.compute("virtualMachineScaleSets").lower() + "/train/virtualmachines"].pop()
    ask(azure, arguments=("--list", "--flush-cache"))
    done = ask.command(azure, ["ansible-playbook", "-i", str(ask.folder), "playbooks/preflight.yml"])
    said = " ".join((done.stdout + done.stderr).split())
    assert done.returncode != 0
    assert "the inventory group 'nodes' has 1 nodes (train_0), preflight_expected_nodes is 2: scale set train has a capacity of 2" in said
    assert "Azure lists 1 (train_0), 1 missing: train_1, which it had" in said


@needs_sdk
def test_preflight_names_the_stopped_one(azure, ask):
    world = azure_world.World()
    world.scale_set("train", 1)
    world.uniform("train", 7, "127.0.0.7", power="deallocated")
    azure.resources = world.resources
    ask(azure)
    variables = {"ansible_port": 1, "vllm_serve_layouts": [], "vllm_serve_runtime": "host"}
    words = ["ansible-playbook", "-i", str(ask.folder), "playbooks/preflight.yml", "-e", json.dumps(variables)]
    done = ask.command(azure, words)
    said = " ".join((done.stdout + done.stderr).split())
    assert "train_7 is deallocated" in said and re.search("train_7.*(UNREACHABLE|does not answer|unreachable)", said), said


def test_without_the_sdk_the_inventory_says_what_to_run(ask, tmp_path):
    absent = tmp_path / "absent/azure"
    absent.mkdir(parents=True)
    (absent / "__init__.py").write_text("raise ImportError('no azure here')\n")
    answer, warnings = ask(None, PYTHONPATH=str(absent.parent))
    assert hosts(answer) == [] and "the Azure SDK is not installed for this Python: run `make azure` (docs/azure.md)" in warnings


@pytest.mark.parametrize(
    ("capacity", "listed", "before", "words"),
    [
        (2, ["a_0", "a_1"], None, []),
        (0, [], None, []),
        (3, ["a_0", "a_2"], None, ["capacity of 3", "lists 2 (a_0, a_2), 1 missing: never came"]),
        (2, [], None, ["lists 0 (none), 2 missing"]),
        (2, ["a_0"], {"names": ["a_0", "a_5"], "at": "yesterday"}, ["1 missing: a_5, which it had when it was last whole (yesterday)"]),
        (1, ["a_0", "a_1"], None, ["lists 2", "made smaller"]),
        (None, ["a_0"], None, ["tells no capacity"]),
    ],
)
def test_a_sets_capacity_against_what_is_listed(capacity, listed, before, words):
    plugin = load("plugins/inventory/azure_scale_set.py")
    scale_set = {"name": "a", "capacity": capacity, "instances": listed, "state": "Succeeded"}
    found = plugin.capacity_notes(scale_set, before)
    assert len(found) == bool(words) and all(word in found[0] for word in words)


def test_the_sdk_that_we_ask_for_is_the_collections_own():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    spec = importlib.util.find_spec("ansible_collections")
    own = (Path(next(iter(spec.submodule_search_locations))) / "azure/azcollection/requirements.txt").read_text().split()
    assert set(project["project"]["optional-dependencies"]["azure"]) <= set(own)
