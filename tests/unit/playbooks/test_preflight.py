"""What preflight says before anything is touched: through playbooks, on this machine under several names."""

from __future__ import annotations

import collections

import pytest
import yaml
from play_run import results, run_playbook
from project import ROOT

CHECK = "Check inventory, variables and controller"
LOCAL = {"ansible_connection": "local", "ansible_python_interpreter": "{{ ansible_playbook_python }}"}
TP1 = {"name": "tp1", "tp": 1, "pp": 1, "nodes": 1, "executor": "mp"}


def inventory(hosts, group="nodes", **variables):
    """Return an inventory of this machine under the names of ``hosts``, which have variables of their own."""
    return {group: {"hosts": hosts, "vars": {**LOCAL, **variables}}}


@pytest.fixture
def checked(tmp_path):
    """Return a function that runs a playbook and returns (runner, what preflight found)."""

    def run(where, cmdline="", playbook="playbooks/preflight.yml", **extravars):
        runner = run_playbook(tmp_path, playbook, where, cmdline, "checked", **extravars)
        found = results(runner, CHECK) or results(runner, "Check the variables of all nodes, where preflight did not")
        return runner, found[0].get("problems") if found else None

    run.folder = tmp_path
    return run


def own_playbook(checked, *plays):
    """Write a playbook of somebody's own and return its path."""
    path = checked.folder / "own.yml"
    path.write_text(yaml.safe_dump(list(plays)))
    return str(path)


def tasks_of(runner):
    """Return how many tasks each host had."""
    done = [event["event_data"] for event in runner.events if event["event"] in ("runner_on_ok", "runner_on_skipped", "runner_on_failed")]
    return collections.Counter(item["host"] for item in done)


def test_every_fault_of_every_host_is_told_before_anything_is_touched(checked):
    hosts = {
        "gpu1": {},
        "gpu2": {"vllm_serve_port": "eight", "vllm_serve_model": "{{ model_path }}/72b"},
        "gpu3": {"fabric_baseline_nccl_test": True, "gpu_clocks_mhz": "{{ 19 * 100 + extra_mhz }}", "extra_mhz": 80},
    }
    where = inventory(hosts, fabric_baseline_nccl_tests="false", vllm_serve_keep="{{ 'may' ~ 'be' }}", vllm_serve_layouts=None)
    runner, found = checked(where, "--tags health", "site.yml", gpu_clock_mode=1)
    assert runner.rc != 0
    assert found == [
        "vllm_serve_layouts is null (nothing after the colon), expected a list of layouts; [] serves none (on all 3 nodes)",
        "fabric_baseline_nccl_tests is 'false', expected auto, always or never (on all 3 nodes)",
        "vllm_serve_keep is 'maybe', expected true or false (on all 3 nodes)",
        "vllm_serve_model is the template '{{ model_path }}/72b', which cannot be resolved: 'model_path' is undefined (on gpu2)",
        "vllm_serve_port is 'eight', expected a whole number (on gpu2)",
        "gpu_clock_mode is read by nothing: did you mean gpu_clocks_mode? (on all 3 nodes)",
        "fabric_baseline_nccl_test is read by nothing: did you mean fabric_baseline_nccl_tests? (on gpu3)",
    ]
    # Nothing else ran, on no host.
    assert tasks_of(runner) == {"localhost": 1}


