"""What is looked at on a node before a layout starts there."""

from __future__ import annotations

import json
import socket

import pytest
from ansible.module_utils.plumbline.model import manifest
from ansible.module_utils.plumbline.serving import checks as serve_checks

LAYOUT = {"name": "a", "tp": 4, "pp": 2, "nodes": 2, "executor": "ray"}
QWEN_72B = {
    "architectures": ["Qwen2ForCausalLM"], "model_type": "qwen2", "num_hidden_layers": 80, "hidden_size": 8192, "num_attention_heads": 64,
    "num_key_value_heads": 8, "intermediate_size": 29568, "vocab_size": 152064, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
}  # fmt: skip


def gpus(count, used=0, total=81559):
    return [{"index": index, "name": "NVIDIA H100", "total_mib": total, "used_mib": used} for index in range(count)]


def only(reasons):
    assert len(reasons) == 1
    return reasons[0]


def test_gpus_must_be_enough_and_free():
    assert only(serve_checks.check_gpus([], [], LAYOUT, 1024))["status"] == "skipped"
    assert only(serve_checks.check_gpus(gpus(8), [], LAYOUT, 1024))["status"] == "healthy"
    few = only(serve_checks.check_gpus(gpus(3), [], LAYOUT, 1024))
    assert few["status"] == "failed" and "3 GPU(s)" in few["seen"] and few["threshold"].startswith("4 ")
    taken = only(serve_checks.check_gpus(gpus(8, used=70000), [4711], LAYOUT, 1024))
    assert taken["status"] == "failed" and "GPU 0 uses 70000 MiB" in taken["seen"] and "4711" in taken["seen"]


def test_taken_port_is_named_with_its_variable():
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        found = only(serve_checks.check_ports("127.0.0.1", {"ray_port": port}))
    assert found["status"] == "failed" and str(port) in found["seen"] and "vllm_serve_ray_port" in found["remedy"]
    assert serve_checks.check_ports("127.0.0.1", {"port": port}) == []


@pytest.fixture
def model(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps(QWEN_72B))
    (tmp_path / "model.safetensors").write_bytes(b"x" * 100)
    manifest.save(str(tmp_path), manifest.build(str(tmp_path), 1))
    return tmp_path


def test_model_must_be_complete_by_its_manifest(model):
    assert only(serve_checks.check_model(str(model), True))["status"] == "healthy"
    (model / "model.safetensors").write_bytes(b"x" * 99)
    short = only(serve_checks.check_model(str(model), True))
    assert short["status"] == "failed" and "model.safetensors" in short["seen"]


def test_model_that_nobody_verified_is_refused_unless_told_otherwise(model):
    (model / "manifest.json").unlink()
    assert only(serve_checks.check_model(str(model), True))["status"] == "failed"
    assert only(serve_checks.check_model(str(model), False))["status"] == "skipped"
    (model / "config.json").unlink()
    assert only(serve_checks.check_model(str(model), False))["status"] == "failed"


def memory(tp, pp, total_mib=81559, arguments=(), length=2048):
    found, numbers = serve_checks.check_memory(gpus(8, total=total_mib), QWEN_72B, {"tp": tp, "pp": pp}, "float16", length, list(arguments))
    return only(found), numbers


def test_the_study_fits_on_four_gpus_and_not_on_one():
    fits, numbers = memory(4, 1)
    assert fits["status"] == "healthy" and numbers["fits"]
    refused, numbers = memory(1, 1)
    assert refused["status"] == "failed" and not numbers["fits"]
    assert "135." in refused["seen"] and "GiB" in refused["seen"], "the error names the numbers"


def test_options_of_the_server_count():
    tight, _numbers = memory(4, 1, arguments=["--gpu-memory-utilization", "0.4"])
    assert tight["status"] == "failed"
    assert memory(2, 1, length=2048)[0]["status"] != "failed"
    assert memory(2, 1, arguments=["--max-model-len=131072"])[0]["status"] == "failed"


def test_heads_that_do_not_divide_are_refused():
    refused, numbers = memory(3, 1)
    assert refused["status"] == "failed" and numbers is None


