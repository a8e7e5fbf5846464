"""The collection as it is built from the project, and as ansible-galaxy installs it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from plumbline_collection.build import build
from project import ROOT

BIN = Path(sys.executable).parent


class Installed:
    """An installed collection: ``folder`` is the collection's, ``root`` the one to search for collections."""

    def __init__(self, root):
        self.root, self.folder = root, root / "ansible_collections" / "plumbline" / "cluster"

    def run(self, cwd, command, *arguments, **more):
        """Run one of Ansible's commands in ``cwd``, without Ansible's and Plumbline's variables but where collections are."""
        env = {key: value for key, value in os.environ.items() if not key.startswith(("PLUMBLINE_", "ANSIBLE_"))}
        env.update(ANSIBLE_COLLECTIONS_PATH=str(self.root), **more)
        argv = [str(BIN / command), *arguments]
        return subprocess.run(argv, cwd=cwd, env=env, capture_output=True, text=True, check=False, timeout=300)


@pytest.fixture(scope="session")
def built(tmp_path_factory):
    """Return the folder of the collection as it is built."""
    return build(ROOT, tmp_path_factory.mktemp("built"))


@pytest.fixture(scope="session")
def artefact(built, tmp_path_factory):
    """Return the artefact, as ``ansible-galaxy collection build`` makes it."""
    out = tmp_path_factory.mktemp("artefact")
    done = Installed(out).run(out, "ansible-galaxy", "collection", "build", str(built), "--output-path", str(out))
    assert done.returncode == 0, done.stdout + done.stderr
    return next(out.glob("*.tar.gz"))


@pytest.fixture(scope="session")
def installed(artefact, tmp_path_factory):
    """Return the artefact as ``ansible-galaxy collection install`` installs it into an empty folder."""
    made = Installed(tmp_path_factory.mktemp("installed"))
    done = made.run(made.root, "ansible-galaxy", "collection", "install", str(artefact), "-p", str(made.root))
    assert done.returncode == 0, done.stdout + done.stderr
    return made
