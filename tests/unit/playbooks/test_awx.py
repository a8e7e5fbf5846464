"""playbooks/awx.yml against a stand-in of AWX's API (tests/mocks/awx), with the real modules of awx.awx; and what its jobs begin with."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess

import pytest
import yaml
from ansible.config.manager import ConfigManager
from ansible.module_utils.plumbline.controller import preflight, role_variables
from project import ROOT, load

mock_awx = load("tests/mocks/awx/mock_awx.py")

SECRETS = ("azure-secret-of-the-test", "hf_tokenOfTheTest")
LAYOUTS = [
    {"name": "a_tp4", "tp": 4, "pp": 1, "nodes": 1, "executor": "mp"},
    {"name": "c_tp8_pp2", "tp": 8, "pp": 2, "nodes": 2, "executor": "ray"},
]
VARIABLES = {
    "awx_setup_project_url": "https://example.com/plumbline.git",
    "awx_setup_image": "registry.example.com/plumbline-ee:1",
    "awx_setup_machine_credential": "nodes",
    "awx_setup_resource_group": "Train-RG",
    "awx_setup_scale_set": "train",
    "awx_setup_azure_subscription": "sub",
    "awx_setup_azure_tenant": "tenant",
    "awx_setup_azure_client": "client",
    "awx_setup_azure_secret": SECRETS[0],
    "awx_setup_hub_token": SECRETS[1],
    "awx_setup_model": "/var/lib/plumbline/models/Qwen2.5-72B",
    "awx_setup_model_image": "vllm/vllm-openai@sha256:" + "0" * 64,
    "awx_setup_layouts": LAYOUTS,
}

installed = pytest.mark.skipif(
    importlib.util.find_spec("ansible_collections.awx.awx") is None,
    reason="awx.awx is not installed: ansible-galaxy collection install awx.awx",
)


@pytest.fixture
def awx():
    with mock_awx.MockAwx() as mock:
        yield mock


def setup(folder, url, variables, *options, token=mock_awx.TOKEN):
    """Run the playbook; return what it said, its exit status and how many tasks changed something."""
    (folder / "mine.yml").write_text(yaml.safe_dump(variables))
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("CONTROLLER_", "TOWER_"))}
    environment.update({"ANSIBLE_NOCOLOR": "1", "PLUMBLINE_RESULTS_DIR": str(folder / "results")})
    environment.update({"CONTROLLER_HOST": url, "CONTROLLER_OAUTH_TOKEN": token} if url else {})
    command = ["ansible-playbook", "playbooks/awx.yml", "-i", "localhost,", "-e", "@%s" % (folder / "mine.yml"), *options]
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)


@installed
def test_awx_is_set_up_and_a_second_run_changes_nothing(awx, tmp_path):
    done = setup(tmp_path, awx.url, VARIABLES, "-vvv")
    assert done.returncode == 0, done.stdout + done.stderr
    world = awx.world
    said = done.stdout + done.stderr
    assert not [secret for secret in SECRETS if secret in said]
    assert world.settings["AWX_ANSIBLE_CALLBACK_PLUGINS"] == ["/somebody/elses", "/runner/project/plugins/callback"]
    source = world.named("inventory_sources", "train")
    assert json.loads(source["source_vars"]) == {"PLUMBLINE_AZURE_RESOURCE_GROUP": "Train-RG", "PLUMBLINE_AZURE_SCALE_SETS": "train"}
    assert (ROOT / source["source_path"]).is_file() and source["update_on_launch"] is True
    azure, hub = world.named("credentials", "Plumbline Azure"), world.named("credentials", "Plumbline model hub")
    assert source["credential"] == azure["id"] and world.secrets[azure["id"]]["secret"] == SECRETS[0]
    assert world.secrets[hub["id"]] == {"hub_token": SECRETS[1]}
    assert world.named("credential_types", "Plumbline model hub")["injectors"] == {"env": {"HF_TOKEN": "{{ hub_token }}"}}
    everybody = {world.named("credentials", "nodes")["id"], azure["id"], hub["id"]}
    for name, playbook, tags in (("validate", "awx_site", "validate"), ("full", "awx_site", ""), ("reset", "awx_reset", "")):
        template = world.named("job_templates", "Plumbline train " + name)
        assert template["playbook"] == "playbooks/%s.yml" % playbook and (ROOT / template["playbook"]).is_file()
        assert template["job_tags"] == tags and template["survey_enabled"] is True
        assert set(world.credentials_of[template["id"]]) == everybody
        asked = [question["variable"] for question in world.surveys[template["id"]]["spec"]]
        assert asked[:2] == ["target_resource_group", "target_scale_set"] and len(asked) == (5 if name == "full" else 2)
    schedule = world.named("schedules", "Plumbline train nightly")
    assert schedule["unified_job_template"] == world.named("job_templates", "Plumbline train validate")["id"]
    assert schedule["extra_data"] == {"target_resource_group": "Train-RG", "target_scale_set": "train"}
    world.requests.clear()
    again = setup(tmp_path, awx.url, VARIABLES)
    assert again.returncode == 0 and "changed=0" in again.stdout, again.stdout
    assert [request for request in world.requests if request[0] == "POST"] == []


@installed
def test_check_mode_and_another_scale_set(awx, tmp_path):
    done = setup(tmp_path, awx.url, VARIABLES)
    assert done.returncode == 0
    before = json.dumps(awx.world.objects, sort_keys=True)
    done = setup(tmp_path, awx.url, {**VARIABLES, "awx_setup_image": "registry.example.com/plumbline-ee:2"}, "--check")
    assert done.returncode == 0 and "changed=1" in done.stdout, done.stdout
    assert json.dumps(awx.world.objects, sort_keys=True) == before
    done = setup(tmp_path, awx.url, {**VARIABLES, "awx_setup_scale_set": "batch", "awx_setup_hub_token": "", "awx_setup_schedule": ""})
    assert done.returncode == 0, done.stdout
    assert len(awx.world.objects["job_templates"]) == 6 and len(awx.world.objects["projects"]) == 1
    assert [item["name"] for item in awx.world.objects["schedules"].values()] == ["Plumbline train nightly"]
    template = awx.world.named("job_templates", "Plumbline batch full")
    assert len(awx.world.credentials_of[template["id"]]) == 2


@installed
def test_what_is_missing_is_named_at_once_and_nothing_is_asked_of_awx(awx, tmp_path):
    some = {name: value for name, value in VARIABLES.items() if name not in ("awx_setup_model", "awx_setup_azure_tenant")}
    done = setup(tmp_path, None, some)
    assert done.returncode != 0
    said = " ".join((done.stdout + done.stderr).split())
    assert "Missing: awx_setup_model, awx_setup_azure_tenant, CONTROLLER_HOST, CONTROLLER_OAUTH_TOKEN (or" in said
    assert SECRETS[0] not in said and awx.world.requests == []


@installed
def test_wrong_token_is_said_without_the_token(awx, tmp_path):
    done = setup(tmp_path, awx.url, VARIABLES, token="not-the-token-of-awx")
    assert done.returncode != 0 and "HTTP 401" in done.stdout + done.stderr
    assert "not-the-token-of-awx" not in done.stdout + done.stderr


def answers(spec):
    """Return what AWX makes of a survey that is answered with its defaults."""
    return {item["variable"]: item["default"].split("\n") if item["type"] == "multiselect" else item["default"] for item in spec}


@installed
def test_a_job_with_the_surveys_defaults_has_layouts_that_preflight_accepts(awx, tmp_path):
    assert setup(tmp_path, awx.url, VARIABLES).returncode == 0
    template = awx.world.named("job_templates", "Plumbline train full")
    extra = {**json.loads(template["extra_vars"]), **answers(awx.world.surveys[template["id"]]["spec"]), "layout_names": ["c_tp8_pp2"]}
    (tmp_path / "extra.yml").write_text(json.dumps(extra))
    shown = "{{ vllm_serve_layouts | to_json }}"
    done = subprocess.run(
        ["ansible", "localhost", "-m", "debug", "-a", "msg='%s'" % shown, "-e", "@%s" % (tmp_path / "extra.yml")],
        cwd=ROOT, env={**os.environ, "ANSIBLE_NOCOLOR": "1"}, capture_output=True, text=True, check=True,
    )  # fmt: skip
    (chosen,) = json.loads(json.loads(done.stdout[done.stdout.index("{") :])["msg"])
    assert chosen == LAYOUTS[1] and preflight.layout_problems([chosen], node_count=2) == []


def test_inventory_of_awx_takes_group_and_sets_from_the_environment(monkeypatch):
    """The plugin's own module needs the Azure SDK; its options do not."""
    source = (ROOT / "plugins/inventory/azure_scale_set.py").read_text()
    options = yaml.safe_load(source.partition('DOCUMENTATION = r"""')[2].partition('"""')[0])["options"]
    manager = ConfigManager()
    manager.initialize_plugin_configuration_definitions("inventory", "mock_scale_set", options)
    monkeypatch.setenv("PLUMBLINE_AZURE_RESOURCE_GROUP", "Train-RG")
    monkeypatch.setenv("PLUMBLINE_AZURE_SCALE_SETS", "train-a,train-b")
    file = yaml.safe_load((ROOT / "inventory/awx/azure_scale_set.yml").read_text())
    found = {name: manager.get_config_value(name, plugin_type="inventory", plugin_name="mock_scale_set", direct=file) for name in options}
    assert found["resource_group"] == "Train-RG" and found["scale_sets"] == ["train-a", "train-b"] and found["plugin"] == "azure_scale_set"
    ours = yaml.safe_load((ROOT / "inventory/azure/azure_scale_set.yml").read_text())
    said = manager.get_config_value("scale_sets", plugin_type="inventory", plugin_name="mock_scale_set", direct=ours)
    assert said == ours["scale_sets"], "a file that says it goes before the environment"
    assert (ROOT / "inventory/awx/group_vars/nodes.yml").is_file()


