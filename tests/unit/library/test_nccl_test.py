"""The module against mocks of nccl-tests and mpirun: they speak the recorded format, and exist in these tests only.

The mock of the tests measures nothing: its times are 10 µs and a nanosecond for two bytes, so that every number can be foretold.
"""

from __future__ import annotations

import json

import pytest
from ansible.module_utils.plumbline.clocks import window as clocks_window
from ansible.module_utils.plumbline.fabric import transport
from ansible.module_utils.plumbline.fabric.nccl import command as nccl_command
from ansible.module_utils.plumbline.fabric.nccl import run as nccl_run
from ansible.module_utils.testing import patch_module_args
from clocks_mock import MockGpus
from jsonschema import Draft202012Validator
from project import ROOT

FACT = json.loads((ROOT / "docs/schema/fact.schema.json").read_text())
SCHEMA = json.loads((ROOT / "docs/schema/collective.schema.json").read_text())
LOGS = ROOT / "tests/captures"
REAL_LOG = "".join(
    line + "\n" for line in (LOGS / "h200/nccl.debug_info.1gpu.txt").read_text().splitlines() if "NCCL INFO" in line
)  # fmt: skip
IB_LOG = (LOGS / "nccl_composed/composed.all_reduce.2x8.ib.nccl.log").read_text()

MOCK_TEST = r"""#!/usr/bin/env python3
# A mock of all_reduce_perf: prints the format of nccl-tests 2.19.6, measures nothing.
import json, os, pathlib, sys
here = pathlib.Path(__file__).parent
mood = json.loads((here / "mood.json").read_text())
with open(here / "calls", "a") as calls:
    calls.write(json.dumps({"argv": sys.argv[1:], "env": dict(os.environ)}) + "\n")
if "-h" in sys.argv:
    print("USAGE: all_reduce_perf \n\t[-N,--run_cycles <n>] \n\t[-G,--cudagraph <num graph launches>] \n\t"
          + ("[-J,--output_file <file>] \n\t" if mood.get("json", True) else ""))
    sys.exit(0)
options = dict(zip(sys.argv[1::2], sys.argv[2::2]))
ranks, hosts = mood.get("ranks", 1), mood.get("hosts", ["vm"])
if "-J" in options:
    path = options["-J"]
    if mood.get("stale"):
        path += ".0"
    print("# Writing JSON output to " + path)
print("# nccl-tests version 2.19.6 nccl-headers=22809 nccl-library=22809")
print("# Collective test starting: all_reduce_perf")
print("# nThread 1 nGpus 1 minBytes %s maxBytes %s step: 2(factor) warmup iters: 5 iters: %s agg iters: 1 validation: 1 "
      "graph: %s unalign: 0"
      % (options["-b"], options["-e"], options["-n"], 0 if mood.get("ignores_graph") else options.get("-G", 0)))
print("# Using devices")
for rank in range(ranks):
    host = hosts[rank * len(hosts) // ranks]
    print("#  Rank %2d Group  0 Pid %6d on %10s device %2d [0000:00:06] NVIDIA H200" % (rank, 100 + rank, host, rank))
print((here / "log.txt").read_text(), end="")
if mood.get("fails") == options["-b"] or mood.get("fails") == "always" or ("-G" in options and mood.get("fails") == "graph"):
    print("vm:1:1 [0] plugin/net.cc:349 NCCL WARN Failed to initialize any NET plugin")
    print("vm: Test NCCL failure common.cu:1594 'invalid usage'")
    sys.exit(3)
size, last, rows = int(options["-b"]), int(options["-e"]), []
while size <= last:
    for _cycle in range(int(options.get("-N", 1))):
        time = (4 if "-G" in options else 10) + size / 2000
        speed = size / time / 1000
        wrong = mood.get("wrong_in_graph" if "-G" in options else "wrong", 0)
        print("%12d  %12d  %8s  %6s  %6d  %7.2f  %6.2f  %6.2f  %6g  %7.2f  %6.2f  %6.2f  %6g"
              % (size, size // 4, "float", "sum", -1, time, speed, speed, wrong, time, speed, speed, 0))
        rows.append({"size": size, "count": size // 4, "type": "float", "redop": "sum", "root": "    -1",
                     "out_of_place": {"time": time, "alg_bw": speed, "bus_bw": speed, "nwrong": float(wrong)},
                     "in_place": {"time": time, "alg_bw": speed, "bus_bw": speed, "nwrong": 0.0}})
    size *= int(options.get("-f", last + 1))
print("# Out of bounds values : 0 OK\n# Avg bus bandwidth    : 0 \n#")
if "-J" in options:
    devices = [{"rank": rank, "group": 0, "hostname": hosts[rank * len(hosts) // ranks], "device": rank, "device_info": "NVIDIA H200"}
               for rank in range(ranks)]
    json.dump({"version": 3, "args": sys.argv, "env": ["%s=%s" % item for item in os.environ.items()], "nccl_version": 22809,
               "config": {"iterations": int(options["-n"]), "validation": 1, "devices": devices,
                          "graph": 0 if mood.get("ignores_graph") else int(options.get("-G", 0))}, "results": rows,
               "out_of_bounds": {"count": 0, "okay": "true"}, "average_bus_bandwidth": {"bandwidth": 0.0, "okay": "unchecked"},
               "errors": [""]}, open(path, "w"))
"""

