"""What the benchmark of a layout is told."""

from __future__ import annotations

import pytest
from ansible.module_utils.plumbline.controller import benchmark_plan

SERVER = {
    "program": "vllm", "container": "plumbline-tp1", "url": "http://10.0.0.4:8000", "node_addresses": ["10.0.0.4"], "runtime": "docker",
    "image_id": "sha256:a", "vllm_version": "0.25.0", "pid": 4711, "log": "/work/tp1/server.log", "tp": 1,
}  # fmt: skip
GIVEN = {"runs": 5, "max_runs": 0, "sweep": [], "timeout_s": 600, "expected_clock_mhz": 0, "context": {"link": "400 Gbit/s"}}


def planned(server=SERVER, clocks=None, **given):
    return benchmark_plan.plan({"fact": {"context": server}}, clocks or {}, {**GIVEN, **given})


def test_the_server_is_found_where_its_start_says():
    plan = planned()
    assert [plan[key] for key in ("program", "container", "url", "server_pid", "server_log", "node_addresses")] == [
        "vllm", "plumbline-tp1", "http://10.0.0.4:8000", 4711, "/work/tp1/server.log", ["10.0.0.4"],
    ]  # fmt: skip


def test_what_was_noted_comes_with_what_the_start_knows():
    nodes = [{"address": "10.0.0.4", "slots": 8}]
    assert planned(dict(SERVER, ray_nodes=nodes))["context"] == {
        "link": "400 Gbit/s", "node_addresses": ["10.0.0.4"], "runtime": "docker", "image_id": "sha256:a", "vllm_version": "0.25.0",
        "ray_nodes": nodes,
    }  # fmt: skip
    assert planned()["context"]["ray_nodes"] == []


def test_check_mode_has_a_server_without_a_pid():
    bare = {key: SERVER[key] for key in ("program", "container", "url", "node_addresses", "runtime")}
    plan = planned(bare)
    assert plan["server_pid"] == 0 and plan["server_log"] == "/nonexistent"
    assert plan["context"]["image_id"] is None and plan["context"]["vllm_version"] is None


@pytest.mark.parametrize("given, calls", [
    ({}, 6), ({"max_runs": 15}, 16), ({"runs": "3", "max_runs": "0"}, 4), ({"sweep": [1, 4, 4, 16]}, 6 + 1 + 3),
])  # fmt: skip
def test_there_is_time_for_every_call_of_the_client(given, calls):
    assert planned(**given)["limit_s"] == 600 * calls + 300
    assert planned(**given, timeout_s="10")["limit_s"] == 10 * calls + 300


def clocks(status, mhz):
    return {"fact": {"status": status, "context": {"requested_mhz": mhz}}}


def test_the_clock_to_expect_is_the_one_given_or_the_one_that_was_locked():
    locked = clocks("healthy", 1980)
    assert planned(clocks=locked)["expected_mhz"] == 1980
    assert planned(clocks=locked, expected_clock_mhz="1830")["expected_mhz"] == 1830
    assert planned()["expected_mhz"] == 0


@pytest.mark.parametrize("result, mhz", [
    (clocks("degraded", 1980), 1980), (clocks("failed", 1980), 0), (clocks("skipped", 1980), 0), (clocks("healthy", None), 0),
    ({"fact": {"status": "healthy", "context": {}}}, 0), ({"skipped": True}, 0), ({"unreachable": True, "msg": "gone"}, 0), ({}, 0),
])  # fmt: skip
def test_a_lock_counts_only_when_it_was_proved(result, mhz):
    assert benchmark_plan.locked_mhz(result) == mhz