# AWX's own variables of a job, and those of the survey: none may pass for a misspelt variable of a role.
GIVEN = [
    "awx_job_id", "awx_job_launch_type", "awx_job_template_id", "awx_job_template_name", "awx_project_revision", "awx_project_scm_branch",
    "awx_user_id", "awx_user_name", "awx_user_email", "awx_inventory_id", "awx_inventory_name", "awx_schedule_id", "awx_schedule_name",
    "awx_parent_job_schedule_id", "awx_workflow_job_id", "awx_workflow_job_name", "tower_job_id", "tower_inventory_name", "tower_user_name",
    "target_resource_group", "target_scale_set", "layout_names", "known_layouts",
]  # fmt: skip


def test_variables_that_awx_gives_are_no_misspelt_ones():
    assert role_variables.Roles().misspelt(GIVEN) == {}
    assert "awx_setup_project_ur" in role_variables.Roles().misspelt(["awx_setup_project_ur"])


def nodes_of(**groups):
    """Return an inventory with these nodes in the resource group Train-RG, by scale set."""
    of_azure = "/subscriptions/0/resourceGroups/%s/providers/Microsoft.Compute/virtualMachineScaleSets/x/virtualMachines/0"
    hosts = {name: {"id": of_azure % "Train-RG", "ansible_connection": "local"} for names in groups.values() for name in names}
    return {"nodes": {"hosts": hosts}, **{"scale_set_" + name: {"hosts": dict.fromkeys(names, {})} for name, names in groups.items()}}


