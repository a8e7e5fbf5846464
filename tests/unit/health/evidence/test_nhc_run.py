"""A run of Azure NHC by a stand-in script: its conf, its end, and what it leaves."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

import pytest
from ansible.module_utils.plumbline.health.checks.nhc import check_nhc
from ansible.module_utils.plumbline.health.evidence import nhc_conf, nhc_run
from nhc_mock import install


def test_conf_is_copied_and_never_changed(tmp_path):
    script = install(tmp_path)
    conf = tmp_path / "conf" / "nd96isr_h100_v5.conf"
    before = conf.read_text(), conf.stat().st_mtime_ns
    seen = nhc_run.run(script, str(tmp_path / "log"), "Standard_ND96isr_H100_v5", has_accelerated=True)
    assert seen["error"] is None and (conf.read_text(), conf.stat().st_mtime_ns) == before
    assert list(conf.parent.iterdir()) == [conf]
    assert seen["checks"] == ["check_gpu_xid", "check_hw_ib 100 mlx5_an0:1", "check_hw_eth eth1"]
    assert nhc_conf.conf_checks((tmp_path / "conf-used").read_text()) == seen["checks"]
    assert seen["conf"] != str(conf) and (tmp_path / "arguments").read_text().split()[:4] == ["-a", "-v", "-t", "1200"]
    # A size whose runner adds nothing.
    assert nhc_conf.copy_conf(str(conf), str(tmp_path / "copy"), True, "Standard_ND96isr_H200_v5") == ["check_gpu_xid"]


def test_a_run_that_hangs_is_ended_with_its_children(tmp_path):
    script = install(tmp_path, "sleep 300 &\necho $! > {folder}/child\nwait\n")
    started = time.monotonic()
    seen = nhc_run.run(script, str(tmp_path / "log"), "Standard_ND96isr_H100_v5", timeout_s=1, grace_s=0)
    assert time.monotonic() - started < 30
    assert seen["timed_out"] and "did not end within 1 s" in seen["error"]
    child = (tmp_path / "child").read_text().strip()
    state = Path("/proc", child, "stat")
    assert not state.exists() or state.read_text().split()[2] == "Z"


def test_what_docker_said_is_told(tmp_path):
    script = install(tmp_path, "echo 'docker: invalid spec: :/azure-nhc/syslog: empty section between colons.'; exit 125\n")
    seen = nhc_run.run(script, str(tmp_path / "log"), "Standard_ND96isr_H100_v5")
    assert seen["rc"] == 125 and "empty section between colons" in seen["error"]
    # Such a run leaves no log: the remedy names what is there.
    (item,) = check_nhc({"nhc": seen}, {})
    assert item["status"] == "incomplete" and not Path(seen["log"]).exists()
    assert (Path(item["remedy"].removeprefix("look into ")) / "output.txt").is_file()


@pytest.mark.parametrize(
    ("said", "remedy"),
    [
        ('docker: Error response from daemon: could not select device driver "" with capabilities: [[gpu]].', "NVIDIA container toolkit"),
        ('docker: Error response from daemon: Conflict. The container name "/aznhc" is already in use by container "0123".', "another NHC"),
        ("Cannot connect to the Docker daemon at unix:///var/run/docker.sock. Is the docker daemon running?", "start docker"),
        ("nvidia-container-cli: initialization error: nvml error: driver not loaded: unknown.", "load the NVIDIA driver"),
        ("ERROR NHC:  FATAL:  Can't write >>/x as root (uid 0) -- Read-only filesystem/device failure?", "read-only"),
    ],
)
def test_a_run_that_checked_nothing_has_a_remedy_of_its_own(tmp_path, said, remedy):
    script = install(tmp_path, "cat << 'END'\n%s\nEND\nexit 125\n" % said)
    (item,) = check_nhc({"nhc": nhc_run.run(script, str(tmp_path / "log"), "Standard_ND96isr_H100_v5")}, {})
    assert item["status"] == "incomplete" and remedy in item["remedy"] and "look into " in item["remedy"]


def test_old_runs_are_removed(tmp_path):
    script = install(tmp_path)
    for _attempt in range(nhc_run.KEEP_RUNS + 2):
        nhc_run.run(script, str(tmp_path / "log"), "Standard_ND96isr_H100_v5")
    assert len(list((tmp_path / "log").iterdir())) == nhc_run.KEEP_RUNS


def test_container_of_somebody_else_is_left_alone(tmp_path, monkeypatch):
    calls = tmp_path / "calls"
    docker = tmp_path / "mock-docker"
    docker.write_text('#!/bin/sh\necho "$@" >> %s\n[ $1 = inspect ] && echo 0123abcd /other/nhc.log /x\nexit 0\n' % calls)
    docker.chmod(0o755)
    monkeypatch.setattr(nhc_run.shutil, "which", lambda _name: str(docker))
    assert nhc_run.remove_container("/mine/nhc.log") is False
    assert " rm " not in " " + calls.read_text()
    assert nhc_run.remove_container("/other/nhc.log") is True
    assert calls.read_text().splitlines()[-1] == "rm -f 0123abcd"
    assert subprocess.run([str(docker), "x"], check=False).returncode == 0
