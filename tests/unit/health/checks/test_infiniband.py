"""InfiniBand ports with one thing broken, and where there are none."""

from __future__ import annotations

import pytest
from ansible.module_utils.plumbline.health.checks.infiniband import check_ib
from ansible.module_utils.plumbline.health.evidence import infiniband
from health_nodes import H200, node, reasons, statuses, sysfs, write


@pytest.mark.parametrize(
    ("path", "text", "expected", "words"),
    [
        ("sys/class/infiniband/mlx5_ib4/ports/1/state", "1: DOWN", {"ib.state": "failed"}, "mlx5_ib4 is 1: DOWN"),
        ("sys/class/infiniband/mlx5_ib4/ports/1/rate", "200 Gb/sec (4X HDR)", {"ib.state": "failed"}, "mlx5_ib4 at 200 Gbit/s"),
        ("sys/class/infiniband/mlx5_ib4/ports/1/rate", "unknown", {"ib.state": "incomplete"}, "mlx5_ib4"),
        ("sys/class/infiniband/mlx5_ib4/ports/1/counters/link_downed", "1", {"ib.flaps": "degraded"}, "mlx5_ib4 lost its link 1"),
        ("sys/class/net/ib4/carrier_changes", "6", {"ib.flaps": "degraded"}, "carrier_changes 6"),
        ("sys/class/net/ib4/carrier_changes", "12", {"ib.flaps": "failed"}, "5 times"),
    ],
)
def test_broken_ib_port(root, path, text, expected, words):
    write(root, path, text)
    evidence = node(root)
    assert statuses(evidence) == expected
    assert words in str(reasons(evidence))


def test_ib_without_expectation_or_ports(tmp_path):
    assert [item["status"] for item in check_ib({"ib": []}, {})] == ["skipped"]
    assert [item["status"] for item in check_ib({"ib": []}, {"ib_ports": []})] == ["skipped"]
    sysfs(tmp_path)
    found = check_ib({"ib": infiniband.collect(str(tmp_path))}, {})
    assert [(item["check"], item["status"]) for item in found] == [("ib.state", "healthy"), ("ib.flaps", "healthy")]
    assert infiniband.collect(str(tmp_path / "nothing")) == []


def test_h200_wants_its_accelerated_network(root):
    found = check_ib({"ib": infiniband.collect(str(root))}, H200)
    assert {item["check"]: item["status"] for item in found} == {"ib.state": "healthy", "ib.flaps": "healthy", "ib.ethernet": "failed"}
