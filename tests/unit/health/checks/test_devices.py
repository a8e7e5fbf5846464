"""Devices that a SKU has and a node lacks."""

from __future__ import annotations

import shutil

from health_nodes import node, reasons, statuses


def test_missing_ib_device_interface_and_disk(root):
    for path in ("sys/class/infiniband/mlx5_ib6", "sys/class/net/ib6", "sys/block/nvme0n1"):
        shutil.rmtree(root / path)
    evidence = node(root)
    assert statuses(evidence) == {"ib.state": "failed", "net.interfaces": "failed", "nvme.count": "failed"}
    assert "missing: mlx5_ib6" in reasons(evidence)["ib.state"][0]["seen"]
    assert "missing: ib6" in reasons(evidence)["net.interfaces"][0]["seen"]
