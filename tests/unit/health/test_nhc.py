"""Azure NHC: its log, what it owes, and a run of it by a stand-in script."""

from __future__ import annotations

import re
import subprocess
import time
from pathlib import Path

import pytest
from ansible.module_utils.plumbline.health import nhc_log as nhc
from ansible.module_utils.plumbline.health import nhc_run
from health_nodes import H100, H200, LOG, judged
from nhc_mock import ERROR, after, install


def without(*words):
    """Return the log without the lines that contain one of ``words``."""
    kept = [line for line in LOG.splitlines() if not any(word in line for word in words)]
    assert len(kept) < len(LOG.splitlines())
    return "\n".join(kept) + "\n"


def test_whole_log_is_read():
    read = nhc.parse(LOG)
    assert read["ran"] == [nhc.name_of(command) for command in H100["nhc_checks"]] and read["cut"] is None
    assert read["exit_code"] == 0 and read["physical_host"] == "PHYSHOST000001"
    metrics = read["metrics"]
    assert metrics["nccl_allreduce_gbps"] == 477.8
    assert metrics["ib_write_gbit_s"] == {"mlx5_ib%d" % number: 390.98 for number in range(8)}
    assert metrics["h2d_gbps"]["0"] == 55.1 and len(metrics["d2h_gbps"]) == 8
    assert metrics["p2p_gbps"]["0-1"] == 372.1 and len(metrics["p2p_gbps"]) == 56
    assert judged(LOG) == {}


def test_each_expected_check_that_left_no_line_is_incomplete():
    commands = re.findall(r'Running check:\s+"(.*?)"', LOG)
    assert [nhc.name_of(command) for command in commands] == H100["nhc_checks"]
    for command in commands:
        name = nhc.name_of(command)
        found = judged(without('Running check:  "%s"' % command))
        assert found.get("nhc." + name.split()[0]) == "incomplete", name


def test_each_success_line_that_is_missing_is_incomplete():
    for check in nhc.SAYS_PASS:
        said = {"check_gpu_bw": "check_nvBW_gpu_bw"}.get(check, check)
        found = judged(without("passed:  %s" % said))
        assert found == {"nhc." + check: "incomplete"}, check


def test_one_of_eight_ports_without_a_word_is_incomplete():
    assert judged(without("passed for IB=mlx5_ib3")) == {"nhc.check_ib_bw_gdr": "incomplete"}
    assert judged(without("mlx5_ib3, mlx5_ib3", "ib_write_lb_mlx5_ib3", "passed for IB=mlx5_ib3")) == {
        "nhc.check_ib_bw_gdr": "incomplete", "nhc.ib_write_gbit_s": "incomplete",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("running", "lines", "check", "words"),
    [
        # The same function goes on after it died under -a: ERROR and SUCCESS stand in the same log.
        ("check_gpu_ecc 2000", [ERROR + "check_ecc: GPU id 3: Row remap pending. FaultCode: NHC2007"], "check_gpu_ecc", "NHC2007"),
        (
            "check_gpu_count 8",
            [ERROR + "-e check_gpu_count: Expected to see 8 but found 7. FaultCode: NHC2009"],
            "check_gpu_count",
            "found 7",
        ),
        (
            "check_hw_ib 400 mlx5_ib3",
            [ERROR + "check_hw_ib:  No IB port mlx5_ib3:1 is ACTIVE (LinkUp 400 Gb/sec)."],
            "check_hw_ib",
            "mlx5_ib3",
        ),
        ("check_hw_eth ib2", [ERROR + "check_hw_eth:  Ethernet device ib2 not detected."], "check_hw_eth", "ib2"),
        (
            "check_nvlink_status",
            [
                ERROR + "check_nvlink_status: GPU 0 has nvlinks inactive:     Link 4: Inactive",
                "         Link 5: Inactive",
                "         Link 16: Inactive. FaultCode: NHC2016",
            ],
            "check_nvlink_status",
            "Link 16: Inactive. FaultCode: NHC2016",
        ),
        (
            "check_gpu_bw 48 335",
            [ERROR + "check_gpu_bw: P2P test on GPU 1 to GPU 0 failed. Bandwidth 256.63 is less than 335. FaultCode: NHC2020"],
            "check_gpu_bw",
            "256.63",
        ),
    ],
)
def test_error_beats_success_and_exit_code(running, lines, check, words):
    log = after(running, *lines)
    assert "exit code: 0" in log
    assert judged(log) == {"nhc." + check: "failed"}
    item = next(item for item in nhc.judge(nhc.parse(log), H100) if item["check"] == "nhc." + check and item["status"] == "failed")
    assert words in item["seen"]
    assert "hides the ERROR lines" in nhc.judge(nhc.parse(log), H100)[0]["seen"]


