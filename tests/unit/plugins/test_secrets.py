"""No secret reaches what a run prints or keeps: -vvv, a JSON stdout, ansible-runner's artefacts, the facts.

Check mode, as in ``roles/test_vllm_serve.py``: for real the role ends every serving process of the machine. What check mode leaves out, the
modules' own failures and starts, is asked of the modules themselves below.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import ansible_runner
import pytest
import yaml
from action_run import run_action
from project import ROOT

SECRETS = {
    "role": "hf_roleTokenMadeUp123456",
    "layout": "plainWordsOfALayout77",
    "option": "keyGivenAsAnOption4711",
    "equals": "keyGivenWithEquals4711",
    "ray": "rayPasswordMadeUp99",
    "short": "q7x",
}
LAYOUTS = [
    {
        "name": "native", "tp": 1, "pp": 2, "nodes": 2, "executor": "mp", "env": {"MY_SECRET": SECRETS["layout"], "OWN": "1"},
        "extra_args": ["--api-key=" + SECRETS["equals"]],
    },
    {"name": "ray", "tp": 1, "pp": 2, "nodes": 2, "executor": "ray", "env": {"S3_PASSWORD": SECRETS["short"]}},
]  # fmt: skip
# The loop of the real playbook, on nodes that need no choice.
FORETELL, TURNS = (play["tasks"][0] for play in yaml.safe_load((ROOT / "playbooks/serve.yml").read_text())[-2:])
FORETELL["vars"] = {"vllm_serve_hosts": ["node1", "node2"]}
TURNS["block"][0]["ansible.builtin.include_tasks"]["file"] = str(ROOT / "playbooks/tasks/layout.yml")
TURNS["vars"].update(vllm_serve_hosts=["node1", "node2"], vllm_serve_node_addresses=["127.0.0.1", "127.0.0.1"])
PLAY = [{"name": "Serve", "hosts": "node1", "gather_facts": False, "tasks": [FORETELL, TURNS]}]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A folder with an inventory of two local nodes whose variables hold the secrets, and the playbook."""
    folder = tmp_path_factory.mktemp("secrets")
    tools = folder / "venv/bin"
    tools.mkdir(parents=True)
    for name in ("vllm", "ray"):
        (tools / name).write_text("#!/bin/sh\n")
        (tools / name).chmod(0o755)
    (tools / "python").symlink_to(sys.executable)
    (folder / "model").mkdir()
    (folder / "model/config.json").write_text("{}")
    (folder / "serve.yml").write_text(yaml.safe_dump(PLAY))
    variables = {
        "vllm_serve_layouts": LAYOUTS, "vllm_serve_venv": str(folder / "venv"), "vllm_serve_model": str(folder / "model"),
        "vllm_serve_require_manifest": False, "vllm_serve_work_dir": str(folder / "work"), "vllm_serve_port": 18123,
        "vllm_serve_master_port": 18124, "vllm_serve_nvidia_smi": str(folder / "no-nvidia-smi"),
        "vllm_serve_env": {"HF_TOKEN": SECRETS["role"], "MINE": "2"}, "vllm_serve_extra_args": ["--api-key", SECRETS["option"]],
        "vllm_serve_ray_env": {"RAY_REDIS_PASSWORD": SECRETS["ray"]}, "vllm_serve_cache_dir": str(folder / "cache"),
        "serve_benchmark_runs": 2, "ansible_connection": "local", "ansible_python_interpreter": sys.executable,
    }  # fmt: skip
    (folder / "hosts.yml").write_text(yaml.safe_dump({"nodes": {"hosts": {"node1": None, "node2": None}, "vars": variables}}))
    return folder


def environment(folder):
    return {
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_CALLBACK_PLUGINS": str(ROOT / "plugins/callback"),
        "PLUMBLINE_RESULTS_DIR": str(folder / "results"),
        "PLUMBLINE_RUN_ID": "",
        "PATH": os.environ["PATH"],
    }


def playbook(folder, *arguments, **env):
    argv = [str(Path(sys.executable).parent / "ansible-playbook"), "-i", "hosts.yml", "serve.yml", "--check", *arguments]
    return subprocess.run(
        argv, cwd=folder, env={**os.environ, **environment(folder), **env}, capture_output=True, text=True, check=False, timeout=300
    )


def leaks(text):
    """Return the secrets in a text; the short one only as a word."""
    return [
        name for name, value in SECRETS.items() if value in text and (name != "short" or '"%s"' % value in text or "=%s" % value in text)
    ]


def test_the_most_verbose_output_holds_no_secret_and_still_says_what_was_given(made):
    done = playbook(made, "-vvv")
    assert done.returncode == 0, done.stdout[-3000:]
    assert leaks(done.stdout + done.stderr) == []
    assert '"MINE": "2"' in done.stdout and '"HF_TOKEN": "[scrubbed]"' in done.stdout


def test_a_json_stdout_is_json_and_holds_no_secret(made):
    done = playbook(made, ANSIBLE_STDOUT_CALLBACK="ansible.posix.json")
    found = json.loads(done.stdout)
    assert found["plays"] and leaks(done.stdout + done.stderr) == []
    assert "would start" in done.stderr, "our own lines are not lost, they go to the standard error"


def test_what_ansible_runner_keeps_holds_no_secret(made):
    private = made / "runner"
    private.mkdir()
    run = ansible_runner.run(
        private_data_dir=str(private), project_dir=str(made), playbook=str(made / "serve.yml"), inventory=str(made / "hosts.yml"),
        cmdline="--check -vvv", envvars=environment(made), quiet=True,
    )  # fmt: skip
    assert run.rc == 0
    files = [path for path in (private / "artifacts").rglob("*") if path.is_file()]
    found = {str(path): leaks(path.read_text(errors="replace")) for path in files}
    assert len(files) > 20 and {path: names for path, names in found.items() if names} == {}


def test_preflight_quotes_what_is_wrong_without_the_token():
    layout = dict(LAYOUTS[0], nodes=1, extra_args=["--api-key keyInOneWord4711"], env={"HF_TOKEN": ["hf_listed12345"]})
    hostvars = {"n1": {"vllm_serve_layouts": [layout]}}
    found = run_action("preflight_check", {}, {"groups": {"nodes": ["n1"]}, "hostvars": hostvars})
    text = json.dumps(found)
    assert found["failed"] and "extra_args[0]" in text and "HF_TOKEN" in text
    assert "keyInOneWord4711" not in text and "hf_listed12345" not in text
