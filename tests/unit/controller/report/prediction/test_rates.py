"""What was measured goes before what is known from elsewhere, and only what serving does stands for serving."""

from __future__ import annotations

import json

import pytest
from ansible.module_utils.plumbline.controller.report.data import entry
from ansible.module_utils.plumbline.controller.report.prediction.rates import Evidence, all_reduce, evidence, read_rate, served_share
from ansible.module_utils.plumbline.controller.report.prediction.token import Token
from ansible.module_utils.plumbline.controller.report.records.collectives import collectives
from project import ROOT
from report_runs import fact

H200 = "NVIDIA H200"
KNOWN = (4322, "measured elsewhere")


def token(tp, pp=1, nodes=1, executor="mp", message=16384):
    return Token(80, message, 1e11, 1e8, tp, pp, nodes, executor)


def baseline(host, *rates, **more):
    """Return the loaded fact of a node's GPUs; the numbers are made up."""
    gpus = [{"index": index, "mig": None, "read_gbps": rate, **more} for index, rate in enumerate(rates)]
    return entry(host, "gpu_baseline", "gpus", fact("gpu_baseline", "gpus", measured={"gpus": gpus}), [])


def served(*results, status="healthy", host="node1"):
    made = fact("collective", "serving_all_reduce", status, measured={"results": list(results)})
    return entry(host, "collective", "serving_all_reduce", made, [])


def result(tp=4, nodes=1, time_us=6.0, path="custom", method="cuda_graph", message_bytes=16384, **more):
    return {"tp": tp, "nodes": nodes, "time_us": time_us, "path": path, "method": method, "message_bytes": message_bytes, **more}


def seen(*entries):
    data = {"facts": list(entries)}
    return evidence(data, collectives(data))


def test_the_slowest_gpu_of_the_layouts_own_nodes_counts():
    found = seen(baseline("node1", 4300, 4150, None), baseline("node2", 4310), baseline("node3", 2000))
    rate, source = read_rate(found, ["node1", "node2"], KNOWN)
    assert rate == 4150 and "slowest of 3 GPUs, on node1" in source


@pytest.mark.parametrize("model, method, share", [
    (H200, "triton 8192 x 16, 8 warps", 0.943),
    (H200, "torch.sum", 1.0),  # a plain kernel: what serving reaches too
    (H200, None, 1.0),
    ("NVIDIA H100 80GB HBM3", "triton 8192 x 16, 8 warps", 1.0),
])  # fmt: skip
def test_serving_reads_less_than_the_fast_kernel_of_an_h200_and_the_rate_stays_what_it_is(model, method, share):
    found = seen(baseline("node1", 4583, model=model, read_method=method))
    assert served_share(found, ["node1"]) == pytest.approx(share, abs=0.001)
    assert read_rate(found, ["node1"])[0] == 4583 and served_share(found, ["node2"]) == 1.0


def test_what_is_known_of_a_gpu_stands_in_and_nothing_is_guessed():
    assert read_rate(seen(baseline("node3", 2000)), ["node1"], KNOWN) == KNOWN
    assert read_rate(seen(baseline("node1", 500, mig="1g.10gb")), ["node1"], KNOWN) == KNOWN
    rate, why = read_rate(Evidence(), None, None)
    assert rate is None and "GPU baseline" in why


def test_a_fact_that_breaks_its_schema_is_no_evidence():
    broken = dict(baseline("node1", 4000), problems=["$.measured: wrong"])
    assert read_rate(seen(broken), None, KNOWN) == KNOWN


def test_the_serving_runtimes_own_time_goes_first_and_the_slowest_node_counts():
    found = seen(served(result(time_us=6.0)), served(result(time_us=6.4), host="node2"))
    time_us, source = all_reduce(found, token(4), H200)
    assert time_us == 6.4 and "serving runtime's own by custom" in source


@pytest.mark.parametrize(
    "row",
    [
        result(method="eager"),
        result(wrong=3),
        result(tp=8),
        result(nodes=2),
        result(message_bytes=1024),
        result(time_us=None),
        result(message_bytes="16384"),
    ],
)
def test_a_row_of_another_kind_does_not_stand_for_it(row):
    assert all_reduce(seen(served(row)), token(4), H200)[0] == 4.9  # published


def test_a_failed_measurement_is_none():
    assert all_reduce(seen(served(result(), status="failed")), token(4), H200)[0] == 4.9


def test_a_layouts_own_row_goes_before_that_of_another():
    found = seen(served(result(time_us=6, layouts=["a"]), result(time_us=12, path="pynccl", layouts=["b"])))
    assert all_reduce(found, token(4), H200, layout="b")[0] == 12
    assert all_reduce(found, token(4), H200, layout="a")[0] == 6


def test_a_layout_that_vllm_spreads_over_nodes_itself_has_no_kernel_of_its_own():
    """Its groups are within a node, and take NCCL all the same; under Ray they take the kernel."""
    spread, ray = token(4, pp=2, nodes=2), token(4, pp=2, nodes=2, executor="ray")
    assert all_reduce(Evidence(), spread, H200)[0] == 11.0
    assert all_reduce(Evidence(), ray, H200)[0] == 4.9
    assert all_reduce(seen(served(result(time_us=6))), spread, H200)[0] == 11.0
    assert all_reduce(seen(served(result(time_us=9, path="pynccl"))), spread, H200)[0] == 9


def capture(name):
    made = json.loads((ROOT / "tests/captures" / name).read_text())
    return entry("node1", "collective", made["name"], made, [])


def test_nccl_in_a_graph_stands_for_what_takes_nccl_and_not_for_vllms_kernel():
    """Four real H200s: 16.3 µs at 16 KiB by torch in a CUDA graph."""
    found = seen(capture("h200x4/collective.all_reduce.within.json"))
    time_us, source = all_reduce(found, token(4), H200, custom=False)
    assert time_us == pytest.approx(16.3, abs=0.05) and "NCCL by torch" in source
    assert all_reduce(found, token(4), H200)[0] == 4.9
    # Of a GPU that nothing is published for, it is the best there is.
    assert all_reduce(found, token(4), "NVIDIA A100-SXM4-80GB")[0] == time_us
    # Other ranks, another message.
    assert all_reduce(found, token(2), H200, custom=False)[0] == 7.1
    assert all_reduce(found, token(4, message=2**26), H200, custom=False)[0] is None


def test_without_a_graph_a_time_is_the_hosts_and_stands_for_nothing():
    found = seen(capture("h200x2/collective.all_reduce.within.json"))
    assert all_reduce(found, token(2), H200, custom=False)[0] == 7.1


def test_over_nodes_nothing_is_guessed():
    time_us, why = all_reduce(Evidence(), token(4, nodes=2), H200)
    assert time_us is None and "over 2 nodes" in why and "fabric" in why
    assert all_reduce(Evidence(), token(16, nodes=2), "NVIDIA H100 80GB HBM3")[0] == 28
    assert all_reduce(Evidence(), token(1), H200) == (0.0, "")
