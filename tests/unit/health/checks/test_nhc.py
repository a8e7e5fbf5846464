"""Azure NHC: what its log owes, and what its lines and numbers mean."""

from __future__ import annotations

import re

import pytest
from ansible.module_utils.plumbline.health.checks import nhc
from ansible.module_utils.plumbline.health.evidence import nhc_conf, nhc_log
from health_nodes import H100, H200, LOG, judged
from nhc_mock import ERROR, after


def without(*words):
    """Return the log without the lines that contain one of ``words``."""
    kept = [line for line in LOG.splitlines() if not any(word in line for word in words)]
    assert len(kept) < len(LOG.splitlines())
    return "\n".join(kept) + "\n"


def test_each_expected_check_that_left_no_line_is_incomplete():
    commands = re.findall(r'Running check:\s+"(.*?)"', LOG)
    assert [nhc_conf.name_of(command) for command in commands] == H100["nhc_checks"]
    for command in commands:
        name = nhc_conf.name_of(command)
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
    item = next(item for item in nhc.judge(nhc_log.parse(log), H100) if item["check"] == "nhc." + check and item["status"] == "failed")
    assert words in item["seen"]
    assert "hides the ERROR lines" in nhc.judge(nhc_log.parse(log), H100)[0]["seen"]


def test_nhcna_is_a_setup_error():
    died = "check_all_reduce_dependencies: all reduce executable path: /opt/x not found. FaultCode: NHCNA"
    log = after("check_nccl_allreduce 460", ERROR + died)
    assert judged(log) == {"nhc.check_nccl_allreduce": "incomplete"}


def test_warning_is_degraded_and_its_number_is_kept():
    near = "WARNING:  nhc:  Nearing a failure threshold:  check_gpu_bw: H2D test on GPU 2 has a bandwidth of 49.1 GB/s."
    near += " Expected threshold 48 GB/s."
    log = "\n".join(near if "H2D_GPU_2" in line else line for line in LOG.splitlines())
    assert judged(log) == {"nhc.check_gpu_bw": "degraded"}
    assert nhc_log.parse(log)["metrics"]["h2d_gbps"]["2"] == 49.1
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
