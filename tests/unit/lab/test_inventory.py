"""The inventory of a lab with GPUs, with what lab_up writes for it."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from ansible.module_utils.plumbline.controller import preflight

ROOT = Path(__file__).resolve().parent.parent.parent.parent


@pytest.mark.parametrize(("share", "sizes"), [(1, [(1, 2), (1, 2), (2, 1), (2, 1)]), (2, [(2, 2), (2, 2), (4, 1), (4, 1)])])
def test_layouts_and_ranks_follow_the_shares(tmp_path, share, sizes):
    inventory = tmp_path / "lab_gpu"
    shutil.copytree(ROOT / "inventory/lab_gpu", inventory, ignore=shutil.ignore_patterns("hosts.yml"))
    (inventory / "hosts.yml").write_text(
        "nodes: {hosts: {lab1: {gpu_share: %d}, lab2: {gpu_share: %d}}, vars: {gpu_share_least: %d, ansible_connection: local}}"
        % ((share,) * 3)
    )
    names = ("vllm_serve_layouts", "sku_overrides", "fabric_baseline_torchrun", "fabric_baseline_ranks_within")
    message = "msg={{ {%s} | to_json }}" % ", ".join(f"'{name}': {name}" for name in names)
    argv = ["ansible", "-i", str(inventory), "lab1", "-m", "ansible.builtin.debug", "-a", message]
    out = subprocess.run(argv, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    found = json.loads(json.loads(out[out.index("{") :])["msg"])
    layouts = found["vllm_serve_layouts"]
    assert [(layout["tp"], layout["pp"]) for layout in layouts] == sizes
    assert preflight.layout_problems(layouts, node_count=2) == []
    assert found["sku_overrides"]["lab_gpu"]["gpu"]["count"] == share
    assert (found["fabric_baseline_torchrun"], found["fabric_baseline_ranks_within"]) == ("/opt/vllm/bin/torchrun", share)
