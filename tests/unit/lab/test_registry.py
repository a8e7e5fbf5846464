"""The lab's registry: its files, its program, and what it is called. That it serves is in tests/integration/test_containers.py."""

from __future__ import annotations

import json
import os

import lab_registry as module
import pytest
from ansible.module_utils.plumbline.lab import host as lab_host
from ansible.module_utils.plumbline.lab import registry, store

BLOB = "docker/registry/v2/blobs/sha256/bb/bb85/data"
LINK = "docker/registry/v2/repositories/plumbline/vllm-cpu/_manifests/tags/lab/current/link"
DIGEST = "sha256:" + "f1" * 32


def write(path, text="x"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_lab_shares_blobs_with_the_cache_and_nothing_that_is_written_again(tmp_path):
    blob, link = write(tmp_path / "cache" / BLOB, "layer"), write(tmp_path / "cache" / LINK, "sha256:old")
    write(tmp_path / "lab/left-over")
    registry.fill(str(tmp_path / "cache"), str(tmp_path / "lab"))
    assert os.path.samefile(tmp_path / "lab" / BLOB, blob)
    (tmp_path / "lab" / LINK).write_text("sha256:new")
    assert link.read_text() == "sha256:old" and not (tmp_path / "lab/left-over").exists()


def test_on_another_file_system_blobs_are_copied(tmp_path, monkeypatch):
    write(tmp_path / "cache" / BLOB, "layer")
    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(18, "Invalid cross-device link")))
    registry.fill(str(tmp_path / "cache"), str(tmp_path / "lab"))
    assert (tmp_path / "lab" / BLOB).read_text() == "layer"


def test_without_an_image_it_starts_empty(tmp_path):
    registry.fill("", str(tmp_path / "lab"))
    assert os.listdir(tmp_path / "lab") == []


def test_a_root_filesystem_without_the_package_is_named(tmp_path):
    with pytest.raises(lab_host.HostError, match="the package docker-registry is not in .* add it to lab_packages"):
        registry.command(str(tmp_path), "/c.yml")


def test_the_program_runs_on_the_root_filesystems_own_library(tmp_path):
    write(tmp_path / "usr/bin/docker-registry")
    write(tmp_path / "lib64/ld-linux-x86-64.so.2")
    write(tmp_path / "usr/lib/x86_64-linux-gnu/libc.so.6")
    argv = registry.command(str(tmp_path), "/c.yml")
    assert argv == [
        str(tmp_path / "lib64/ld-linux-x86-64.so.2"), "--library-path", str(tmp_path / "usr/lib/x86_64-linux-gnu"),
        str(tmp_path / "usr/bin/docker-registry"), "serve", "/c.yml",
    ]  # fmt: skip


def test_it_listens_in_the_labs_network_only():
    assert json.loads(registry.config("10.98.255.254", "/files"))["http"] == {"addr": "10.98.255.254:5000"}


def test_the_image_is_called_by_its_digest_where_there_is_a_registry(tmp_path):
    params = {"image": str(tmp_path), "state": "present"}
    assert module.image_of(params) == "", "an image that was made without a registry"
    store.write_record(str(tmp_path), "plumbline/vllm-cpu:lab", "sha256:4aa5")
    store.write_digest(str(tmp_path), DIGEST)
    assert module.image_of(params) == "registry:5000/plumbline/vllm-cpu@" + DIGEST
    assert module.image_of(dict(params, state="absent")) == module.image_of(dict(params, image="")) == ""
