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


def test_links_without_a_rate_need_no_tbf(capable):
    capable(refuses="tbf")
    assert lab_plan.lacks(PARAMS, shaped=False) == ([], "loop")
    assert "lab_link_rate=unlimited does without tbf" in lab_plan.lacks(PARAMS)[0][0]
    capable(refuses="type veth")
    assert lab_plan.lacks(PARAMS, shaped=False)[0][0].startswith("veth links")


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


GPUS = [{"index": index, "name": "NVIDIA H200", "uuid": f"GPU-{index}", "minor": index} for index in range(4)]


@pytest.fixture
def sharing(monkeypatch, tmp_path):
    """Return a way to plan a lab on a machine with so many GPUs, an sshd and a serving environment."""
    program = tmp_path / "vllm/bin/vllm"
    program.parent.mkdir(parents=True)
    program.write_text("#!/bin/sh\necho OpenSSH_9 >&2\nexit 1\n")
    program.chmod(0o755)
    monkeypatch.setattr(lab_plan.lab_machine, "OWN", ("/dev",))  # the test's own folder is in /tmp

    def plan(present, nodes=2, **arguments):
        monkeypatch.setattr(lab_plan.lab_gpus, "of_machine", lambda: GPUS[:present])
        given = lab.plan("lab", nodes, "10.98.0.0/16", "1gbit")
        params = {"gpus": "auto", "root": "auto", "docker": "auto", "shm_size": "auto", "sshd": str(program), "dir": "/nonexistent"}
        wrong = lab_plan.share_gpus({**params, "gpu_env": str(tmp_path / "vllm"), **arguments}, given)
        return given, wrong

    return plan


def test_a_machine_without_gpus_carries_the_lab_it_always_did(sharing):
    plan, wrong = sharing(0, sshd="/nonexistent", gpu_env="/nonexistent")
    assert wrong == []
    assert (plan["root"], plan["gpus"], plan["shm_size"], plan["python"], plan["sshd"]) == ("built", 0, "4G", "/usr/bin/python3", None)
    assert [node["gpus"] for node in plan["nodes"]] == [[], []]


@pytest.mark.parametrize("asked", ["none", "0", "NONE"])
def test_gpus_may_be_left_alone(sharing, asked):
    plan, wrong = sharing(4, gpus=asked, sshd="/nonexistent", nodes=3)
    assert (plan["root"], plan["gpus"], wrong) == ("built", 0, [])


def test_gpus_are_shared_on_the_machines_root(sharing):
    plan, wrong = sharing(4)
    assert (plan["root"], plan["gpus"], plan["gpus_least"], plan["shm_size"], wrong) == ("machine", 4, 2, "16G", [])
    assert [[gpu["minor"] for gpu in node["gpus"]] for node in plan["nodes"]] == [[0, 1], [2, 3]]
    plan, _wrong = sharing(4, nodes=3, gpus="3", shm_size="8G")
    assert (plan["gpus"], plan["gpus_least"], plan["shm_size"]) == (3, 1, "8G")


def test_sshd_and_serving_environment_that_are_missing_are_both_said(sharing):
    _plan, wrong = sharing(4, sshd="/nonexistent", gpu_env="/nowhere")
    assert wrong[0].startswith("lab_sshd is /nonexistent")
    assert wrong[1].startswith("the serving environment: there is no program /nowhere/bin/vllm")


def test_an_sshd_without_its_libraries_is_not_taken(sharing):
    _plan, [wrong] = sharing(4, sshd="/bin/true")
    assert wrong.startswith("a working sshd: `/bin/true -V` ended with 0")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"root": "built"}, "lab_root is built"),
        ({"docker": "true"}, "no Docker engine"),
        ({"nodes": 5}, "only 4 GPUs"),
        ({"gpus": "9"}, "lists 4"),
    ],
)
def test_what_a_lab_with_gpus_cannot_have(sharing, arguments, words):
    with pytest.raises(lab.LabError, match=words):
        sharing(4, **arguments)


def test_what_is_known_to_be_missing_comes_with_the_rest(capable, monkeypatch):
    capable()
    monkeypatch.setattr(shutil, "which", lambda name, path=None: None if name in ("rsync", "tc") else "/bin/" + name)
    missing, _disk = lab_plan.lacks(PARAMS, True, ["an sshd"])
    assert missing[0].startswith("commands rsync, tc: apt-get install iproute2 rsync (where no package can be installed: unpack its files")
    assert missing[1:] == ["an sshd"]
