"""The log of Azure NHC, read whole."""

from __future__ import annotations

from ansible.module_utils.plumbline.health.evidence import nhc_conf, nhc_log
from health_nodes import H100, LOG, judged


def test_whole_log_is_read():
    read = nhc_log.parse(LOG)
    assert read["ran"] == [nhc_conf.name_of(command) for command in H100["nhc_checks"]] and read["cut"] is None
    assert read["exit_code"] == 0 and read["physical_host"] == "PHYSHOST000001"
    metrics = read["metrics"]
    assert metrics["nccl_allreduce_gbps"] == 477.8
    assert metrics["ib_write_gbit_s"] == {"mlx5_ib%d" % number: 390.98 for number in range(8)}
    assert metrics["h2d_gbps"]["0"] == 55.1 and len(metrics["d2h_gbps"]) == 8
    assert metrics["p2p_gbps"]["0-1"] == 372.1 and len(metrics["p2p_gbps"]) == 56
    assert judged(LOG) == {}
