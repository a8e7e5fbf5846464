"""nccl-tests' output in every known format: rows, checks, JSON schemas, and what must never be kept."""

from __future__ import annotations

import json

import pytest
from ansible.module_utils.plumbline.core.scrub import scrub_text
from ansible.module_utils.plumbline.fabric.nccl import output as nccl_output
from project import CAPTURES as ROOT

REAL, COMPOSED = ROOT / "h200", ROOT / "nccl_composed"


def text(path):
    return nccl_output.parse_text(path.read_text())


def document(path):
    return nccl_output.load_json(path.read_text())


def test_real_sweep():
    found = text(REAL / "nccl.all_reduce_perf.1gpu.sweep.txt")
    assert [row["size_bytes"] for row in found["rows"]] == [8 * 2**power for power in range(31)]
    assert found["problems"] == []
    assert (found["tests_version"], found["nccl_version"], found["program"]) == ("2.19.6", "2.28.9", "all_reduce_perf")
    assert (found["iterations"], found["warmup_iterations"], found["validation"]) == (20, 1, 1)
    assert found["devices"] == [{"rank": 0, "group": 0, "host": "vm", "device": 0, "pci": "0000:00:06", "name": "NVIDIA H200"}]
    assert found["out_of_bounds"] == {"count": 0, "ok": True}
    last = found["rows"][-1]
    assert last["out_of_place"]["time_us"] == 4021.33 and last["out_of_place"]["wrong"] == 0
    assert last["in_place"]["algbw_gbps"] == 6e6, "6e+06 is a number"
    assert last["root"] == -1


def test_real_sendrecv_is_not_checked_in_place():
    found = text(REAL / "nccl.sendrecv_perf.1gpu.txt")
    assert len(found["rows"]) == 8
    assert {row["in_place"]["wrong"] for row in found["rows"]} == {None}
    assert {row["out_of_place"]["wrong"] for row in found["rows"]} == {0}
    assert found["avg_busbw_gbps"] == 600.782


def test_real_output_with_the_log_in_between():
    found = text(REAL / "nccl.debug_info.1gpu.txt")
    assert [row["size_bytes"] for row in found["rows"]] == [16384]
    assert found["rows"][0]["out_of_place"]["time_us"] == 8.14
    assert found["problems"] == [] and found["out_of_bounds"]["ok"]


def test_real_json_schema_3():
    found = nccl_output.parse_json(document(REAL / "nccl.all_reduce_perf.1gpu.v3.json"))
    assert found["format"] == "json/3" and found["problems"] == []
    assert found["nccl_version"] == "2.28.9" and found["program"] == "all_reduce_perf"
    row = found["rows"][0]
    assert row["root"] == -1, "a string in JSON"
    assert row["out_of_place"] == {
        "time_us": 7.23625, "algbw_gbps": 1159.247953, "busbw_gbps": 0.0, "wrong": 0, "times_us": None,
    }  # fmt: skip
    assert found["out_of_bounds"] == {"count": 0, "ok": True}
    assert found["avg_busbw_gbps"] == 0.0


def test_unchecked_old_text_with_less_memory():
    found = text(COMPOSED / "composed.v2.13.unchecked.reduced.txt")
    assert found["reduced_max_bytes"] == 8589934592
    assert found["tests_version"] is None and found["validation"] == 0
    row = found["rows"][0]
    assert row["in_place"]["busbw_gbps"] == 475.87 and row["in_place"]["wrong"] is None
    assert found["devices"][0]["pci"] == "0x00"


def test_timestamps_and_wrong_results():
    found = text(COMPOSED / "composed.v2.17.timestamps.wrong.txt")
    assert [row["size_bytes"] for row in found["rows"]] == [8, 1048576]
    assert found["rows"][1]["out_of_place"]["wrong"] == 2000000, "2e+06 wrong elements"
    assert found["out_of_bounds"] == {"count": 1, "ok": False}
    assert found["problems"] == []


def test_per_iteration_columns_and_timestamps():
    found = text(COMPOSED / "composed.v2.19.6.per_iteration.txt")
    assert found["problems"] == [] and len(found["rows"]) == 2
    half = found["rows"][0]["in_place"]
    assert (half["time_us"], half["busbw_gbps"], half["wrong"]) == (7.0, 2.34, 0)
    assert (half["min_us"], half["max_us"], half["p99_us"]) == (6.8, 7.5, 7.5)


def test_a_row_that_the_log_cut_in_two_is_whole_again():
    found = text(COMPOSED / "composed.all_reduce.cut_rows.tagged.txt")
    assert found["problems"] == []
    assert [(row["size_bytes"], row["root"], row["in_place"]["time_us"]) for row in found["rows"]] == [(8192, -1, 19.9), (16384, -1, 20.5)]
    assert [item["host"] for item in found["devices"]] == ["7node", "7node"]


def test_log_lines_with_timestamp_and_source_are_taken_out():
    log = "[2026-11-23 23:52:26] vm:1:2 [0] NCCL INFO a\nrow 1\n"
    log += "vm:1:2 [0] plugin/net.cc:349 NCCL WARN b\nvm:1:2 [0] src/x.cc:1 (fn) NCCL WARN c\n"
    assert nccl_output.without_log(log) == "row 1\n"