MOCK_MPIRUN = r"""#!/usr/bin/env python3
# A mock of mpirun: notes its arguments and its host file, and starts the test once.
import json, os, pathlib, sys
here = pathlib.Path(__file__).parent
argv = sys.argv[1:]
hosts = pathlib.Path(argv[argv.index("-hostfile") + 1]).read_text() if "-hostfile" in argv else ""
(here / "mpirun.json").write_text(json.dumps({"argv": argv, "hosts": hosts}))
start = next(place for place, part in enumerate(argv) if part.endswith("_perf"))
os.execv(argv[start], argv[start:])
"""


@pytest.fixture
def mocks(tmp_path, monkeypatch):
    folder = tmp_path / "mock-nccl-tests"
    folder.mkdir()
    for name, text in (("all_reduce_perf", MOCK_TEST), ("sendrecv_perf", MOCK_TEST), ("mock-mpirun", MOCK_MPIRUN)):
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)
    (folder / "mood.json").write_text("{}")
    (folder / "log.txt").write_text(REAL_LOG)
    monkeypatch.setattr(nccl_run, "gpus", lambda: 1)
    monkeypatch.setenv("HF_TOKEN", "hf_must_not_be_kept")
    return folder


def run(capsys, mocks, mood=None, check=False, **arguments):
    import nccl_test

    (mocks / "mood.json").write_text(json.dumps(mood or {}))
    arguments = {
        "op": "all_reduce", "scope": "within", "addresses": ["127.0.0.1"], "folder": str(mocks), "launcher": "none",
        "max_bytes": 1048576, **arguments,
    }  # fmt: skip
    with patch_module_args(dict(arguments, _ansible_check_mode=check)), pytest.raises(SystemExit):
        nccl_test.main()
    result = json.loads(capsys.readouterr().out)
    if "fact" not in result:
        return result
    Draft202012Validator(FACT).validate(result["fact"])
    Draft202012Validator(SCHEMA).validate(result["fact"])
    assert "hf_must_not_be_kept" not in json.dumps(result)
    assert "rc" not in result
    return result["fact"]


def status(fact, check):
    return next(item["status"] for item in fact["reasons"] if item["check"] == check)