def test_sound_values_of_every_kind_pass(checked):
    hosts = {
        "gpu1": {"fabric_baseline_address": "{{ plumbline_address }}", "plumbline_address": "10.0.0.1"},
        # What only the run will know is not judged before.
        "gpu2": {
            "fabric_baseline_expected_clock_mhz": "{{ gpu_clocks_result.fact.context.requested_mhz }}",
            "fabric_baseline_interface": "{{ ansible_facts['default_ipv4'].interface }}",
            "fabric_baseline_across_nodes": "{{ groups['nodes'] | length }}",
            "vllm_serve_extra_args": "{{ ['--x'] if vllm_serve_layout.tp > 1 else [] }}",
            "lab_location": "rack 3",
        },
        # What Ansible gives every host.
        "gpu3": {
            "rack": 3,
            "vllm_serve_port": "{{ lookup('vars', 'rack') + 8000 }}",
            "vllm_serve_venv": "{{ ansible_playbook_python | dirname }}/{{ playbook_dir | basename }}/{{ inventory_hostname }}",
            "node_health_nvidia_smi": "{{ no_such_path | default(omit) }}",
            "node_health_nhc_conf": "{{ group_names | first }}",
            "gpu_clocks_timeout_s": "{{ 300 if ansible_check_mode else 200 }}",
        },
    }
    layouts = [{"name": "tp2", "tp": 2, "pp": 1, "nodes": 1, "executor": "mp"}]
    where = inventory(hosts, vllm_serve_layouts=layouts, model_sync_path="/m", vllm_serve_model="{{ model_sync_path }}")
    arguments = "-e vllm_serve_keep=false -e vllm_serve_timeout_s=600 -e fabric_baseline_link=no -e node_health_paths=/,/tmp"
    runner, found = checked(where, arguments)
    assert (runner.rc, found) == (0, [])


def test_variables_of_a_play_count_too(checked):
    play = {"import_playbook": str(ROOT / "playbooks/preflight.yml"), "vars": {"gpu_clocks_state": "looked", "node_health_nch": "never"}}
    runner, found = checked(inventory({"gpu1": {}}), "", own_playbook(checked, play))
    assert runner.rc != 0 and found == [
        "gpu_clocks_state is 'looked', expected locked, unlocked or reported",
        "node_health_nch is read by nothing: did you mean node_health_nhc?",
    ]


def test_what_the_nodes_say_of_their_number_counts_though_it_runs_for_localhost(checked):
    runner, (said,) = checked(inventory({"gpu1": {}, "gpu2": {}}, preflight_expected_nodes=3))
    assert runner.rc != 0 and "has 2 nodes (gpu1, gpu2), preflight_expected_nodes is 3" in said
    assert checked(inventory({"gpu1": {}, "gpu2": {}}, preflight_expected_nodes=3), preflight_expected_nodes=2)[0].rc == 0


@pytest.mark.parametrize(
    ("where", "words"),
    [
        (inventory({"localhost": {}}), ["a node is called localhost", "give it another name", "inventory/local"]),
        (inventory({"gpu1": {}, "gpu2": {}}, "workers"), ["'nodes' is empty", "workers (gpu1, gpu2)", "call their group 'nodes'"]),
        ({"all": {"hosts": {"gpu7": LOCAL}}}, ["ungrouped (gpu7)"]),
        (inventory({"gpu1": {}}, vllm_serve_layouts="tp1"), ["vllm_serve_layouts is str, expected a list of layouts"]),
        (inventory({"gpu1": {}}, vllm_serve_layouts=["tp1"]), ["vllm_serve_layouts[0] is str, expected a mapping"]),
        (
            inventory({"gpu1": {}}, vllm_serve_layouts=[dict(TP1, env=["HF_TOKEN=hf_0123456789"])]),
            ["env is ['HF_TOKEN=[scrubbed]", "a mapping of variables"],
        ),
        (inventory({"gpu1": {}}, vllm_serve_layouts=[None]), ["vllm_serve_layouts[0] is null (nothing after the dash)", "name, tp, pp"]),
    ],
)
def test_what_an_inventory_may_get_wrong_is_said_in_words(checked, where, words):
    runner, (said,) = checked(where)
    assert runner.rc != 0 and all(word in said for word in words), said


def test_tags_of_the_command_line_are_looked_at(checked):
    where = inventory({"gpu1": {}})
    assert checked(where, "--tags preflight")[0].rc == 0
    assert checked(where, "--tags validate --skip-tags verdict")[0].rc == 0
    runner, found = checked(where, "--tags helth,validate --skip-tags verdct")
    assert runner.rc != 0 and found == [
        "--tags helth: no task has this tag, did you mean health?",
        "--skip-tags verdct: no task has this tag, did you mean verdict?",
    ]
    # Somebody's own playbook has tags of its own.
    mine = {"hosts": "nodes", "gather_facts": False, "tags": ["healthz"], "tasks": [{"ansible.builtin.debug": {"msg": "mine"}}]}
    playbook = own_playbook(checked, {"import_playbook": str(ROOT / "playbooks/preflight.yml")}, mine)
    assert checked(where, "--tags healthz", playbook)[0].rc == 0