def test_unknown_model_and_no_gpu_are_no_verdict():
    assert only(serve_checks.check_memory(gpus(8), {"model_type": "mamba"}, {"tp": 1, "pp": 1}, "auto", 10, [])[0])["status"] == "skipped"
    assert only(serve_checks.check_memory([], QWEN_72B, {"tp": 1, "pp": 1}, "auto", 10, [])[0])["status"] == "skipped"


def test_image_without_ray_is_refused_for_the_executor_ray_alone():
    said = only(serve_checks.check_programs(True, {"vllm": "0.25.0", "ray": None}, "ray", True))
    assert said["status"] == "failed" and "0.17" in said["remedy"] and "executor: mp" in said["remedy"]
    assert only(serve_checks.check_programs(True, {"vllm": "0.25.0", "ray": None}, "mp", True))["status"] == "healthy"
    assert only(serve_checks.check_programs(True, {"vllm": "0.17.1", "ray": "2.53"}, "ray", True))["status"] == "healthy"
    assert only(serve_checks.check_programs(False, {}, "mp", False))["status"] == "failed"


def test_share_of_a_gpu_follows_the_version():
    assert [serve_checks.default_utilization(version) for version in (None, "0.17.1", "0.20.2", "0.32.0+cpu", "1.0.0", "dev")] == [
        0.9, 0.9, 0.92, 0.92, 0.92, 0.9,
    ]  # fmt: skip


@pytest.mark.parametrize("arguments", [["--quantization", "fp8"], ["--quantization=fp8"], ["--max-model-len", "32k"], ["-q", "awq"]])
def test_options_without_arithmetic_refuse_no_layout(arguments):
    skipped, numbers = memory(1, 1, arguments=arguments)
    assert skipped["status"] == "skipped" and numbers is None


def test_the_dtype_among_the_options_counts():
    assert memory(2, 1)[0]["status"] == "degraded"
    assert memory(2, 1, arguments=["--dtype", "float32"])[0]["status"] == "failed"


def test_a_process_on_a_gpu_is_named_with_its_memory():
    there = [dict(gpu, uuid="GPU-%d" % gpu["index"]) for gpu in gpus(2, used=70000)]
    holder = {"pid": 4711, "name": "VLLM::Worker_TP0", "used_mib": 70000, "uuid": "GPU-1"}
    taken = only(serve_checks.check_gpus(there, [holder], dict(LAYOUT, tp=2, nodes=2), 1024))
    assert "4711 (VLLM::Worker_TP0 70000 MiB of GPU 1)" in taken["seen"] and "plumbline_gpus" in taken["remedy"]


def test_nodes_of_a_layout_over_several_are_not_on_the_loopback():
    for address in ("127.0.0.1", "127.0.1.1", "localhost", "::1"):
        found = only(serve_checks.check_address(address, LAYOUT))
        assert found["status"] == "failed" and address in found["seen"] and "plumbline_address" in found["remedy"]
        assert serve_checks.check_address(address, dict(LAYOUT, nodes=1)) == []
    assert serve_checks.check_address("10.0.0.4", LAYOUT) == []


def test_a_choice_of_gpus_is_not_undone_by_the_environment():
    chosen = [{"index": 1, "uuid": "GPU-1", "bus_id": "0001:00:00.0"}]
    assert only(serve_checks.check_choice(chosen, {"CUDA_VISIBLE_DEVICES": "0"}))["status"] == "failed"
    assert serve_checks.check_choice(chosen, {}) == serve_checks.check_choice([], {"CUDA_VISIBLE_DEVICES": "0"}) == []


def test_the_ranks_take_the_first_of_the_nodes_gpus():
    assert serve_checks.ranks_of([dict(gpu, uuid="GPU-%d" % gpu["index"]) for gpu in gpus(8)], dict(LAYOUT, tp=2, pp=2)) == [
        {"index": 0, "uuid": "GPU-0"}, {"index": 1, "uuid": "GPU-1"},
    ]  # fmt: skip
