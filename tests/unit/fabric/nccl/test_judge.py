"""From rows to verdicts: what is measured, and each way in which it is bad."""

from __future__ import annotations

import pytest
from ansible.module_utils.plumbline.core.fact import Measurement
from ansible.module_utils.plumbline.fabric import sizes as collective_size
from ansible.module_utils.plumbline.fabric.nccl import command as nccl_command
from ansible.module_utils.plumbline.fabric.nccl import judge as nccl_judge
from ansible.module_utils.plumbline.fabric.nccl import output as nccl_output
from project import CAPTURES as ROOT

GIB = 2**30


def half(busbw, wrong=0, time_us=10.0):
    return {"time_us": time_us, "algbw_gbps": busbw, "busbw_gbps": busbw, "wrong": wrong, "times_us": None}


def line(size, inside=400.0, outside=401.0, wrong=0, time_us=10.0):
    return {"size_bytes": size, "out_of_place": half(outside, wrong, time_us), "in_place": half(inside, wrong, time_us)}


def result(rows, **changes):
    found = nccl_output.empty("text")
    found.update(iterations=20, rows=rows, out_of_bounds={"count": 0, "ok": True}, **changes)
    return found


def run(what, sizes):
    return {"what": what, "sizes": sizes, "options": {"-n": 20}, "json": None}


def reasons(judge, *args, measured=None):
    measurement = Measurement("collective", "x")
    measurement.measured = measured or {}
    judge(measurement, *args)
    return {item["check"]: item for item in measurement.reasons}


def real(name):
    return nccl_output.parse_text((ROOT / name).read_text())


# --- what is measured


def test_the_point_has_the_median_and_the_outlier_range():
    values = [484.0, 484.2, 346.0, 484.1, 399.0, 484.3, 484.1, 484.0]
    rows = [line(8 * GIB, inside=483.3, outside=value) for value in values]
    found = nccl_judge.measured("all_reduce", 16, 2, [(run("point", [8 * GIB] * 8), result(rows))])
    assert found["point"]["in_place"]["median"] == 483.3 and found["point"]["in_place"]["outliers"] == 0
    outside = found["point"]["out_of_place"]
    assert outside["median"] == pytest.approx(484.05)
    assert (outside["outliers"], outside["outlier_low"], outside["outlier_high"]) == (2, 346.0, 399.0)
    assert outside["busbw_gbps"] == values
    assert "sweep" not in found


def test_sweep_and_extra_sizes_are_one_sweep_in_order():
    results = [(run("sweep", [8, 16, 32]), result([line(8), line(16), line(32)])), (run("24 bytes", [24]), result([line(24)]))]
    found = nccl_judge.measured("all_reduce", 8, 1, results)
    assert [row["size_bytes"] for row in found["sweep"]] == [8, 16, 24, 32]
    row = found["sweep"][0]
    assert row["placement"] == "in_place" and row["busbw_gbps"] == 400.0 and row["time_us"] == {"mean": 10.0}
    assert row["out_of_place"]["busbw_gbps"] == 401.0 and row["in_place"]["wrong"] == 0
    assert found["latency_8b_mean_us"] == 10.0 and "latency_8b_us" not in found, "a mean is not called a median"
    assert found["peak_busbw_gbps"] == 400.0 and found["fit"]["sizes_used"] == 4 and found["fit"]["time_us"] == "mean"


def test_in_place_stands_for_a_row_only_where_it_means_something():
    assert nccl_judge.placement_of("all_reduce", 16) == "in_place"
    assert nccl_judge.placement_of("all_reduce", 1) == "out_of_place", "one rank in place moves nothing"
    assert nccl_judge.placement_of("sendrecv", 16) == "out_of_place", "never checked in place"


def test_each_iteration_gives_all_statistics():
    document = nccl_output.load_json((ROOT / "nccl_composed/composed.v2.19.2.schema2.per_iteration.json").read_text())
    found = nccl_judge.measured("all_reduce", 2, 1, [(run("sweep", [8388608, 16777216]), nccl_output.parse_json(document))])
    assert found["sweep"][0]["time_us"] == {"mean": 59.0, "min": 59.0, "median": 59.5, "p90": 100.6, "max": 118.0}
    timed = line(8)
    timed["in_place"]["times_us"] = [11.0, 9.0, 10.0, 30.0]
    found = nccl_judge.measured("all_reduce", 2, 1, [(run("sweep", [8]), result([timed]))])
    assert found["latency_8b_us"] == 10.5 and "latency_8b_mean_us" not in found and found["fit"] is None