def test_nhcna_is_a_setup_error():
    died = "check_all_reduce_dependencies: all reduce executable path: /opt/x not found. FaultCode: NHCNA"
    log = after("check_nccl_allreduce 460", ERROR + died)
    assert judged(log) == {"nhc.check_nccl_allreduce": "incomplete"}


def test_warning_is_degraded_and_its_number_is_kept():
    near = "WARNING:  nhc:  Nearing a failure threshold:  check_gpu_bw: H2D test on GPU 2 has a bandwidth of 49.1 GB/s."
    near += " Expected threshold 48 GB/s."
    log = "\n".join(near if "H2D_GPU_2" in line else line for line in LOG.splitlines())
    assert judged(log) == {"nhc.check_gpu_bw": "degraded"}
    assert nhc.parse(log)["metrics"]["h2d_gbps"]["2"] == 49.1
    throttled = after("check_gpu_clock_throttling", "Warning: GPU 5 throttled, reason=0x0000000000000040")
    assert judged(throttled) == {"nhc.check_gpu_clock_throttling": "degraded"}


@pytest.mark.parametrize(
    ("old", "new", "check"),
    [
        ("nccl_all_red: 477.8", "nccl_all_red: 430.1", "nhc.nccl_allreduce_gbps"),
        ("ib_write_lb_mlx5_ib4: 390.98", "ib_write_lb_mlx5_ib4: 371.00", "nhc.ib_write_gbit_s"),
        ("H2D_GPU_6: 55.70", "H2D_GPU_6: 24.00", "nhc.h2d_gbps"),
        ("P2P_GPU_7_0: 372.70", "P2P_GPU_7_0: 21.00", "nhc.p2p_gbps"),
    ],
)
def test_numbers_are_judged_by_the_sku_whatever_the_nodes_conf_says(old, new, check):
    assert old in LOG
    assert judged(LOG.replace(old, new)) == {check: "failed"}


def test_p2p_that_nhc_left_out_is_incomplete():
    assert judged(without("P2P_GPU_")) == {"nhc.p2p_gbps": "incomplete"}


def test_a_log_that_ends_early():
    cut = LOG[: LOG.index('Running check:  "check_nvlink_status"') + 40]
    found = judged(cut)
    assert found["nhc"] == found["nhc.check_nvlink_status"] == found["nhc.check_ib_link_flapping"] == "incomplete"
    unexplained = LOG.replace("with exit code: 0.", "with exit code: 125.")
    assert judged(unexplained) == {"nhc": "incomplete"}


def test_h200_limits_differ():
    slower = LOG.replace("477.8", "440.0").replace("390.98", "365.00")
    assert set(judged(slower)) == {"nhc.nccl_allreduce_gbps", "nhc.ib_write_gbit_s"}
    found = judged(slower, H200)
    # The accelerated network's port and interface are in the H200's conf only.
    assert found == {"nhc.check_hw_ib": "incomplete", "nhc.check_hw_eth": "incomplete"}


# -- running it -------------------------------------------------------------------------------------------------


def test_conf_is_copied_and_never_changed(tmp_path):
    script = install(tmp_path)
    conf = tmp_path / "conf" / "nd96isr_h100_v5.conf"
    before = conf.read_text(), conf.stat().st_mtime_ns
    seen = nhc_run.run(script, str(tmp_path / "log"), "Standard_ND96isr_H100_v5", has_accelerated=True)
    assert seen["error"] is None and (conf.read_text(), conf.stat().st_mtime_ns) == before
    assert list(conf.parent.iterdir()) == [conf]
    assert seen["checks"] == ["check_gpu_xid", "check_hw_ib 100 mlx5_an0:1", "check_hw_eth eth1"]
    assert nhc.conf_checks((tmp_path / "conf-used").read_text()) == seen["checks"]
    assert seen["conf"] != str(conf) and (tmp_path / "arguments").read_text().split()[:4] == ["-a", "-v", "-t", "1200"]
    # A size whose runner adds nothing.
    assert nhc_run.copy_conf(str(conf), str(tmp_path / "copy"), True, "Standard_ND96isr_H200_v5") == ["check_gpu_xid"]


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
