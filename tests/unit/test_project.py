"""What holds for the project as a whole: roles, modules, schemas and inventories keep their promises."""

from __future__ import annotations

import ast
import importlib
import json
import os
import subprocess
import sys

import jsonschema
import pytest
import yaml
from ansible.module_utils.plumbline.core.fact import KINDS
from project import ROOT, load

# Action plugins that go before a module of their name, or take the arguments of another one, have those arguments.
AROUND_A_MODULE = {
    "container_archive", "container_image", "dcgm_diag", "gpu_clocks", "layout_prediction", "model_blob", "model_hub", "node_health",
    "pairwise_link", "preflight_node", "serve_lock",
}  # fmt: skip
CONTROLLER_ACTIONS = sorted({path.stem for path in (ROOT / "plugins/action").glob("*.py")} - AROUND_A_MODULE)
ROLES = sorted(path.name for path in (ROOT / "roles").iterdir() if path.is_dir())
MODULES = sorted(path.stem for path in (ROOT / "library").glob("*.py"))


@pytest.mark.parametrize("role", ROLES)
def test_role_documents_exactly_its_defaults(role):
    base = ROOT / "roles" / role
    defaults = yaml.safe_load((base / "defaults/main.yml").read_text()) or {}
    specs = yaml.safe_load((base / "meta/argument_specs.yml").read_text())["argument_specs"]["main"]
    options = specs.get("options") or {}
    assert {name: options[name].get("default") for name in options if "default" in options[name]} == defaults
    assert set(options) == set(defaults), "a variable without a default, or one without a description"
    for name, option in options.items():
        assert name.startswith(role + "_"), name
        assert option["description"] and option["type"], name


@pytest.mark.parametrize("role", ROLES)
def test_role_says_what_it_does_undoes_and_needs(role):
    text = (ROOT / "roles" / role / "README.md").read_text()
    assert "**Undone by**" in text and "**Needs**" in text


class Spec(Exception):
    """Carries the arguments with which a module made its AnsibleModule."""


@pytest.mark.parametrize("name", MODULES)
def test_module_documents_exactly_its_arguments(name, monkeypatch):
    module = importlib.import_module(name)

    def capture(**arguments):
        raise Spec(arguments)

    monkeypatch.setattr(module, "AnsibleModule", capture)
    with pytest.raises(Spec) as caught:
        module.main()
    arguments = caught.value.args[0]
    assert arguments["supports_check_mode"] is True
    check_documentation(module, name, arguments["argument_spec"])


def check_documentation(module, name, spec):
    """Assert that a module or an action plugin documents exactly the arguments in ``spec``."""
    documentation = yaml.safe_load(module.DOCUMENTATION)
    assert documentation["module"] == name
    options = documentation.get("options") or {}
    assert set(options) == set(spec)
    for option, described in options.items():
        assert described.get("type", "str") == spec[option].get("type", "str"), option
        assert bool(described.get("required")) == bool(spec[option].get("required")), option
        assert described.get("default") == spec[option].get("default"), option
        assert described.get("choices") == spec[option].get("choices"), option
        assert described["description"], option
    assert yaml.safe_load(module.EXAMPLES) and yaml.safe_load(module.RETURN)


@pytest.mark.parametrize("name", CONTROLLER_ACTIONS)
def test_action_documents_exactly_its_arguments(name):
    plugin = load("plugins/action/%s.py" % name)
    check_documentation(plugin, name, plugin.ActionModule.ARGUMENTS)


# What only the controller runs may use what pyproject.toml pins; everything else travels to nodes.
CONTROLLER = ROOT / "plugins/module_utils/plumbline/controller"


def test_code_that_runs_on_nodes_needs_the_standard_library_only():
    allowed = set(sys.stdlib_module_names) | {"ansible"}
    for path in [*(ROOT / "library").glob("*.py"), *(ROOT / "plugins/module_utils").rglob("*.py")]:
        if CONTROLLER in path.parents:
            continue
        tree = ast.parse(path.read_text(), feature_version=(3, 9))
        for node in ast.walk(tree):
            names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            names += [node.module] if isinstance(node, ast.ImportFrom) and not node.level else []
            foreign = {item.split(".")[0] for item in names} - allowed
            # torchrun runs these, in the serving environment.
            assert not foreign or path.name in ("torch_worker.py", "serving_worker.py"), (path.name, foreign)


def shipped(name, folder):
    """Return the files of ours that Ansible sends to a node with a module, by their path in the package."""
    keep = {"ANSIBLE_KEEP_REMOTE_FILES": "1", "ANSIBLE_REMOTE_TMP": str(folder)}
    # The unknown option ends the module before it does anything; it has been sent by then.
    command = ["ansible", "localhost", "-c", "local", "-m", name, "-a", "no_such_option=1"]
    done = subprocess.run(command, cwd=ROOT, env={**os.environ, **keep}, capture_output=True, text=True, check=False)
    assert "no_such_option" in done.stdout, done.stdout + done.stderr
    (sent,) = folder.rglob("AnsiballZ_%s.py" % name)
    subprocess.run([sys.executable, str(sent), "explode"], cwd=ROOT, capture_output=True, check=True)
    inside = "/module_utils/plumbline/"
    return {str(path).partition(inside)[2] for path in folder.rglob("*.py") if inside in str(path)}


@pytest.mark.parametrize(("name", "needed"), [("node_health", "health/collect.py"), ("serve_benchmark", "benchmark/client.py")])
def test_no_code_of_the_controller_or_the_lab_travels_to_nodes(name, needed, tmp_path):
    files = shipped(name, tmp_path)
    assert needed in files and "core/fact.py" in files
    assert not [item for item in files if item.startswith(("controller", "lab"))]


def test_every_kind_has_a_valid_schema():
    for kind in KINDS:
        schema = json.loads((ROOT / "docs/schema" / (kind + ".schema.json")).read_text())
        jsonschema.Draft202012Validator.check_schema(schema)


def test_site_reads_as_a_story():
    lines = (ROOT / "site.yml").read_text().splitlines()
    assert len(lines) < 25
    done = subprocess.run(
        ["ansible-playbook", "site.yml", "-i", "inventory/static", "--list-tags"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    for tag in ("preflight", "health", "clocks", "fabric", "model", "serve", "benchmark", "report", "validate"):
        assert tag in done.stdout, tag


@pytest.mark.parametrize("name", ["lab", "static"])
def test_inventory_parses_and_its_layouts_are_accepted(name):
    done = subprocess.run(["ansible-inventory", "-i", "inventory/" + name, "--list"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert "WARNING" not in done.stderr, done.stderr
    listing = json.loads(done.stdout)
    if name == "static":
        assert len(listing["nodes"]["hosts"]) == 3
    from ansible.module_utils.plumbline.controller import preflight

    variables = yaml.safe_load((ROOT / "inventory" / name / "group_vars/nodes.yml").read_text())
    assert variables["vllm_serve_layouts"]
    assert preflight.layout_problems(variables["vllm_serve_layouts"], node_count=3) == []


def test_galaxy_users_get_the_same_collections():
    wanted = {item["name"]: item["version"] for item in yaml.safe_load((ROOT / "requirements.yml").read_text())["collections"]}
    done = subprocess.run(["ansible-galaxy", "collection", "list", "--format", "json"], capture_output=True, text=True, check=True)
    listing = json.loads(done.stdout)
    installed = {name: item["version"] for path in listing.values() for name, item in path.items()}
    assert {name: installed.get(name) for name in wanted} == wanted