def test_one_gpu_without_mpi(capsys, mocks):
    fact = run(capsys, mocks, hidden_size=8192, prompt_tokens=[57], point_bytes=524288, point_cycles=3)
    assert fact["name"] == "nccl_tests.all_reduce.within"
    assert fact["status"] == "healthy", fact["reasons"]
    sizes = [row["size_bytes"] for row in fact["measured"]["sweep"]]
    assert sizes == sorted([8 * 2**power for power in range(18)] + [933888])
    assert fact["measured"]["messages"][0] == {"what": "decode", "size_bytes": 16384}
    assert fact["measured"]["point"]["in_place"]["n"] == 3
    assert fact["measured"]["latency_8b_mean_us"] == pytest.approx(10, rel=1e-3) and "latency_8b_us" not in fact["measured"]
    assert fact["measured"]["fit"]["alpha_us"] == pytest.approx(10, rel=1e-3)
    assert fact["measured"]["fit"]["beta_gbps"] == pytest.approx(2, rel=1e-3)
    assert fact["context"]["output_format"] == "json/3" and fact["context"]["nccl_tests_version"] == "2.19.6"
    wire = fact["context"]["transport"]
    assert wire["verdict"] == "Socket" and wire["devices"] == [] and "NET/IB : No device found." in wire["evidence"]
    assert status(fact, "collective.transport") == "skipped" and status(fact, "collective.baseline") == "skipped"
    calls = [json.loads(line) for line in (mocks / "calls").read_text().splitlines()]
    assert len(calls) == 4, "usage, sweep, one size off the grid, point"
    for call in calls[1:]:
        assert call["env"]["NCCL_DEBUG_SUBSYS"] == "INIT,NET,ENV" and "HF_TOKEN" not in call["env"]
    assert "NCCL_NET" not in calls[1]["env"]
    assert fact["command"].startswith("NCCL_DEBUG=INFO ") and "-b 8 -e 1048576 -f 2" in fact["command"]


def test_a_build_without_json_gives_the_same_from_text(capsys, mocks):
    fact = run(capsys, mocks, {"json": False})
    assert fact["status"] == "healthy" and fact["context"]["output_format"] == "text"
    assert len(fact["measured"]["sweep"]) == 18 and "messages" not in fact["measured"], "no model, no messages"


def test_a_json_file_under_another_name_is_found(capsys, mocks):
    fact = run(capsys, mocks, {"stale": True})
    assert fact["status"] == "healthy" and fact["context"]["output_format"] == "json/3"


def test_infiniband_expected_and_socket_seen_fails(capsys, mocks):
    fact = run(capsys, mocks, expected_transport={"across": "IB"})
    assert status(fact, "collective.transport") == "failed" and fact["status"] == "failed"
    call = json.loads((mocks / "calls").read_text().splitlines()[1])
    assert call["env"]["NCCL_NET"] == "IB", "so that NCCL itself refuses the fallback"


def test_nccl_that_refuses_the_fallback_is_a_failed_run_with_its_words(capsys, mocks):
    fact = run(capsys, mocks, {"fails": "always"}, expected_transport={"across": "IB"})
    reason = next(item for item in fact["reasons"] if item["check"] == "collective.run")
    assert reason["status"] == "failed" and "Failed to initialize any NET plugin" in reason["seen"] and "status 3" in reason["seen"]
    assert "sweep" not in fact["measured"]


def test_a_later_run_that_fails_keeps_what_the_earlier_ones_measured(capsys, mocks):
    fact = run(capsys, mocks, {"fails": "933888"}, hidden_size=8192, prompt_tokens=[57])
    assert fact["status"] == "failed" and len(fact["measured"]["sweep"]) == 18
    assert status(fact, "collective.sweep") == "incomplete"


def test_the_negative_control(capsys, mocks):
    fact = run(capsys, mocks, force_socket=True, expected_transport={"across": "IB"}, env={"NCCL_NET": "IB"})
    assert fact["name"] == "nccl_tests.all_reduce.within.forced_socket" and fact["context"]["control"] == "forced socket"
    assert fact["status"] == "healthy", fact["reasons"]
    call = json.loads((mocks / "calls").read_text().splitlines()[1])
    assert call["env"]["NCCL_NET"] == "Socket" and call["env"]["NCCL_IB_DISABLE"] == "1"
    (mocks / "log.txt").write_text(IB_LOG)
    assert run(capsys, mocks, force_socket=True)["status"] == "failed", "a control that InfiniBand carried controls nothing"


def test_wrong_results_fail(capsys, mocks):
    fact = run(capsys, mocks, {"wrong": 2})
    assert status(fact, "collective.values") == "failed" and fact["status"] == "failed"


def reason_of(fact, check):
    return next((item for item in fact["reasons"] if item["check"] == check), None)