def test_a_row_with_unknown_columns_is_a_problem_and_no_number():
    # nccl-tests before 2.13 had no root, and an error instead of a count.
    found = nccl_output.parse_text(
        "       16384          4096     float     sum    20.10    0.81    0.81  2e-07    19.90    0.82    0.82  2e-07\n"
    )
    assert found["rows"] == [] and "unknown columns" in found["problems"][0]


def test_a_test_that_failed_says_so():
    found = text(COMPOSED / "composed.all_reduce.2x8.net_ib_refused.txt")
    assert found["rows"] == [] and found["out_of_bounds"] is None
    assert any("Test NCCL failure" in problem for problem in found["problems"])


def test_misspelt_keys_of_the_first_json():
    found = nccl_output.parse_json(document(COMPOSED / "composed.v2.17.3.schema1.misspelt.json"))
    assert found["format"] == "json/1" and found["avg_busbw_gbps"] == 152.5
    assert len(found["devices"]) == 2 and found["devices"][1]["host"] == "vmssE6JHE7"
    assert found["nccl_version"] == "2.27.5"
    assert found["out_of_bounds"] == {"count": 0, "ok": True}


def test_json_with_wrong_results():
    found = nccl_output.parse_json(document(COMPOSED / "composed.v2.18.schema1.wrong.json"))
    assert found["out_of_bounds"] == {"count": 1, "ok": False}, '"false" is not true'
    assert found["rows"][1]["out_of_place"]["wrong"] == 3
    assert found["rows"][1]["in_place"]["wrong"] is None, "null is not checked, which is not 0"


def test_json_with_each_iteration():
    found = nccl_output.parse_json(document(COMPOSED / "composed.v2.19.2.schema2.per_iteration.json"))
    assert found["format"] == "json/2"
    assert found["rows"][0]["out_of_place"]["times_us"] == [120.0, 60.0, 60.0, 61.0]
    skipping = document(COMPOSED / "composed.v2.19.2.schema2.per_iteration.json")
    skipping["version"] = 3
    skipping["results"][0]["out_of_place_per_iter"]["skipped_iterations"] = 1
    assert nccl_output.parse_json(skipping)["rows"][0]["out_of_place"]["times_us"] == [60.0, 60.0, 61.0]


def test_an_unknown_schema_is_read_and_said():
    newer = dict(document(REAL / "nccl.all_reduce_perf.1gpu.v3.json"), version=4)
    found = nccl_output.parse_json(newer)
    assert len(found["rows"]) == 1 and "schema 4 is not known" in found["problems"][0]


def test_infinite_bandwidth_is_no_json_and_no_number():
    broken = '{"version":3,"results":[{"size":8,"count":2,"root":"-1","in_place":{"time":0.0,"alg_bw":inf,"bus_bw":-nan,"nwrong":0.0}}]}'
    half = nccl_output.parse_json(nccl_output.load_json(broken))["rows"][0]["in_place"]
    assert half["algbw_gbps"] is None and half["busbw_gbps"] is None and half["time_us"] == 0.0


def test_the_path_in_the_text_counts():
    assert nccl_output.json_path("# Writing JSON output to /tmp/a b/run0.json.3\n#\n") == "/tmp/a b/run0.json.3"
    assert nccl_output.json_path("# skipping json output; /x/y not accessible\n") is None


@pytest.mark.parametrize("path", [REAL / "nccl.all_reduce_perf.1gpu.v3.json", COMPOSED / "composed.v2.17.3.schema1.misspelt.json"])
def test_the_environment_is_never_kept(path):
    kept = json.dumps(nccl_output.scrubbed(document(path)))
    assert "env" not in json.loads(kept)
    for secret in ("hf_fake_token", "fake-secret", "HF_TOKEN"):
        assert secret not in kept
    assert '"results"' in kept and '"config"' in kept


def test_secrets_in_text_are_taken_out():
    line = "vm:1:1 [0] NCCL INFO x\nHF_TOKEN=hf_abcdefghijkl\n-x MY_API_KEY=123 -x NCCL_NET=IB password: hunter2 ghp_1234567890abc\n"
    kept = scrub_text(line)
    for secret in ("hf_abcdefghijkl", "123 ", "hunter2", "ghp_1234567890abc"):
        assert secret not in kept
    assert "NCCL_NET=IB" in kept and "NCCL INFO x" in kept


def test_text_and_json_of_different_runs_disagree():
    exact = document(REAL / "nccl.all_reduce_perf.1gpu.v3.json")
    found = nccl_output.combined((REAL / "nccl.debug_info.1gpu.txt").read_text(), dict(exact, results=exact["results"] * 2))
    assert "the text has 1 rows, the JSON 2" in found["problems"]


def test_options_of_a_build():
    assert nccl_output.supported("[-t,--nthreads <num threads>] \n\t[-N,--run_cycles <cycle count> run]\n\t[-J,--output_file <file>") == {
        "t",
        "N",
        "J",
    }


@pytest.mark.parametrize(("code", "name"), [(22809, "2.28.9"), (2804, "2.8.4"), ("21205", "2.12.5"), (None, None)])
def test_release(code, name):
    assert nccl_output.release(code) == name
