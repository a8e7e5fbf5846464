"""The first look at a node's model: by one command where it is whole, by the module everywhere else."""

import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
from ansible.module_utils.plumbline.model import manifest as manifests
from project import load


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "big"
    folder.mkdir()
    (folder / "a").write_bytes(os.urandom(1000))
    manifests.save(str(folder), manifests.build(str(folder), 1))
    return folder


def compare(monkeypatch, path, manifest, answer=None):
    """Run the action with this machine as the node; return its result and the arguments of each call of the module."""
    plugin, calls = load("plugins/action/model_sync_compare.py"), []
    args = {"path": str(path), "manifest": manifest, "chunk_hashes": "x", "source_status": "healthy", "source": "n1"}
    task = SimpleNamespace(action="model_sync_compare", args=args, async_val=0, check_mode=False, delegate_to=None, environment=None,
                           diff=False, timeout=0)  # fmt: skip
    action = plugin.ActionModule(task, SimpleNamespace(_shell=SimpleNamespace(tmpdir="/nonexistent"), become=None), None, None, None, None)
    monkeypatch.setattr(
        plugin.interpreter, "of", lambda _action, _vars: (sys.executable, {"discovered_interpreter_python": sys.executable})
    )

    def run(command, sudoable, executable):
        done = subprocess.run([executable, "-c", command], capture_output=True, text=True, check=False)
        return answer or {"rc": done.returncode, "stdout": done.stdout}

    def module(module_name, module_args, task_vars):
        calls.append((module_name, module_args))
        return {"fact": "the module's", "wanted": ["a"]}

    monkeypatch.setattr(action, "_low_level_execute_command", run)
    monkeypatch.setattr(action, "_execute_module", module)
    return action.run(task_vars={}), calls


def test_a_whole_copy_needs_no_module_and_has_the_modules_fact(monkeypatch, model):
    manifest = manifests.load(str(model))
    result, calls = compare(monkeypatch, model, manifest)
    assert calls == [] and result["wanted"] == [] and result["changed"] is False
    fact = result["fact"]
    assert result["ansible_facts"] == {"plumbline": {"model": fact}, "discovered_interpreter_python": sys.executable}
    assert fact["status"] == "healthy" and fact["name"] == "big" and fact["reasons"][0]["check"] == "model.verified"
    assert fact["context"] == {"source": f"n1:{model}", "path": str(model), "manifest_sha256": manifests.digest(manifest)}
    assert fact["measured"]["size_bytes"] == 1000 and fact["measured"]["transferred_bytes"] == 0 and fact["measured"]["verify_s"] >= 0


@pytest.mark.parametrize("answer", [None, {"rc": 127, "stdout": ""}, {"rc": 1, "stdout": '{"whole": true, "verify_s": 1}'},
                                    {"rc": 0, "stdout": '{"whole": 1, "verify_s": 1}'}, {"rc": 0, "stdout": "[]"}])  # fmt: skip
def test_whatever_is_not_a_yes_is_for_the_module(monkeypatch, model, answer):
    manifest = manifests.load(str(model))
    if answer is None:
        (model / "a").write_bytes(os.urandom(1000))
    result, calls = compare(monkeypatch, model, manifest, answer)
    assert result["fact"] == "the module's" and result["wanted"] == ["a"]
    (name, arguments), = calls  # fmt: skip
    assert name == "model_sync" and arguments["copy"] is False and arguments["chain"] == ["n1"] and "source" not in arguments


def test_without_a_manifest_of_the_head_the_module_says_so(monkeypatch, model):
    _result, calls = compare(monkeypatch, model, {})
    assert len(calls) == 1