def test_nothing_measured_is_nothing_made_up():
    assert nccl_judge.measured("all_reduce", 8, 1, [(run("sweep", [8]), nccl_output.empty("text"))]) == {"ranks": 8, "nodes": 1}


# --- completeness


def test_missing_rows_are_incomplete():
    found = reasons(
        nccl_judge.judge_completeness, [(run("sweep", [8, 16]), result([line(8)])), (run("point", [32] * 3), result([line(32)] * 2))]
    )
    assert found["collective.sweep"]["status"] == "incomplete"
    assert "3 of 5 rows, missing 16, 32 bytes" in found["collective.sweep"]["seen"]
    whole = reasons(nccl_judge.judge_completeness, [(run("sweep", [8, 16]), result([line(8), line(16)]))])
    assert whole["collective.sweep"]["status"] == "healthy" and len(whole) == 1


def test_reduced_memory_is_said_and_a_size_that_was_asked_for_by_itself_is_missing():
    reduced = real("nccl_composed/composed.v2.13.unchecked.reduced.txt")
    found = reasons(nccl_judge.judge_completeness, [(run("sweep", [8 * GIB, 16 * GIB]), reduced)])
    assert found["collective.memory"]["status"] == "degraded" and str(8 * GIB) in found["collective.memory"]["seen"]
    assert found["collective.sweep"]["status"] == "healthy"
    alone = reasons(nccl_judge.judge_completeness, [(run("point", [16 * GIB]), reduced)])
    assert alone["collective.sweep"]["status"] == "incomplete"


def test_no_run_at_all_is_incomplete():
    assert reasons(nccl_judge.judge_completeness, [])["collective.sweep"]["status"] == "incomplete"


# --- values


def test_wrong_results_fail():
    wrong = real("nccl_composed/composed.v2.17.timestamps.wrong.txt")
    found = reasons(nccl_judge.judge_values, "all_reduce", [(run("sweep", [8, 1048576]), wrong)])["collective.values"]
    assert found["status"] == "failed"
    assert "2000000 at 1048576 bytes out of place" in found["seen"] and "out of bounds values: 1" in found["seen"]


def test_out_of_bounds_alone_fails():
    bad = result([line(8)])
    bad["out_of_bounds"] = {"count": 3, "ok": False}
    assert reasons(nccl_judge.judge_values, "all_reduce", [(run("sweep", [8]), bad)])["collective.values"]["status"] == "failed"


def test_unchecked_results_and_a_missing_line_are_no_pass():
    unchecked = real("nccl_composed/composed.v2.13.unchecked.reduced.txt")
    assert reasons(nccl_judge.judge_values, "all_reduce", [(run("sweep", [8]), unchecked)])["collective.values"]["status"] == "incomplete"
    cut = result([line(8)])
    cut["out_of_bounds"] = None
    assert reasons(nccl_judge.judge_values, "all_reduce", [(run("sweep", [8]), cut)])["collective.values"]["status"] == "incomplete"


def test_real_outputs_are_right():
    for op, name in (("all_reduce", "h200/nccl.all_reduce_perf.1gpu.sweep.txt"), ("sendrecv", "h200/nccl.sendrecv_perf.1gpu.txt")):
        found = reasons(nccl_judge.judge_values, op, [(run("sweep", []), real(name))])
        assert found["collective.values"]["status"] == "healthy", found
    # The same N/A columns of an all-reduce would not pass.
    other = reasons(nccl_judge.judge_values, "all_reduce", [(run("sweep", []), real("h200/nccl.sendrecv_perf.1gpu.txt"))])
    assert other["collective.values"]["status"] == "incomplete"


# --- ranks


def test_a_build_without_mpi_is_found_out():
    alone = real("nccl_composed/composed.without_mpi.two_processes.txt")
    found = reasons(nccl_judge.judge_devices, [(run("sweep", [16384]), alone)], 2, 1)["collective.ranks"]
    assert found["status"] == "failed" and "MPI=1" in found["remedy"]
    assert reasons(nccl_judge.judge_devices, [(run("x", [8]), real("h200/nccl.debug_info.1gpu.txt"))], 1, 1) == {}
    assert reasons(nccl_judge.judge_devices, [(run("x", [8]), real("nccl_composed/composed.v2.19.6.per_iteration.txt"))], 2, 2) != {}


