"""What the roles get of a machine's data, by their playbooks in check mode on this machine, where nothing is started."""

from __future__ import annotations

import ansible_runner
import pytest
import yaml
from project import ROOT
from skus import VARIABLES, table

H100 = "Standard_ND96isr_H100_v5"
# Each node is this machine and says otherwise which SKU it is: `auto` has not been told, and no health check found it.
NODES = {
    "h100": {"sku_name": "standard_nd96isr_h100_v5"},
    "auto": {},
    "h200": {
        "sku_name": " STANDARD_ND96ISR_H200_V5 ",
        "sku_overrides": {"standard_nd96isr_h200_v5": {"nccl": {"env": {"NCCL_PXN_DISABLE": None}}, "ib": {"write_min_gbit_s": 100}}},
    },
    "unknown": {"sku_name": "Standard_X"},
}


def inventory(nodes):
    """Return an inventory whose nodes all serve; its groups stand for those that select.yml makes."""
    base = {"ansible_connection": "local", "ansible_become": False, "ansible_python_interpreter": "{{ ansible_playbook_python }}"}
    hosts = {name: dict(base, ansible_host="127.0.0.%d" % number, **own) for number, (name, own) in enumerate(nodes.items(), 1)}
    return {group: {"hosts": hosts} for group in ("nodes", "serving", "usable")}


@pytest.fixture
def play(tmp_path):
    (tmp_path / "runner").mkdir()

    def run(playbook, nodes, cmdline="", **extravars):
        done = ansible_runner.run(
            private_data_dir=str(tmp_path / "runner"),
            project_dir=str(ROOT),
            playbook=str(playbook),
            inventory=inventory(nodes),
            cmdline="--check " + cmdline,
            extravars=extravars,
            envvars={
                "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
                "ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "plugins" / "callback"),  # ansible-runner replaces what ansible.cfg says
                "PLUMBLINE_RESULTS_DIR": str(tmp_path / "results"),
            },
            quiet=True,
        )
        # It is variables only: no task of its own on any node.
        assert "sku" not in {event["event_data"].get("role") for event in done.events}
        return done

    return run


def results(run, module):
    """Return ``{host: [result, ...]}`` of a module."""
    found = {}
    for event in run.events:
        data = event["event_data"]
        if event["event"] in ("runner_on_ok", "runner_on_failed") and data["task_action"] == module:
            found.setdefault(data["host"], []).append(data["res"])
    return found


def given(run, module):
    """Return ``{host: [arguments, ...]}`` with which a module was called."""
    return {host: [result["invocation"]["module_args"] for result in each] for host, each in results(run, module).items()}


def test_the_fabric_is_held_against_the_sku_whatever_its_case(play):
    run = play("playbooks/fabric.yml", {name: NODES[name] for name in ("h100", "auto", "h200")}, fabric_baseline_backend="nccl")
    called, torch, ports = given(run, "nccl_test"), given(run, "collective_torch"), given(run, "ib_write_bw")
    known = table()[H100]["nccl"]
    assert {name: len(called[name]) for name in called} == {"h100": 4, "auto": 2, "h200": 2}
    for arguments in called["h100"]:
        assert arguments["env"]["NCCL_NET"] == "IB" and arguments["env"] == known["env"] and arguments["mca"] == known["mca"]
        assert arguments["thresholds"] == list(known["thresholds"].values()) and len(arguments["thresholds"]) == 7
        assert arguments["expected_transport"] == {"across": "IB", "within": "P2P"}
    for arguments in torch["h100"]:
        assert arguments["env"]["NCCL_NET"] == "IB" and "UCX_TLS" not in arguments["env"]
        assert arguments["expected_transport"] == {"across": "IB", "within": "P2P"}
    for arguments in called["h200"]:
        assert arguments["env"]["NCCL_NET"] == "IB" and "NCCL_PXN_DISABLE" not in arguments["env"]
        assert [item["min_busbw_gbps"] for item in arguments["thresholds"]] == [431]
    for arguments in called["auto"]:
        assert arguments["env"] == arguments["mca"] == arguments["expected_transport"] == {} and arguments["thresholds"] == []
    said = {name: {(item["min_gbit_s"], item["expected_ports"]) for item in ports[name]} for name in ports}
    assert said == {"h100": {(380.0, 8)}, "auto": {(None, None)}, "h200": {(100.0, 8)}}


def test_a_given_name_that_is_not_known_is_an_error_that_says_so(play):
    run = play("playbooks/fabric.yml", NODES, "--limit unknown --tags fabric", fabric_baseline_backend="nccl")
    failed = results(run, "nccl_test")["unknown"]
    assert len(failed) == 4
    for result in failed:
        assert "sku_name is 'Standard_X', and that SKU is not known" in result["msg"] and H100 in result["msg"]


def test_the_health_of_a_node_is_judged_by_its_sku(play):
    overrides = {"lab": {"health": {"disk_free_min_bytes": 1}}}
    nodes = {"lab": {"sku_name": " LAB", "sku_overrides": overrides}, "wrong": {"sku_overrides": {"lab": {"health": {"cpu_cuont": 1}}}}}
    run = play("playbooks/health.yml", nodes, "--tags health")
    judged, wrong = (results(run, "node_health")[name][0] for name in ("lab", "wrong"))
    arguments = judged["invocation"]["module_args"]
    assert arguments["skus"]["lab"]["health"]["disk_free_min_bytes"] == 1 and arguments["skus"][H100] == table()[H100]
    assert judged["fact"]["context"]["sku"] == "lab"
    assert "unknown key 'health.cpu_cuont'" in wrong["msg"]


def test_a_benchmark_knows_what_its_gpus_read(play, tmp_path):
    context = {"program": "vllm", "container": "", "node_addresses": [], "runtime": "host", "url": "http://127.0.0.1:1"}
    variables = {
        "vllm_serve_startup": {"ready": True, "fact": {"context": context}},
        "vllm_serve_layout": {"name": "tp1", "tp": 1, "pp": 1, "nodes": 1, "executor": "mp"},
        "vllm_serve_model": "/nonexistent", "vllm_serve_served_name": "m", "vllm_serve_dtype": "auto", "vllm_serve_env": {},
        "vllm_serve_extra_args": [],
        "vllm_serve_work_dir": str(tmp_path / "work"),
    }  # fmt: skip
    tasks = [{"name": "Benchmark", "ansible.builtin.include_role": {"name": "serve_benchmark"}}]
    path = tmp_path / "benchmark.yml"
    path.write_text(yaml.safe_dump([{"hosts": "nodes", "gather_facts": False, "tasks": tasks}]))
    (arguments,) = given(play(path, {"head": {}}, **variables), "serve_benchmark")["head"]
    assert arguments["hbm_read_known"] == VARIABLES["__sku_gpus"] and arguments["hbm_read_known"]["NVIDIA H200"]["hbm_read_gbps"] == 4322
