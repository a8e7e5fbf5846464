"""What a machine that cannot carry the lab is told. The modules run for real in tests/integration/test_lab.py."""

import os
import shutil

import lab_plan
import pytest
from ansible.module_utils.plumbline.lab import plan as lab

PARAMS = {"cached": False, "disk": "auto", "docker": "auto", "need_bytes": 0, "cache_dir": "/nonexistent/cache"}


@pytest.fixture
def capable(monkeypatch):
    """Return a way to describe a machine: root, with all commands, on which each script works unless told."""

    def machine(uid=0, absent=(), refuses=None):
        monkeypatch.setattr(os, "geteuid", lambda: uid)
        monkeypatch.setattr(shutil, "which", lambda name: None if name in absent else "/bin/" + name)
        monkeypatch.setattr(lab_plan, "private", lambda script, **_env: "no such" if refuses and refuses in script else None)

    return machine


def test_a_capable_machine(capable):
    capable()
    assert lab_plan.lacks(PARAMS) == ([], "loop")


def test_without_root(capable):
    capable(uid=1000)
    missing, _disk = lab_plan.lacks(PARAMS)
    assert missing == ["root: you are uid 1000; run again as root (for example with sudo)"]
    assert "inventory/static" in lab.explain(missing)


def test_missing_commands_come_with_their_packages(capable):
    capable(absent=("tc", "ip", "debootstrap"))
    missing, _disk = lab_plan.lacks(PARAMS)
    assert missing == ["commands debootstrap, ip, tc: apt-get install debootstrap iproute2"]


def test_building_tools_are_not_needed_with_a_full_cache(capable):
    capable(absent=("debootstrap",))
    assert lab_plan.lacks(dict(PARAMS, cached=True)) == ([], "loop")


@pytest.mark.parametrize(
    ("script", "words"), [("overlay", "overlay file system"), ("tbf", "shaped with tbf"), ("type bridge", "network bridges")]
)
def test_missing_kernel_features(capable, script, words):
    capable(refuses=script)
    [message] = lab_plan.lacks(PARAMS)[0]
    assert words in message
    assert "no such" in message


def test_no_namespaces(capable):
    capable(refuses="true")
    [message] = lab_plan.lacks(PARAMS)[0]
    assert message.startswith("network and mount namespaces")


def test_no_loop_devices(capable):
    capable(refuses="mount -o loop")
    assert lab_plan.lacks(PARAMS) == ([], "tmpfs")
    assert "loop devices" in lab_plan.lacks(dict(PARAMS, disk="loop"))[0][0]


def test_no_room(capable):
    capable()
    [message] = lab_plan.lacks(dict(PARAMS, need_bytes=2**60))[0]
    assert "free for /nonexistent/cache, expected 1073741824.0 GiB" in message


def test_no_cgroups_for_engines_is_refused_only_where_engines_were_asked_for(capable, monkeypatch):
    capable()
    monkeypatch.setattr(lab_plan.lab_cgroups, "lacks", lambda: "no cgroups are mounted at /sys/fs/cgroup")
    assert lab_plan.lacks(PARAMS) == ([], "loop")
    [message] = lab_plan.lacks(dict(PARAMS, docker="true"))[0]
    assert "no cgroups are mounted at /sys/fs/cgroup" in message
    assert "lab_docker: false" in message