# --- thresholds

LIMIT = {"op": "all_reduce", "scope": "within", "ranks": 8, "size_bytes": 16 * GIB, "min_busbw_gbps": 460, "source": "NHC"}
EXPECT = {"op": "all_reduce", "scope": "across", "size_bytes": 8 * GIB, "expect_busbw_gbps": 478.9, "tolerance": 0.05, "source": "x"}
SMALL = {"op": "all_reduce", "scope": "within", "ranks": 8, "size_bytes": 16384, "expect_time_us": 16.6, "tolerance": 0.5}


def measured(ranks, nodes, rows, point=None):
    results = [(run("sweep", []), result(rows))]
    if point:
        results.append((run("point", [point[0]["size_bytes"]]), result(point)))
    return nccl_judge.measured("all_reduce", ranks, nodes, results)


@pytest.mark.parametrize(("busbw", "status"), [(482.5, "healthy"), (460.0, "healthy"), (459.9, "failed")])
def test_minimum(busbw, status):
    found = reasons(nccl_judge.judge_thresholds, [LIMIT], "all_reduce", "within", measured=measured(8, 1, [line(16 * GIB, inside=busbw)]))
    assert found["collective.baseline"]["status"] == status
    assert "NHC" in found["collective.baseline"]["threshold"]


def test_a_threshold_whose_size_was_not_measured_is_incomplete():
    found = reasons(nccl_judge.judge_thresholds, [LIMIT], "all_reduce", "within", measured=measured(8, 1, [line(8)]))
    assert found["collective.baseline"]["status"] == "incomplete"


def test_a_threshold_of_other_ranks_is_no_baseline():
    found = reasons(nccl_judge.judge_thresholds, [LIMIT], "all_reduce", "within", measured=measured(4, 1, [line(16 * GIB)]))
    assert found["collective.baseline"]["status"] == "skipped" and "no baseline" in found["collective.baseline"]["seen"]


@pytest.mark.parametrize(("busbw", "status"), [(478.0, "healthy"), (456.0, "healthy"), (454.0, "degraded")])
def test_expectation_prefers_the_median_of_the_point(busbw, status):
    data = measured(16, 2, [line(8 * GIB, inside=100.0)], point=[line(8 * GIB, inside=busbw)] * 3)
    found = reasons(nccl_judge.judge_thresholds, [EXPECT], "all_reduce", "across", measured=data)
    assert found["collective.expectation"]["status"] == status
    assert found["collective.baseline"]["status"] == "skipped", "an expectation is no baseline"


@pytest.mark.parametrize(("time_us", "status"), [(16.0, "healthy"), (24.9, "healthy"), (25.0, "degraded")])
def test_latency_of_the_decode_message(time_us, status):
    found = reasons(nccl_judge.judge_thresholds, [SMALL], "all_reduce", "within", measured=measured(8, 1, [line(16384, time_us=time_us)]))
    assert found["collective.latency"]["status"] == status


def test_the_average_bus_bandwidth_gates_nothing():
    low = result([line(16 * GIB, inside=480.0)], avg_busbw_gbps=1.0)
    measurement = Measurement("collective", "x")
    measurement.measured = nccl_judge.measured("all_reduce", 8, 1, [(run("sweep", [16 * GIB]), low)])
    nccl_judge.judge_thresholds(measurement, [LIMIT], "all_reduce", "within")
    assert [item["status"] for item in measurement.reasons] == ["healthy"]


# --- sizes and commands


def test_the_models_messages():
    found = collective_size.messages(8192, 2, [57, 2048])
    assert found == [
        {"what": "decode", "size_bytes": 16384},
        {"what": "prefill of 57 tokens", "size_bytes": 933888},
        {"what": "prefill of 2048 tokens", "size_bytes": 33554432},
    ]
    assert collective_size.messages(0, 2, [57]) == []
    assert collective_size.messages(127, 2, [])[0]["size_bytes"] == 256, "whole float32 elements"
    assert collective_size.merged([8, 16384, 64], found) == [8, 64, 16384, 933888, 33554432]
    for bad in ((-1, 2, []), (8192, 0, []), (8192, 2, [0])):
        with pytest.raises(ValueError, match="no message"):
            collective_size.messages(*bad)


