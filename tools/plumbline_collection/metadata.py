"""The files that only a collection has."""

from __future__ import annotations

import re

import yaml

from .project import COLLECTION, NAME, NAMESPACE

REQUIRES_ANSIBLE = ">=2.19.0"
# What the controller's Python needs for the report; the docker package is what playbooks of one's own with docker_api modules ask for.
CONTROLLER = ("jsonschema", "matplotlib")

# Modules with a finding of ansible-test that stays.
IGNORED = (
    ("collective_torch", "validate-modules:no-log-needed # prompt_tokens is a number of tokens"),
    ("nccl_test", "validate-modules:no-log-needed # prompt_tokens is a number of tokens"),
    ("lab_node", "validate-modules:use-run-command-not-popen # the node's first process outlives the module"),
)
HOUSE = "plugins/module_utils/plumbline/"
_CONTROLLER = "ansible-bad-module-import # runs on the controller only, beside plugins; no module imports it"
_PROGRAM = "ansible-bad-function # a program of its own on the node, no module: its output is its answer"
_UNUSED = "disallowed-name # _ is what a loop does not use"
IGNORED_BY_PYLINT = (
    (HOUSE + "controller/action.py", _CONTROLLER),
    (HOUSE + "controller/interpreter.py", _CONTROLLER),
    (HOUSE + "controller/preload.py", _CONTROLLER),
    (HOUSE + "controller/variables.py", _CONTROLLER),
    (HOUSE + "controller/watched.py", _CONTROLLER),
    (HOUSE + "controller/report/plots/heatmap.py", "disallowed-name # bar is matplotlib's colour bar"),
    (HOUSE + "health/collect.py", _UNUSED),
    (HOUSE + "model/chunk_server.py", _PROGRAM),
    (HOUSE + "model/look.py", _PROGRAM),
    (HOUSE + "machine/nvidia.py", "dangerous-default-value # nothing changes it"),
    ("plugins/callback/plumbline.py", _UNUSED),
    ("plugins/modules/ray_node.py", "repeated-keyword # dict() with a mapping: the keywords go over it"),
    ("roles/model_sync/files/make_random_model.py", _UNUSED),
)


def _yaml(data):
    return "---\n" + yaml.safe_dump(data, sort_keys=False, allow_unicode=True, width=200)


def galaxy(project):
    """Return galaxy.yml. There are no dependencies: each is the need of one option, and requirements.yml has them all."""
    return _yaml(
        {
            "namespace": NAMESPACE,
            "name": NAME,
            "version": project.version,
            "readme": "README.md",
            "authors": ["Plumbline"],
            "description": project.settings["description"],
            "license": [project.settings["license"]],
            "tags": ["gpu", "hpc", "monitoring", "infrastructure", "linux", "cloud"],
            "dependencies": {},
        }
    )


def runtime(project):
    """Return meta/runtime.yml, whose action group takes ``module_defaults`` for all of ours."""
    return _yaml({"requires_ansible": REQUIRES_ANSIBLE, "action_groups": {"all": project.actions}})


def execution_environment():
    """Return meta/execution-environment.yml: what ansible-builder puts into an image that has this collection."""
    return _yaml({"version": 1, "dependencies": {"python": "requirements.txt", "system": "bindep.txt"}})


def bindep():
    """Return the system packages: ssh to the nodes, a font for the plots is matplotlib's own."""
    return "openssh-clients [platform:rpm]\nopenssh-client [platform:dpkg]\n"


def requirements(project):
    """Return requirements.txt, what the controller needs for the report."""
    return "\n".join(project.pins(*CONTROLLER)) + "\n"


def requirements_azure(project):
    """Return requirements-azure.txt, what the inventory plugin needs."""
    return "\n".join(project.azure_pins()) + "\n"


def requirements_image(project):
    """Return what an execution environment has: the controller's needs, Docker's and Azure's."""
    return "\n".join([*project.pins(*CONTROLLER, "docker"), *project.azure_pins()]) + "\n"


def constraints(project):
    """Return the versions of everything else that was tested with them."""
    return "\n".join(line for _name, line in sorted(project.constraints().items())) + "\n"


def sanity_ignored(project):
    """Return tests/sanity/ignore-2.19.txt: what ansible-test finds and what stays, with the reason."""
    names = ["plugins/modules/%s.py" % name for name in project.actions]
    names += ["plugins/callback/plumbline.py", "plugins/callback/plumbline_fold.py"]
    names += ["plugins/inventory/%s.py" % name for name in project.inventories]
    found = ["%s validate-modules:missing-gplv3-license # the project is under Apache-2.0" % name for name in names]
    found += ["plugins/modules/%s.py %s" % pair for pair in IGNORED]
    found += ["%s pylint:%s" % pair for pair in IGNORED_BY_PYLINT]
    found.append("roles/lab/files/engine/runc-without-sys-resource shebang # a program of the lab's nodes, no module")
    return "\n".join(sorted(found)) + "\n"


def adjacent_callback(source):
    """Return the callback that Ansible finds beside the collection's playbooks, and so loads without any setting.

    A callback of a collection is otherwise loaded only where a configuration enables it. Where one does, this one stands back.
    """
    documentation = re.search(r'^DOCUMENTATION = (r?""".*?""")', source, re.S | re.M).group(1)
    return '''"""The collection's callback for its own playbooks: Ansible loads what is in this folder, with or without an ansible.cfg."""

from __future__ import annotations

DOCUMENTATION = %s

from ansible import constants as C
from ansible_collections.%s.plugins.callback import plumbline as installed


class CallbackModule(installed.CallbackModule):
    """The ``plumbline`` callback; see DOCUMENTATION."""

    # Not twice, where a configuration has the callback already.
    CALLBACK_NEEDS_ENABLED = "%s.plumbline" in (C.CALLBACKS_ENABLED or [])
''' % (documentation, COLLECTION, COLLECTION)


def readme(page):
    """Return the collection's README, which is the project's page about it, as seen from one folder above."""
    return re.sub(r"\]\((?!https?:|\.\./|#)", "](docs/", page).replace("](../", "](")
