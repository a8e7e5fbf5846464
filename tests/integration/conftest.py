"""A lab of three nodes for the whole session, and a way to run playbooks on it through ansible-runner.

It is a lab of its own (other name, addresses and folders than `make lab`), so that a user's lab stays as it is.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
from pathlib import Path

import ansible_runner
import pytest

ROOT = Path(__file__).resolve().parent.parent.parent


class Run:
    """What one ansible-playbook run said, as events and as the files it left."""

    def __init__(self, runner, results):
        self.status = runner.rc
        self.events = list(runner.events)
        self.stats = runner.stats or {}
        self.dir = results
        self.text = "\n".join(event.get("stdout", "") for event in self.events)

    def ok(self, what=""):
        """Assert that the run succeeded; show the end of its output otherwise."""
        assert self.status == 0, "%s exit status %d\n%s" % (what, self.status, self.text[-6000:])
        return self

    @property
    def changed(self):
        """Number of changed tasks by host."""
        return {host: count for host, count in self.stats.get("changed", {}).items() if count}

    def fact(self, host, kind, name):
        """Return one kept fact."""
        return json.loads((self.dir / "facts" / host / ("%s.%s.json" % (kind, name))).read_text())

    def facts(self):
        """Return all kept facts as {(host, kind, name): fact}."""
        found = {}
        for path in sorted((self.dir / "facts").glob("*/*.json")):
            fact = json.loads(path.read_text())
            found[path.parent.name, fact["schema"].split(".")[1].split("/")[0], fact["name"]] = fact
        return found

    def document(self, name="facts.json"):
        """Return a JSON file of the run folder."""
        return json.loads((self.dir / name).read_text())


class Lab:
    """Nodes, an inventory and a way to run playbooks on them. Two labs need different names and subnets."""

    def __init__(self, folder, name="labt", subnet="10.99.0.0/16", nodes=3, **variables):
        self.folder = folder
        self.inventory = folder / "inventory"
        self.names = ["%s%d" % (name, number + 1) for number in range(nodes)]
        self.localhost = folder / "localhost"
        self.localhost.write_text("localhost ansible_connection=local\n")
        self.variables = dict(
            variables,
            lab_name=name,
            lab_subnet=subnet,
            lab_nodes=nodes,
            lab_inventory_file=str(self.inventory / "hosts.yml"),
            lab_gpus="none",
        )
        self._count = 0
        self._hosts = {}

    def play(self, playbook, *arguments, run_id=None, inventory=None, **variables):
        """Run a playbook through ansible-runner and return the :class:`Run`."""
        self._count += 1
        run_id = run_id or "run-%02d" % self._count
        results = self.folder / "results"
        private = self.folder / "runner" / ("%02d-%s" % (self._count, run_id))
        private.mkdir(parents=True)
        runner = ansible_runner.run(
            private_data_dir=str(private),
            project_dir=str(ROOT),
            playbook=playbook,
            inventory=str(inventory or self.inventory),
            cmdline=" ".join(arguments) or None,
            extravars=variables,
            envvars={
                "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                # ansible-runner puts its own folder in the place of ansible.cfg's callback_plugins.
                "ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "plugins" / "callback"),
                "PLUMBLINE_RESULTS_DIR": str(results),
                "PLUMBLINE_RUN_ID": run_id,
            },
            quiet=True,
        )
        return Run(runner, results / run_id)

    def shell(self, node, command, check=True):
        """Run a shell command on a node over SSH, outside of Ansible, and return its output."""
        if node not in self._hosts:
            self._hosts[node] = json.loads(
                subprocess.run(
                    ["ansible-inventory", "-i", str(self.inventory), "--host", node],
                    capture_output=True, text=True, check=True, cwd=ROOT,
                ).stdout
            )  # fmt: skip
        variables = self._hosts[node]
        argv = ["ssh", "-i", variables["ansible_ssh_private_key_file"], "-o", "ControlMaster=no", "-o", "ConnectTimeout=5"]
        argv += variables["ansible_ssh_common_args"].replace("'", "").split()
        done = subprocess.run(
            argv + ["root@" + variables["ansible_host"], command], capture_output=True, text=True, check=False, timeout=120
        )
        if check:
            assert done.returncode == 0, "%s on %s: %s" % (command, node, done.stderr)
        return done.stdout

    def up(self):
        """Bring the lab up, or repair it."""
        self._hosts.clear()
        return self.play("playbooks/lab_up.yml", inventory=self.localhost, **self.variables).ok("lab_up")

    def down(self):
        """Take the lab down."""
        return self.play("playbooks/lab_down.yml", inventory=self.localhost, **self.variables).ok("lab_down")

    def addresses(self):
        """Return {name: address}."""
        listing = json.loads(
            subprocess.run(
                ["ansible-inventory", "-i", str(self.inventory), "--list"], capture_output=True, text=True, check=True, cwd=ROOT
            ).stdout
        )
        return {name: item["ansible_host"] for name, item in listing["_meta"]["hostvars"].items() if name in self.names}


@contextlib.contextmanager
def running_lab(folder, **arguments):
    """Bring a lab up, and take it down at the end whatever happened; the arguments are those of :class:`Lab`."""
    if os.geteuid() != 0:
        pytest.skip("the lab needs root (network namespaces, overlay mounts)")
    lab = Lab(folder, **arguments)
    shutil.copytree(ROOT / "inventory" / "lab" / "group_vars", lab.inventory / "group_vars")
    try:
        lab.up()
        yield lab
    finally:
        lab.down()


@pytest.fixture(scope="session")
def new_lab():
    """Return :func:`running_lab`, for tests that need a lab of another shape."""
    return running_lab


@pytest.fixture(scope="session")
def lab(tmp_path_factory):
    """The lab of three nodes that the tests share."""
    with running_lab(tmp_path_factory.mktemp("lab")) as lab:
        yield lab