@pytest.mark.parametrize("json_written", [True, False])
def test_small_messages_in_a_graph_stand_beside_the_plain_ones(capsys, mocks, json_written):
    fact = run(capsys, mocks, {"json": json_written}, hidden_size=8192, prompt_tokens=[57], graph_launches=20, graph_max_bytes=65536,
               iterations=50, per_iteration=False)  # fmt: skip
    assert fact["status"] == "healthy", fact["reasons"]
    rows = {row["size_bytes"]: row for row in fact["measured"]["sweep"]}
    assert rows[16384]["graph_time_us"] == {"mean": pytest.approx(4 + 8.192, abs=0.01)}
    assert rows[16384]["time_us"]["mean"] == pytest.approx(10 + 8.192, abs=0.01), "the plain number is as it was"
    assert rows[16384]["graph_operations_per_sample"] == 1000
    assert "graph_time_us" in rows[65536] and "graph_time_us" not in rows[131072] and "graph_time_us" not in rows[933888]
    assert fact["measured"]["graph"]["option"] == "-G 20"
    assert fact["measured"]["latency_8b_graph_mean_us"] == pytest.approx(4, abs=0.01)
    last = json.loads((mocks / "calls").read_text().splitlines()[-1])["argv"]
    assert last[last.index("-G") + 1] == "20" and last[last.index("-e") + 1] == "65536" and "-I" not in last


def test_the_models_message_off_the_grid_is_measured_in_a_graph_by_a_run_of_its_own(capsys, mocks):
    fact = run(capsys, mocks, hidden_size=5120, graph_launches=20)
    row = next(row for row in fact["measured"]["sweep"] if row["size_bytes"] == 10240)
    assert row["graph_time_us"]["mean"] == pytest.approx(4 + 5.12, abs=0.01) and fact["status"] == "healthy"


@pytest.mark.parametrize(
    ("mood", "expected", "words"),
    [
        ({"fails": "graph"}, "degraded", "ended with status 3"),
        ({"ignores_graph": True}, "skipped", "do not say that they took -G"),
    ],
)
def test_a_graph_that_cannot_be_costs_no_plain_number(capsys, mocks, mood, expected, words):
    fact = run(capsys, mocks, mood, graph_launches=20)
    reason = reason_of(fact, "collective.graph")
    assert reason["status"] == expected and words in reason["seen"] and "plain numbers stand" in reason["seen"]
    assert fact["status"] in ("healthy", "degraded") and len(fact["measured"]["sweep"]) == 18
    assert not [row for row in fact["measured"]["sweep"] if "graph_time_us" in row] and "graph" not in fact["measured"]


def test_a_build_without_graphs_is_not_asked_for_one(capsys, mocks):
    program = mocks / "all_reduce_perf"
    program.write_text(program.read_text().replace("[-G,--cudagraph <num graph launches>]", ""))
    fact = run(capsys, mocks, graph_launches=20)
    assert reason_of(fact, "collective.graph")["status"] == "skipped" and fact["status"] == "healthy"
    assert "-G" not in (mocks / "calls").read_text()


def test_wrong_values_in_a_graph_fail(capsys, mocks):
    fact = run(capsys, mocks, {"wrong_in_graph": 3}, graph_launches=20)
    assert status(fact, "collective.values") == "failed" and fact["status"] == "failed"


def test_where_a_plain_run_failed_nothing_is_said_of_graphs(capsys, mocks):
    fact = run(capsys, mocks, {"fails": "always"}, graph_launches=20)
    assert fact["status"] == "failed" and reason_of(fact, "collective.graph") is None


def test_graphs_through_mpirun(capsys, two_nodes):
    fact = across(capsys, two_nodes, graph_launches=20)
    assert fact["status"] == "healthy", fact["reasons"]
    assert fact["measured"]["sweep"][0]["graph_time_us"] and "-G 20" in " ".join(
        json.loads((two_nodes / "mpirun.json").read_text())["argv"]
    )


def across(capsys, mocks, mood=None, **arguments):
    return run(
        capsys, mocks, {"ranks": 16, "hosts": ["vmssE6JHE7", "vmssAYZGM2"], **(mood or {})}, scope="across", launcher="mpirun",
        mpirun=str(mocks / "mock-mpirun"), addresses=["127.0.0.1", "127.0.0.2"], ranks_per_node=8,
        expected_transport={"across": "IB", "within": "P2P"}, mca={"plm_rsh_no_tree_spawn": 1, "coll_hcoll_enable": 0},
        env={"NCCL_MIN_NCHANNELS": 32, "NCCL_PXN_DISABLE": None}, test_options={"-R": 1}, **arguments,
    )  # fmt: skip


