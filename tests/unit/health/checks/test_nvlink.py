"""NVLinks with one thing broken, and where there are none."""

from __future__ import annotations

import pytest
from ansible.module_utils.plumbline.health.checks.nvlink import check_nvlink
from ansible.module_utils.plumbline.machine import nvidia
from health_nodes import NVLINK_E, NVLINK_S, XML, node, statuses


@pytest.mark.parametrize(
    ("status", "errors", "expected"),
    [
        (NVLINK_S.replace("\t Link 17: 26.562 GB/s\n", "", 1), NVLINK_E, {"gpu.nvlink": "failed"}),
        (NVLINK_S[: NVLINK_S.index("GPU 7")], NVLINK_E, {"gpu.nvlink": "incomplete"}),
        (NVLINK_S, NVLINK_E.replace("Link 3: CRC Errors: 0", "Link 3: CRC Errors: 12", 1), {"gpu.nvlink_errors": "degraded"}),
        (NVLINK_S, NVLINK_E[: NVLINK_E.index("GPU 7")], {"gpu.nvlink_errors": "incomplete"}),
        (NVLINK_S, "", {"gpu.nvlink_errors": "incomplete"}),
    ],
)
def test_broken_nvlink(root, status, errors, expected):
    assert statuses(node(root, nvlink_s=status, nvlink_e=errors)) == expected


def test_nvlink_where_none_is_expected():
    gpu = {"gpu": {"smi": nvidia.parse_xml(XML), "nvlink": {"status": [], "errors": [], "said": []}}}
    assert [item["status"] for item in check_nvlink(gpu, {})] == ["skipped"]
    assert [item["status"] for item in check_nvlink(gpu, {"gpu_nvlink_count": 0})] == ["skipped"]
    assert [item["status"] for item in check_nvlink(gpu, {"gpu_nvlink_count": 18})] == ["incomplete"] * 2
    assert check_nvlink({"gpu": {"smi": None}}, {"gpu_nvlink_count": 18}) == []
