"""The tables of pairs: a line a pair or a port, and who is to be looked at first."""

from __future__ import annotations

from ansible.module_utils.plumbline.controller.report.view.pairs import judged_lines, link_lines
from report_runs import NODES, pair, put, put_pairs, reason, whole_run


def test_a_pair_is_a_line_and_measured_against_the_others(records):
    files = whole_run()
    put(files, "node1", pair("node1", "node2", 1, 0.118))
    put(files, "node1", pair("node1", "node3", 2, None))
    whole, lost = link_lines(records(files).links)
    assert (whole["nodes"], whole["what"], whole["bandwidth"], whole["size"]) == (
        "node1 – node2",
        "all_reduce (gloo)",
        "0.118 GB/s",
        "4 MiB",
    )
    assert (whole["threshold"], whole["why"]) == ("the other pairs", None)
    assert (lost["status"], lost["bandwidth"], lost["why"]) == ("failed", "—", "lost node3")


def test_a_port_is_a_line_with_its_own_reason_and_rate(records):
    files = whole_run()
    one = pair("node1", "node2", 1, 1.0, status="failed")
    one["measured"] = {"ports": [{"port": "mlx5_0", "bandwidth_gbit_s": 20.0}, {"port": "mlx5_1", "bandwidth_gbit_s": None}]}
    one["context"].update(tool="ib_write_bw", op=None)
    one["reasons"] = [reason("link.mlx5_0", "failed", "20 Gbit/s", "at least 360 Gbit/s"), reason("link.mlx5_1", "healthy", "x", "a word")]
    put(files, "node1", one)
    slow, unknown = link_lines(records(files).links)
    assert (slow["what"], slow["status"], slow["bandwidth"]) == ("ib_write_bw mlx5_0", "failed", "20.0 Gbit/s")
    assert (slow["threshold"], slow["why"]) == ("at least 360 Gbit/s", "20 Gbit/s")
    assert (unknown["status"], unknown["bandwidth"], unknown["threshold"], unknown["why"]) == ("healthy", "—", "no baseline", None)


def test_suspects_come_first(records):
    files = whole_run()
    put_pairs(files, NODES, {("node1", "node2"): 0.118, ("node1", "node3"): 0.0024, ("node2", "node3"): 0.0025})
    lines = judged_lines(records(files).judged)
    assert [(line["node"], line["verdict"]) for line in lines] == [("node3", "suspect"), ("node1", "clear"), ("node2", "clear")]
    assert lines[0]["median"] == "0.00245 GB/s" and lines[0]["others"] == "0.118 GB/s"