@pytest.fixture
def two_nodes(mocks, monkeypatch):
    (mocks / "log.txt").write_text(IB_LOG)
    monkeypatch.setattr(nccl_run, "gpus", lambda: 8)
    monkeypatch.setattr(nccl_run, "reaches", lambda address, env: None)
    readings = iter([{"lo": 0, "mlx5_ib0/1": 0}, {"lo": 1000, "mlx5_ib0/1": 10**12}])
    monkeypatch.setattr(transport, "snapshot", lambda interface: next(readings))
    return mocks


def test_two_nodes_through_mpirun_over_infiniband(capsys, two_nodes):
    fact = across(capsys, two_nodes)
    assert fact["status"] == "healthy", fact["reasons"]
    assert (fact["measured"]["ranks"], fact["measured"]["nodes"]) == (16, 2)
    for check in ("collective.transport", "collective.transport_within", "collective.transport_counters"):
        assert status(fact, check) == "healthy"
    assert fact["measured"]["sweep"][0]["placement"] == "in_place"
    started = json.loads((two_nodes / "mpirun.json").read_text())
    assert started["hosts"] == "127.0.0.1 slots=8\n127.0.0.2 slots=8\n"
    line = " ".join(started["argv"])
    for part in (
        "-np 16 --map-by ppr:8:node",
        "-mca plm_rsh_no_tree_spawn 1",
        "--bind-to none",
        "-x NCCL_NET=IB",
        "-x NCCL_MIN_NCHANNELS=32",
    ):
        assert part in line
    assert "NCCL_PXN_DISABLE" not in line and "all_reduce_perf -g 1" in line and "-R 1" in line


def test_counters_overrule_a_log_that_says_infiniband(capsys, two_nodes, monkeypatch):
    readings = iter([{"lo": 0, "mlx5_ib0/1": 0}, {"lo": 10**12, "mlx5_ib0/1": 1}])
    monkeypatch.setattr(transport, "snapshot", lambda interface: next(readings))
    fact = across(capsys, two_nodes, interface="lo")
    assert status(fact, "collective.transport") == "healthy" and status(fact, "collective.transport_counters") == "failed"


def test_a_build_without_mpi_across_nodes(capsys, two_nodes):
    fact = across(capsys, two_nodes, {"ranks": 1, "hosts": ["vmssE6JHE7"]})
    reason = next(item for item in fact["reasons"] if item["check"] == "collective.ranks")
    assert reason["status"] == "failed" and "MPI=1" in reason["remedy"]


def test_a_node_that_ssh_does_not_reach_is_named(capsys, two_nodes, monkeypatch):
    monkeypatch.setattr(nccl_run, "reaches", lambda address, env: "Permission denied (publickey).")
    fact = across(capsys, two_nodes)
    assert status(fact, "collective.ssh") == "failed" and "127.0.0.2: Permission denied" in fact["reasons"][0]["seen"]
    assert not (two_nodes / "mpirun.json").exists()


@pytest.fixture
def own_key(tmp_path):
    """The configuration of a key made for one run, in a folder as ssh_key makes it."""
    folder = tmp_path / "run-1"
    folder.mkdir()
    for name, text in (("config", "Host *\n"), ("id_ed25519", "PRIVATE"), ("until", "99999999999\n")):
        (folder / name).write_text(text)
    return folder / "config"


def test_mpirun_is_told_its_own_key_and_the_key_goes_with_the_measurement(capsys, two_nodes, own_key, monkeypatch):
    asked = []
    monkeypatch.setattr(nccl_run, "reaches", lambda address, env: asked.append(nccl_command.ssh_argv(env)))
    fact = across(capsys, two_nodes, ssh_config=str(own_key))
    assert fact["status"] == "healthy", fact["reasons"]
    env = [json.loads(line)["env"] for line in (two_nodes / "calls").read_text().splitlines()][-1]
    agent = f"ssh -F {own_key}"
    assert (env["OMPI_MCA_plm_rsh_agent"], env["PRTE_MCA_plm_ssh_agent"]) == (agent, agent)
    assert (env["OMPI_MCA_plm_rsh_no_tree_spawn"], env["PRTE_MCA_plm_ssh_no_tree_spawn"]) == ("1", "1")
    assert asked == [agent.split()] and f"OMPI_MCA_plm_rsh_agent='{agent}' " in fact["command"]
    assert not own_key.parent.exists()