def target(folder, inventory, **answered):
    (folder / "hosts.yml").write_text(yaml.safe_dump(inventory))
    command = ["ansible-playbook", "playbooks/awx_target.yml", "-i", str(folder / "hosts.yml"), "-e", json.dumps(answered)]
    environment = {**os.environ, "ANSIBLE_NOCOLOR": "1", "PLUMBLINE_RESULTS_DIR": str(folder / "results")}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    return done.returncode, " ".join((done.stdout + done.stderr).split())


@pytest.mark.parametrize(
    ("group", "chosen", "strangers"),
    [
        ("train-rg", "TRAIN-a", None),
        ("Train-RG", "train", "train_a_0, train_a_1 are no node"),
        ("Train", "train-a", "train_a_0, train_a_1 are no node"),
    ],
)
def test_a_job_touches_only_the_scale_set_that_was_meant(tmp_path, group, chosen, strangers):
    status, said = target(tmp_path, nodes_of(train_a=["train_a_0", "train_a_1"]), target_resource_group=group, target_scale_set=chosen)
    assert (status == 0) is (strangers is None), said
    assert strangers is None or strangers in said


def test_nodes_of_two_sets_are_not_one_and_no_answer_is_none(tmp_path):
    inventory = nodes_of(a=["a_0"], b=["b_0"])
    status, said = target(tmp_path, inventory, target_resource_group="Train-RG", target_scale_set="a")
    assert status != 0 and "b_0 is no node of the scale set a" in said
    status, said = target(tmp_path, inventory)
    assert status != 0 and "scale set (none)" in said
