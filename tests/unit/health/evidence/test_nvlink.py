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