def test_without_a_key_of_its_own_mpirun_takes_the_users_ssh(capsys, two_nodes):
    assert "plm_rsh_agent" not in across(capsys, two_nodes)["command"]
    env = json.loads((two_nodes / "calls").read_text().splitlines()[-1])["env"]
    assert not [name for name in env if "plm_" in name]
    assert nccl_command.ssh_argv({"OMPI_MCA_plm_rsh_agent": "pdsh -R ssh"}) == ["ssh"] == nccl_command.ssh_argv({})


def test_the_key_goes_when_the_measurement_fails_too(capsys, two_nodes, own_key, monkeypatch):
    monkeypatch.setattr(nccl_run, "reaches", lambda address, env: "Host key verification failed.")
    fact = across(capsys, two_nodes, ssh_config=str(own_key))
    reason = next(item for item in fact["reasons"] if item["check"] == "collective.ssh")
    assert reason["status"] == "failed" and "fabric_baseline_nccl_own_key" in reason["remedy"]
    assert not own_key.parent.exists()


def test_a_key_that_could_not_be_made_fails_and_no_other_key_is_tried(capsys, two_nodes, tmp_path, monkeypatch):
    monkeypatch.setattr(nccl_run, "reaches", lambda address, env: pytest.fail("asked by another key"))
    fact = across(capsys, two_nodes, ssh_config=str(tmp_path / "nothing/config"))
    assert status(fact, "collective.ssh") == "failed" and "no readable" in fact["reasons"][0]["seen"]
    assert not (two_nodes / "mpirun.json").exists()


def test_check_mode_leaves_the_key(capsys, two_nodes, own_key):
    across(capsys, two_nodes, ssh_config=str(own_key), check=True)
    assert own_key.exists()


def test_outputs_are_kept_without_the_environment(capsys, mocks, tmp_path):
    kept = tmp_path / "kept"
    run(capsys, mocks, output_dir=str(kept), env={"HF_TOKEN": "hf_given_by_mistake"})
    names = sorted(path.name for path in kept.iterdir())
    assert names == ["nccl_tests.all_reduce.within.sweep.json", "nccl_tests.all_reduce.within.sweep.txt"]
    for path in kept.iterdir():
        assert "hf_given_by_mistake" not in path.read_text()
    assert "env" not in json.loads((kept / names[0]).read_text())


def test_what_is_missing_is_said(capsys, mocks, monkeypatch):
    assert run(capsys, mocks, check=True)["reasons"][0]["check"] == "check_mode"
    assert status(run(capsys, mocks, folder="/nonexistent"), "collective.program") == "failed"
    assert status(run(capsys, mocks, ranks_per_node=8), "collective.gpu") == "failed"
    assert status(run(capsys, mocks, launcher="mpirun", mpirun="/nonexistent"), "collective.mpirun") == "failed"
    (mocks / "all_reduce_perf").write_text("#!/bin/sh\necho 'error while loading shared libraries: libnccl.so.2' >&2; exit 127\n")
    broken = run(capsys, mocks)
    assert status(broken, "collective.program") == "failed" and "libnccl.so.2" in broken["reasons"][0]["seen"]
    monkeypatch.setattr(nccl_run, "gpus", lambda: 0)
    gone = run(capsys, mocks)
    assert gone["status"] == "skipped" and gone["reasons"][0]["seen"] == "no GPU" and gone["measured"] == {}


def test_one_node_across_is_skipped(capsys, mocks):
    fact = run(capsys, mocks, scope="across", launcher="mpirun")
    assert fact["status"] == "skipped"


