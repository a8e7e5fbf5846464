"""The context of the execution environment, where ansible-builder is at hand; the project's own environment does not bring it."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest
from plumbline_collection.build import image_needs
from plumbline_collection.project import Project
from project import ROOT

BUILDER = shutil.which("ansible-builder") or next(iter(map(str, (ROOT / "build" / "builder" / "bin").glob("ansible-builder"))), None)


@pytest.mark.skipif(not BUILDER, reason="no ansible-builder: make image-context installs one")
def test_ansible_builder_makes_a_context_with_all_that_the_image_needs(tmp_path):
    for name in ("execution-environment.yml", "tools"):
        (tmp_path / name).symlink_to(ROOT / name)
    made = tmp_path / "build" / "collection"
    made.mkdir(parents=True)
    for name, text in image_needs(Project(ROOT)).items():
        (made / name).write_text(text)
    (made / "collection.tar.gz").write_bytes(b"the artefact")
    arguments = ["create", "--file", "execution-environment.yml", "--context", "image"]
    env = {**os.environ, "PATH": "%s:%s" % (Path(BUILDER).parent, os.environ["PATH"])}
    done = subprocess.run([BUILDER, *arguments], cwd=tmp_path, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (recipe,) = [path for path in (tmp_path / "image").iterdir() if path.name in ("Dockerfile", "Containerfile")]
    text = recipe.read_text()
    assert "ENV PIP_CONSTRAINT=/etc/plumbline/constraints.txt" in text and "ansible-core==" in text
    inside = tmp_path / "image" / "_build"
    assert (inside / "requirements.txt").read_text().split() == (made / "requirements-image.txt").read_text().split()
    assert "/build/plumbline/collection.tar.gz" in (inside / "requirements.yml").read_text()
    assert (inside / "plumbline" / "collection.tar.gz").read_bytes() == b"the artefact"
