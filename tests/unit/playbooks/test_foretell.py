"""Each layout is foretold before any is served, in check mode too: by the real playbook, with a model's config and a made-up nvidia-smi."""

from __future__ import annotations

import json
import sys

import layout_prediction
import pytest
from module_run import run_module
from play_run import results, run_playbook

INVENTORY = {"nodes": {"hosts": {"node1": {"ansible_connection": "local", "ansible_python_interpreter": sys.executable}}}}
CONFIG = {
    "architectures": ["Qwen2ForCausalLM"], "hidden_size": 8192, "intermediate_size": 29568, "num_attention_heads": 64,
    "num_hidden_layers": 80, "num_key_value_heads": 8, "vocab_size": 152064, "torch_dtype": "float16",
}  # fmt: skip
# Prints two GPUs as nvidia-smi does; stands in for it here, and never where something is measured.
SMI = r"""#!/bin/sh
case "$*" in
*query-gpu=index,name*)
  echo "index, name, memory.total [MiB], memory.used [MiB], uuid"
  for gpu in 0 1; do echo "$gpu, NVIDIA H200, 143771 MiB, 0 MiB, GPU-0000000$gpu-0000-0000-0000-000000000001"; done ;;
*query-compute-apps*) echo "pid, used_gpu_memory [MiB], process_name, gpu_uuid" ;;
esac
"""
LAYOUTS = [
    {"name": "tp2", "tp": 2, "pp": 1, "nodes": 1, "executor": "mp"},
    {"name": "tp1", "tp": 1, "pp": 1, "nodes": 1, "executor": "mp"},
    {
        "name": "eager",
        "tp": 2,
        "pp": 1,
        "nodes": 1,
        "executor": "mp",
        "extra_args": ["--enforce-eager"],
        "env": {"HF_TOKEN": "hf_secret_1234567890"},
    },
]


@pytest.fixture
def there(tmp_path):
    """Return the variables of a node with two H200s and the 72B's config."""
    model, tool = tmp_path / "model", tmp_path / "nvidia-smi"
    model.mkdir()
    (model / "config.json").write_text(json.dumps(CONFIG))
    tool.write_text(SMI)
    tool.chmod(0o755)
    return {"model": str(model), "nvidia_smi": str(tool)}


def test_the_module_says_what_each_layout_asks_of_the_node_and_keeps_secrets(there, capsys):
    found = run_module(layout_prediction, capsys, layouts=LAYOUTS, dtype="float16", **there)
    assert "hf_secret" not in json.dumps(found)
    asked = {one["layout"]: one for one in found["asked"]}
    assert {name: one["fit"]["status"] for name, one in asked.items()} == {"tp2": "healthy", "tp1": "failed", "eager": "healthy"}
    assert asked["tp2"]["weight_bytes"] == 142_920_990_720 and asked["tp2"]["gpu"] == "NVIDIA H200" and asked["tp2"]["against"] == []
    assert asked["eager"]["against"] == ["--enforce-eager: no CUDA graphs"]


def test_a_layout_that_cannot_be_meant_fails_with_its_sentence(there, capsys):
    found = run_module(layout_prediction, capsys, layouts=[{"name": "odd", "tp": "many", "pp": 1, "nodes": 1}], **there)
    assert found["failed"] and "tp is 'many'" in found["msg"]


def test_a_node_without_a_gpu_says_so(there, capsys):
    found = run_module(layout_prediction, capsys, layouts=LAYOUTS[:1], model=there["model"], nvidia_smi="/nonexistent/nvidia-smi")
    assert found["asked"][0]["gpu"] == ""


def test_a_head_that_cannot_be_asked_keeps_nothing_from_being_served(there, tmp_path):
    run = run_playbook(
        tmp_path, "playbooks/serve.yml", INVENTORY, "--check", vllm_serve_layouts=LAYOUTS[:1], vllm_serve_model=there["model"],
        vllm_serve_nvidia_smi=there["nvidia_smi"], vllm_serve_venv=str(tmp_path / "venv"), ansible_become=False, plumbline_gpus=[7],
    )  # fmt: skip
    (result,) = results(run, "Foretell what a token takes in each layout")
    (fact,) = result["plumbline_facts"]["node1"]
    assert fact["status"] == "skipped" and "plumbline_gpus is [7]" in fact["reasons"][0]["seen"]
    assert results(run, "Plan the layout")


def test_check_mode_foretells_every_layout_before_the_first_is_served(there, tmp_path):
    run = run_playbook(
        tmp_path, "playbooks/serve.yml", INVENTORY, "--check", vllm_serve_layouts=LAYOUTS, vllm_serve_model=there["model"],
        vllm_serve_nvidia_smi=there["nvidia_smi"], vllm_serve_dtype="float16", vllm_serve_venv=str(tmp_path / "venv"), ansible_become=False,
        vllm_serve_require_manifest=False,
    )  # fmt: skip
    tasks = [event["event_data"].get("task") for event in run.events if event["event"] == "playbook_on_task_start"]
    assert tasks.index("Foretell what a token takes in each layout") < tasks.index("Plan the layout")
    (result,) = results(run, "Foretell what a token takes in each layout")
    facts = {fact["name"]: fact for fact in result["plumbline_facts"]["node1"]}
    assert {name: fact["status"] for name, fact in facts.items()} == {"tp2": "healthy", "tp1": "degraded", "eager": "skipped"}
    assert facts["tp2"]["measured"]["tpot_ms"] == pytest.approx(21.3, abs=0.05)
    said = run.stdout.read()
    assert "prediction.tpot: fits; TPOT 21.3 ms (20.6 to 22.0), 47.0 tok/s" in said
    assert "prediction.fit: weights 135.4" in said and "no prediction: --enforce-eager" in said
    assert "hf_secret" not in said