def test_grid():
    sizes = collective_size.grid(8, 16 * GIB, 2)
    assert sizes[0] == 8 and sizes[-1] == 16 * GIB and len(sizes) == 32
    with pytest.raises(ValueError, match="never ends"):
        collective_size.grid(8, 64, 1)


PLAN = {
    "sizes": [8, 16, 32], "factor": 2, "extra": [24], "point_bytes": 64, "cycles": 3, "iterations": 20, "warmup": 5, "check": 1,
    "per_iteration": False,
}  # fmt: skip


def test_runs_of_a_plan():
    found = nccl_command.runs(PLAN, True)
    assert [item["what"] for item in found] == ["sweep", "24 bytes", "point"]
    assert [item["json"] for item in found] == ["run0.json", "run1.json", "run2.json"]
    argv = nccl_command.test_argv("/opt/t/all_reduce_perf", 1, found[2], {"-R": 1, "-t": None}, "/tmp/x")
    assert argv == "/opt/t/all_reduce_perf -g 1 -b 64 -e 64 -N 3 -n 20 -w 5 -c 1 -R 1 -J /tmp/x/run2.json".split()
    assert nccl_command.runs(dict(PLAN, sizes=[], extra=[], cycles=0), False) == []
    assert "-I" in nccl_command.runs(dict(PLAN, per_iteration=True), False)[0]["options"]


def test_mpirun_has_the_studys_flags_and_overrides_take_away():
    argv = nccl_command.mpirun_argv(
        "/opt/hpcx/ompi/bin/mpirun", 2, 8, "/tmp/hostfile", {"plm_rsh_no_tree_spawn": 1, "coll_hcoll_enable": 0, "btl": None},
        ["--bind-to", "none"], {"NCCL_NET": "IB", "NCCL_PXN_DISABLE": None, "UCX_TLS": ""}, ["LD_LIBRARY_PATH"], True,
    )  # fmt: skip
    assert (
        argv
        == (
            "/opt/hpcx/ompi/bin/mpirun --allow-run-as-root -np 16 --map-by ppr:8:node -hostfile /tmp/hostfile -mca plm_rsh_no_tree_spawn 1 "
            "-mca coll_hcoll_enable 0 --bind-to none -x LD_LIBRARY_PATH -x NCCL_NET=IB"
        ).split()
    )
    assert nccl_command.hostfile(["10.0.0.4", "10.0.0.5"], 8) == "10.0.0.4 slots=8\n10.0.0.5 slots=8\n"


def test_the_environment_is_what_the_inventory_says(tmp_path):
    mpirun = tmp_path / "hpcx" / "ompi" / "bin" / "mpirun"
    mpirun.parent.mkdir(parents=True)
    mpirun.write_text("#!/bin/sh\n")
    mpirun.chmod(0o755)
    around = {"PATH": "/usr/bin", "HF_TOKEN": "hf_secret", "NCCL_NET": "Socket", "NCCL_NVLS_ENABLE": "0", "LD_LIBRARY_PATH": "/a:/b"}
    env = nccl_command.base_environment(around, ["/nccl/lib", "/a"], str(mpirun))
    assert "HF_TOKEN" not in env and "NCCL_NET" not in env
    assert env["NCCL_NVLS_ENABLE"] == "0", "a shared machine turned multicast off"
    assert env["LD_LIBRARY_PATH"] == f"/nccl/lib:/a:{tmp_path}/hpcx/ompi/lib:/b"
    assert env["OPAL_PREFIX"] == f"{tmp_path}/hpcx/ompi"
    assert nccl_command.find_mpirun("", f"/nonexistent:{mpirun.parent}", ()) == str(mpirun)
    assert nccl_command.find_mpirun("", "/nonexistent", (f"{tmp_path}/hpcx*/ompi/bin/mpirun",)) == str(mpirun)
    assert nccl_command.find_mpirun("/nonexistent/mpirun", str(mpirun.parent), ()) is None, "a given path is not replaced"


def test_traffic_of_a_node():
    results = [(run("sweep", [1000]), result([line(1000)]))]
    # 2 placements x 20 iterations x 1000 bytes x 2 * 15 / 16
    assert nccl_judge.traffic("all_reduce", 16, 2, results) == int(2 * 20 * 1000 * 2 * 15 / 16)
    assert nccl_judge.traffic("all_reduce", 8, 1, results) == 0
