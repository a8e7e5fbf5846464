"""Whether a layout really spans the nodes that it asks for."""

from __future__ import annotations

from ansible.module_utils.plumbline.core.fact import Measurement
from ansible.module_utils.plumbline.serving import span
from ansible.module_utils.plumbline.serving.ray import RayProbeError

LAYOUT = {"tp": 1, "pp": 2, "nodes": 2}
NODES = [{"address": "10.0.0.4", "node_id": "a", "slots": 1}, {"address": "10.0.0.5", "node_id": "b", "slots": 1}]
HEADER = "  sl  local_address rem_address   st\n"
TO_FIVE = "   0: 0400000A:9C40 0500000A:9C41 01 0 0 0\n"  # an established connection of 10.0.0.4 to 10.0.0.5


def cluster(*addresses):
    workers = [["RayWorkerWrapper", address, 100 + place] for place, address in enumerate(addresses)]
    return {"nodes": NODES, "workers": [*workers, ["Monitor", "10.0.0.4", 1]], "placement_groups": ["CREATED"]}


def by_ray(found):
    measurement = Measurement("startup", "x")
    span.name_ray_nodes(measurement, LAYOUT, lambda: found)
    return measurement


def test_workers_on_both_nodes_are_named():
    measurement = by_ray(cluster("10.0.0.4", "10.0.0.5"))
    assert measurement.reasons[0]["status"] == "healthy"
    assert measurement.context["ray_workers"] == [{"address": "10.0.0.4", "pid": 100}, {"address": "10.0.0.5", "pid": 101}]
    assert measurement.context["ray_nodes"] == NODES and measurement.context["placement_groups"] == ["CREATED"]


def test_a_layout_that_stays_on_one_node_fails():
    for addresses in (("10.0.0.4", "10.0.0.4"), ("10.0.0.4",), ()):
        assert by_ray(cluster(*addresses)).reasons[0]["status"] == "failed", addresses


def test_a_cluster_that_does_not_answer_leaves_it_open():
    def probe():
        raise RayProbeError("no answer within 60 s")

    measurement = Measurement("startup", "x")
    span.name_ray_nodes(measurement, LAYOUT, probe)
    assert measurement.reasons[0]["status"] == "incomplete" and "60 s" in measurement.reasons[0]["seen"]
    assert "ray_workers" not in measurement.context


def natively(table):
    measurement = Measurement("startup", "x")
    span.name_native_nodes(measurement, ["10.0.0.4", "10.0.0.5"], "/work/pp2", lambda: [HEADER + table])
    return measurement


def test_connections_name_the_nodes_of_a_native_layout():
    measurement = natively(TO_FIVE)
    assert measurement.reasons[0]["status"] == "healthy" and measurement.reasons[0]["remedy"] is None
    assert [item["connections"] for item in measurement.context["node_workers"]] == [None, 1]


def test_a_node_without_a_connection_takes_no_part_and_its_log_is_named():
    item = natively("").reasons[0]
    assert item["status"] == "failed" and item["remedy"] == "read worker-*.log in /work/pp2 on 10.0.0.5"
