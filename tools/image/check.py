"""Installs what build/image would put into an execution environment into an empty virtual environment, and tries it there.

``python tools/image/check.py VENV [CONTEXT]``, where no image can be built; `make image-check` runs it. The packages come from the files
that ansible-builder generated, in the order of the Containerfile. A collection that Galaxy cannot give is taken from the project's own
environment, where its version is the one that is asked for. What it cannot show is the base image, its system packages and its Python.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import venv
from importlib import util
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]
# What asks for the packages of requirements-image.txt, by the names under which Python imports them.
IMPORTS = ("jsonschema", "matplotlib", "docker", "requests", "azure.identity", "azure.mgmt.compute", "azure.mgmt.network", "netaddr")
# azure_rm logs in with code that imports all of the Azure SDK that is pinned before it; our own plugins ask in the same way.
AZURE = """
from ansible.plugins.loader import init_plugin_loader
init_plugin_loader()
from ansible_collections.azure.azcollection.plugins.module_utils import azure_rm_common
assert hasattr(azure_rm_common, "managed_identity"), azure_rm_common.HAS_AZURE_EXC
"""


class Image:
    """What stands for the image: a virtual environment with its collections in ``collections``."""

    def __init__(self, folder, context):
        self.folder, self.context, self.collections = folder, context, folder / "collections"
        self.inside = context / "_build"

    def run(self, program, *arguments, cwd=None, **more):
        """Run one of its programs with nothing of this environment's, and return its standard output; end with what it said."""
        env = {key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "PLUMBLINE_", "PYTHON", "VIRTUAL"))}
        env.update(
            PATH="%s:/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin" % (self.folder / "bin"),
            PIP_CONSTRAINT=str(self.inside / "plumbline" / "constraints.txt"),
            ANSIBLE_CONFIG=str(self.inside / "plumbline" / "ansible.cfg"),
            ANSIBLE_COLLECTIONS_PATH=str(self.collections),
            **more,
        )
        done = subprocess.run([self.folder / "bin" / program, *map(str, arguments)], cwd=cwd, env=env, capture_output=True, text=True)
        if done.returncode:
            sys.exit("%s %s ended with %d:\n%s" % (program, " ".join(map(str, arguments)), done.returncode, done.stdout + done.stderr))
        return done.stdout

    def pip(self, *arguments):
        """Install packages."""
        self.run("python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", *arguments)


def install(image):
    """Install ansible-core and ansible-runner, the collections, what these and the project ask for."""
    shutil.rmtree(image.folder, ignore_errors=True)
    venv.create(image.folder, with_pip=True)
    (recipe,) = (path for path in image.context.iterdir() if path.name in ("Dockerfile", "Containerfile"))
    image.pip(*re.search(r'^ARG ANSIBLE_INSTALL_REFS="(.*)"$', recipe.read_text(), re.M).group(1).split())
    for item in yaml.safe_load((image.inside / "requirements.yml").read_text())["collections"]:
        print("collection %s: from %s" % (item["name"], collection(image, item)), flush=True)
    image.pip("bindep", "pyyaml", "packaging")
    wanted = image.folder / "requirements.txt"
    files = ["--user-pip=%s" % (image.inside / "requirements.txt"), "--write-pip=%s" % wanted]
    files += ["--exclude-collection-reqs=%s" % (image.inside / "exclude-collections.txt")]
    image.run("python", image.inside / "scripts" / "introspect.py", "introspect", image.collections, *files)
    image.pip("-r", wanted)
    image.run("python", "-m", "pip", "check")


def collection(image, item):
    """Install a collection and return where it was taken from."""
    if item.get("type") == "file":
        artefact = image.inside / Path(item["name"]).relative_to("/build")
        image.run("ansible-galaxy", "collection", "install", artefact, "-p", image.collections)
        return artefact.name
    asked = "%s:==%s" % (item["name"], item["version"])
    argv = [image.folder / "bin" / "ansible-galaxy", "collection", "install", asked, "-p", image.collections, "--no-deps"]
    if subprocess.run(argv, capture_output=True, check=False, timeout=300).returncode == 0:
        return "Galaxy"
    source = Path(util.find_spec("ansible").origin).parents[1] / "ansible_collections" / item["name"].replace(".", "/")
    has = json.loads((source / "MANIFEST.json").read_text())["collection_info"]["version"]
    if has != item["version"]:
        sys.exit("%s %s is asked for; Galaxy does not give it, and the project's environment has %s" % (*item.values(), has))
    shutil.copytree(source, image.collections / "ansible_collections" / item["name"].replace(".", "/"))
    return "the project's environment, since Galaxy does not give it"


def try_out(image, names):
    """Run its programs, import its packages, read the documentation of ``names`` by kind, and prove this machine."""
    for program in ("ansible-playbook", "ansible-runner"):
        print(image.run(program, "--version").splitlines()[0])
    image.run("python", "-c", "import " + ", ".join(IMPORTS))
    image.run("python", "-c", AZURE)
    for kind, wanted in names.items():
        told = json.loads(image.run("ansible-doc", "-t", kind, "-j", *wanted))
        if set(told) != set(wanted):
            sys.exit("no documentation of %s" % ", ".join(sorted(set(wanted) - set(told))))
        print("%d documented: %s" % (len(told), kind))
    node = {"ansible_connection": "local", "ansible_python_interpreter": str(image.folder / "bin" / "python")}
    (image.folder / "hosts.json").write_text(json.dumps({"nodes": {"hosts": {"this_machine": node}}}))
    said = image.run("ansible-playbook", "plumbline.cluster.health", "-i", "hosts.json", "--skip-tags", "verdict", cwd=image.folder)
    print(re.search(r"^plumbline: .*$", said, re.M).group())


def used():
    """Return ``{kind: [name]}`` of the plugins that the roles, playbooks and the inventory take from other collections, and of ours."""
    texts = [path.read_text() for folder in ("roles", "playbooks") for path in sorted((ROOT / folder).rglob("*.yml"))]
    found = set(re.findall(r"^ +(?:- )?((?:community\.docker|awx\.awx|ansible\.posix)\.\w+):", "\n".join(texts), re.M))
    ours = ["plumbline.cluster." + path.stem for path in sorted((ROOT / "library").glob("*.py"))]
    return {"module": sorted(found) + ours, "inventory": ["azure.azcollection.azure_rm", "plumbline.cluster.azure_scale_set"]}


if __name__ == "__main__":
    made = Image(Path(sys.argv[1]).resolve(), Path(sys.argv[2] if len(sys.argv) > 2 else "build/image").resolve())
    install(made)
    try_out(made, used())
