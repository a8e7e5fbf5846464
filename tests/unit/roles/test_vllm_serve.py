"""The tasks of serving in check mode, on this machine: plan, checks, what would be started, and that nothing is.

Only check mode: for real the role ends every serving process of the machine, whosever lab it is in.
"""

from __future__ import annotations

import os
import sys

import ansible_runner
import pytest
import yaml
from ansible.module_utils.plumbline.machine import net
from project import ROOT

NODES = {name: {"ansible_connection": "local", "ansible_python_interpreter": sys.executable} for name in ("node1", "node2")}
LAYOUTS = [
    {"name": "pp2_native", "tp": 1, "pp": 2, "nodes": 2, "executor": "mp", "env": {"OWN": "1"}},
    {"name": "too_wide", "tp": 1, "pp": 3, "nodes": 3, "executor": "ray"},
]
# Nodes of a layout over several cannot be on the loopback, which the check before the start says.
ADDRESS = net.machine_address() or net.LOOPBACK
PLAY = [
    {
        "name": "Serve",
        "hosts": "node1",
        "gather_facts": False,
        "tasks": [
            {
                "name": "Take one layout after the other",
                "ansible.builtin.include_tasks": str(ROOT / "playbooks/tasks/layout.yml"),
                "loop": "{{ vllm_serve_layouts }}",
                "loop_control": {"loop_var": "vllm_serve_layout"},
                "vars": {"vllm_serve_hosts": ["node1", "node2"], "vllm_serve_node_addresses": [ADDRESS, ADDRESS]},
            }
        ],
    }
]


@pytest.fixture(scope="module")
def checked(tmp_path_factory):
    """One run over both layouts in check mode, with a folder that nothing may be written to."""
    folder = tmp_path_factory.mktemp("serve")
    tools = folder / "venv/bin"
    tools.mkdir(parents=True)
    (tools / "vllm").write_text("#!/bin/sh\n")
    (tools / "vllm").chmod(0o755)
    (tools / "python").symlink_to(sys.executable)
    (folder / "model").mkdir()
    (folder / "model/config.json").write_text("{}")
    (folder / "serve.yml").write_text(yaml.safe_dump(PLAY))
    (folder / "runner").mkdir()
    run = ansible_runner.run(
        private_data_dir=str(folder / "runner"),
        project_dir=str(ROOT),
        playbook=str(folder / "serve.yml"),
        inventory={"nodes": {"hosts": NODES}},
        cmdline="--check",
        extravars={
            "vllm_serve_layouts": LAYOUTS, "vllm_serve_venv": str(folder / "venv"), "vllm_serve_model": str(folder / "model"),
            "vllm_serve_require_manifest": False, "vllm_serve_work_dir": str(folder / "work"), "vllm_serve_port": 18123,
            "vllm_serve_master_port": 18124, "vllm_serve_nvidia_smi": str(folder / "no-nvidia-smi"), "vllm_serve_env": {"MINE": "2"},
            "vllm_serve_cache_dir": str(folder / "cache"), "vllm_serve_keep": "true", "serve_benchmark_runs": 2,
        },
        envvars={
            "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
            "ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "plugins/callback"),
            "PLUMBLINE_RESULTS_DIR": str(folder / "results"),
            "PATH": os.environ["PATH"],
        },
        quiet=True,
    )  # fmt: skip
    run.folder = folder
    return run


def results(run, task):
    """Return what a task returned, in order; the items of a loop, but not their sum."""
    found = [event["event_data"] for event in run.events if event["event_data"].get("task") == task and "res" in event["event_data"]]
    return [data["res"] for data in found if "results" not in data["res"]]


def test_check_mode_fails_nothing_and_writes_nothing(checked):
    assert checked.rc == 0, [event.get("stdout") for event in checked.events][-30:]
    assert not checked.stats["rescued"] and not checked.stats["ignored"]
    assert sorted(path.name for path in checked.folder.iterdir()) == ["model", "runner", "serve.yml", "venv"]


def test_each_layout_has_a_plan_of_its_own(checked):
    first, second = results(checked, "Plan the layout")
    assert (first["hosts"], first["worker_hosts"]) == (["node1", "node2"], ["node2"])
    assert first["ports"] == {"port": 18123, "master_port": 18124} and first["layout_dir"].endswith("work/pp2_native")
    assert second["hosts"] == [] and second["slots"] == 1


@pytest.mark.skipif(ADDRESS == net.LOOPBACK, reason="over the loopback there are no two nodes")
def test_both_nodes_are_looked_at_and_the_second_would_start_headless(checked):
    looked = results(checked, "Check the layout's nodes")
    assert [item["node"]["address"] for item in looked] == [ADDRESS, ADDRESS]
    (worker,) = results(checked, "Start the headless nodes of a native layout")
    assert "--headless" in worker["command"] and "--node-rank 1" in worker["command"] and "MINE=2" in worker["command"]
    assert "OWN=1" in worker["command"] and "VLLM_CACHE_ROOT=%s/cache/host" % checked.folder in worker["command"]


@pytest.mark.parametrize("name", [layout["name"] for layout in LAYOUTS])
def test_server_and_benchmark_say_what_they_would_do(checked, name):
    (startup,) = results(checked, "Serve " + name)
    assert startup["fact"]["status"] == "skipped" and "would start: " in startup["fact"]["reasons"][0]["seen"]
    (benchmark,) = results(checked, "Benchmark " + name)
    assert benchmark["fact"]["status"] == "skipped" and "would run 2 runs: " in benchmark["fact"]["reasons"][0]["seen"]
    assert benchmark["fact"]["context"]["runtime"] == "host" and benchmark["fact"]["context"]["image_id"] is None


def test_a_layout_that_served_nothing_is_torn_down_though_the_last_was_to_be_kept(checked):
    # Before each layout and after it, on both nodes.
    task = "Leave no process and no container of a serving run on the nodes, and see the GPUs free"
    assert len(results(checked, task)) == 2 * 2 * len(LAYOUTS)
