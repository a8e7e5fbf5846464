"""What ``nvidia-smi nvlink`` prints, by GPU and link."""

from __future__ import annotations

from ansible.module_utils.plumbline.health.evidence import nvlink
from health_nodes import NVLINK_E, NVLINK_S


def test_nvlink_is_read_by_gpu_and_link():
    gpus = nvlink.parse_status(NVLINK_S)
    assert [len(gpu["links"]) for gpu in gpus] == [18] * 8 and gpus[3]["links"][17] == 26.562
    errors = nvlink.parse_errors(NVLINK_E)
    assert errors[7]["counters"][17] == {"Replay Errors": 0, "Recovery Errors": 0, "CRC Errors": 0}
    inactive = "GPU 6: NVIDIA H100 80GB HBM3 (UUID: GPU-a)\nNVML: Unable to retrieve NVLink information as all links are inactive\n"
    assert nvlink.parse_status(inactive)[0]["all_inactive"] is True


def test_tool_that_fails_says_so(tmp_path):
    tool = tmp_path / "mock-nvidia-smi"
    tool.write_text("#!/bin/sh\necho 'Unable to determine the device handle'; exit 9\n")
    tool.chmod(0o755)
    seen = nvlink.collect(str(tool), 5)
    assert seen["status"] is None and "ended with 9: Unable to determine" in seen["said"][0]


def test_rates_and_raw_figures_are_no_error_counts():
    text = "GPU 0: NVIDIA B300\n\t Link 0: Symbol Errors: 2\n\t Link 0: Symbol BER: 15e-255\n\t Link 0: Tx discards: N/A\n"
    (gpu,) = nvlink.parse_errors(
        text + "\t Link 0: FEC Errors - 0: 361\n\t Link 0: Raw Errors Lane 0: 82\n\t Link 0: Raw BER Lane 0: 2061\n"
    )
    assert gpu["counters"] == {0: {"Symbol Errors": 2, "Tx discards": None}} and gpu["rates"] == {0: {"Symbol BER": 15e-255}}


def test_a_link_is_active_inactive_or_unreadable():
    (gpu,) = nvlink.parse_status("GPU 0: NVIDIA B200\n Link 0: 50 GB/s\n Link 1: <inActive>\n Link 2: 26,562 GB/s\n Link 3: 26.5\n")
    assert gpu["links"] == {0: 50.0, 1: 0.0} and gpu["unreadable"] == [2, 3]