def test_with_limit_the_first_node_checks_for_all(checked):
    runner, found = checked(inventory({"gpu1": {}, "gpu2": {"vllm_serve_port": "x"}}), "--limit gpu1")
    assert runner.rc != 0 and found == ["vllm_serve_port is 'x', expected a whole number (on gpu2)"]


@pytest.mark.parametrize("phase", ["health", "clocks"])
def test_a_phase_by_itself_checks_the_variables_once(checked, phase):
    where = inventory({"gpu1": {}, "gpu2": {}}, gpu_clocks_state="looked", node_health_nhc="perhaps")
    runner, found = checked(where, "", "playbooks/%s.yml" % phase)
    assert runner.rc != 0 and len(found) == 2 and sum(tasks_of(runner).values()) == 1
    # Without preflight too.
    runner, found = checked(where, "--tags %s --skip-tags preflight" % phase, "site.yml")
    assert runner.rc != 0 and len(found) == 2


def test_a_lab_is_not_made_of_misspelt_variables(checked):
    runner, found = checked({"all": {"hosts": {"localhost": LOCAL}}}, "", "playbooks/lab_up.yml", lab_node=4, lab_disk="ssd")
    assert runner.rc != 0 and tasks_of(runner) == {"localhost": 1}
    assert found == ["lab_disk is 'ssd', expected auto, loop or tmpfs", "lab_node is read by nothing: did you mean lab_nodes?"]


def test_a_role_in_somebody_elses_play_still_validates(checked):
    playbook = own_playbook(checked, {"hosts": "nodes", "gather_facts": False, "roles": [str(ROOT / "roles/gpu_clocks")]})
    runner, _found = checked(inventory({"gpu1": {}}, gpu_clocks_state="looked"), "", playbook)
    assert runner.rc != 0
    said = "\n".join(event.get("stdout", "") for event in runner.events)
    assert "value of gpu_clocks_state must be one of: locked, unlocked, reported" in said


def test_validating_costs_a_node_no_more_than_four_tasks(checked):
    hosts = {name: {} for name in ("gpu1", "gpu2", "gpu3")}
    runner, found = checked(inventory(hosts, node_health_paths=["/tmp"]), "--tags validate --check", "site.yml")
    assert found == []
    counted = tasks_of(runner)
    # Of what runs once, the first node has a share; it is the same for any number of nodes.
    assert counted["gpu2"] <= 4 and counted["gpu3"] <= 4, counted
    assert not [
        event
        for event in runner.events
        if "Validating arguments" in str(event["event_data"].get("task")) and "gpu" in event["event_data"].get("host", "")
    ]


def test_preflight_of_64_nodes_takes_no_two_seconds(checked):
    """It takes 0.2 s beside Ansible's own start where nothing else runs; the bound leaves room for a machine that is shared."""
    hosts = {
        "n%02d" % number: {"plumbline_address": "10.0.0.%d" % number, "fabric_baseline_address": "{{ plumbline_address }}"}
        for number in range(64)
    }
    play = {"hosts": "localhost:nodes", "gather_facts": False, "tasks": [{"name": CHECK, "preflight_check": {}, "run_once": True}]}
    where = inventory(hosts, **yaml.safe_load((ROOT / "inventory/lab/group_vars/nodes.yml").read_text()) | {"preflight_expected_nodes": 64})
    runner, found = checked(where, "", own_playbook(checked, play), vllm_serve_model="/m/{{ inventory_hostname }}")
    assert (runner.rc, found) == (0, [])
    (took,) = [event["event_data"]["duration"] for event in runner.events if event["event"] == "runner_on_ok"]
    assert took < 2