@pytest.mark.parametrize(
    ("arguments", "word"),
    [
        ({"addresses": ["a", "b"]}, "one address"),
        ({"scope": "across", "addresses": ["a", "a"], "launcher": "auto"}, "different addresses"),
        ({"scope": "across"}, "need mpirun"),
        ({"max_bytes": 0}, "nothing to measure"),
        ({"factor": 1}, "never ends"),
        ({"expected_transport": {"between": "IB"}}, "across and within"),
        ({"thresholds": [{"op": "all_reduce", "scope": "within", "size_bytes": 8}]}, "exactly one of"),
        ({"hidden_size": 8192, "prompt_tokens": [0]}, "no message"),
    ],
)
def test_arguments_that_make_no_sense(capsys, mocks, arguments, word):
    result = run(capsys, mocks, **arguments)
    assert result["failed"] and word in result["msg"]


def test_a_run_that_hangs_is_ended(capsys, mocks):
    (mocks / "all_reduce_perf").write_text(
        "#!/bin/sh\n[ \"$1\" = -h ] && echo 'USAGE: [-J,--output_file x]' && exit 0\necho '# still here'\nsleep 300\n"
    )
    fact = run(capsys, mocks, timeout_s=2)
    reason = next(item for item in fact["reasons"] if item["check"] == "collective.run")
    assert reason["status"] == "failed" and "not done after 2 s" in reason["seen"]


def test_clocks_are_watched_while_the_tests_run(capsys, mocks, tmp_path, monkeypatch):
    gpus = MockGpus(tmp_path)
    gpus.lock_by_us(1980)
    monkeypatch.setattr(clocks_window, "QUIET_S", 0.1)
    real = nccl_run.run

    def at_work(*arguments):
        gpus.work()
        return real(*arguments)

    monkeypatch.setattr(nccl_run, "run", at_work)
    fact = run(capsys, mocks, clock_window=gpus.window())
    assert fact["status"] == "healthy", fact["reasons"]
    seen = fact["context"]["clocks"]
    assert seen["expected_mhz"] == 1980 and seen["expected_from"] == "record" and seen["window_s"] >= 0.5
    assert seen["gpus"]["0001:00:00.0"]["sm_mhz"]["median"] == 1980 and status(fact, "clocks.lock") == "healthy"
    gpus.lock(None)
    fact = run(capsys, mocks, clock_window=gpus.window())
    assert fact["status"] == "failed" and status(fact, "clocks.lock") == "failed"
    assert len(fact["measured"]["sweep"]) == 18, "what was measured is kept"


def test_a_driver_that_does_not_answer_leaves_the_numbers_and_is_said(capsys, mocks, tmp_path):
    broken = tmp_path / "mock-nvidia-smi"
    broken.write_text("#!/bin/sh\nexit 9\n")
    broken.chmod(0o755)
    fact = run(capsys, mocks, clock_window={"nvidia_smi": str(broken)})
    assert status(fact, "clocks.window") == "skipped" and status(fact, "collective.values") == "healthy"
    assert len(fact["measured"]["sweep"]) == 18 and fact["context"]["clocks"]["gpus"] == {}


def test_without_a_driver_the_clocks_are_none_of_its_business(capsys, mocks, tmp_path, monkeypatch):
    monkeypatch.setattr("ansible.module_utils.plumbline.machine.nvidia.is_present", lambda found: False)
    fact = run(capsys, mocks)
    assert fact["status"] == "healthy" and fact["context"]["clocks"] == {"status": "skipped", "seen": "no GPU"}


def test_line_rate_is_that_of_the_interface(capsys, mocks, monkeypatch):
    monkeypatch.setattr("ansible.module_utils.plumbline.machine.net.line_rate_gbit_s", {"lo": 25.0}.get)
    fact = run(capsys, mocks, interface="lo")
    assert (fact["context"]["interface"], fact["context"]["link_rate_gbit_s"]) == ("lo", 25.0)


def test_report_takes_the_mean_latency_where_there_is_no_median(capsys, mocks):
    from ansible.module_utils.plumbline.controller.report.records.collectives import collectives

    fact = run(capsys, mocks)
    entry = {"kind": "collective", "name": fact["name"], "host": "node1", "file": "x", "fact": fact, "problems": []}
    [record] = collectives({"facts": [entry]})
    assert record["latency_8b_us"] == fact["measured"]["latency_8b_mean_us"]
