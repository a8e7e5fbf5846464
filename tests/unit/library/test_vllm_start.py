"""Servers, headless nodes and Ray nodes, started by their modules: mock-vllm answers or fails as it is told, and is no vLLM."""

from __future__ import annotations

import json
import socket
import sys
import uuid
from pathlib import Path

import pytest
import ray_node
import vllm_server
import vllm_worker
from ansible.module_utils.plumbline.core import processes
from ansible.module_utils.plumbline.core.fact import reason
from ansible.module_utils.plumbline.machine import nvidia
from ansible.module_utils.plumbline.serving import startup
from jsonschema import Draft202012Validator
from module_run import run_module
from project import ROOT, SCHEMAS

LOG = ROOT / "tests/captures/cpu/vllm-0.32.0.serve.tp1.log"
LAYOUT = {"name": "tp1", "tp": "1", "pp": 1, "nodes": 1, "executor": "mp"}
# Prints a recorded log and answers one completion after another; with a file "says" beside it, prints that and ends.
MOCK_VLLM = """#!%s
import http.server, json, os, pathlib, sys
here = pathlib.Path(__file__).resolve().parent
if (here / "says").exists():
    sys.exit((here / "says").read_text())
class Answer(http.server.BaseHTTPRequestHandler):
    def do_POST(self):
        key = os.environ.get("VLLM_API_KEY") or (here / "key").exists() and (here / "key").read_text()
        self.send_response(401 if key and self.headers["Authorization"] != "Bearer " + key else 200)
        self.end_headers()
        self.wfile.write(json.dumps({"choices": [{"text": "a"}]}).encode())
print(open(%r).read(), flush=True)
http.server.HTTPServer(("", int(dict(zip(sys.argv, sys.argv[1:])).get("--port", 0))), Answer).serve_forever()
"""


def free_port():
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


@pytest.fixture
def started(tmp_path, capsys):
    """Return a function that runs one of the modules with mock-vllm as its program; what it started ends with the test."""
    tool = tmp_path / "mock-vllm"
    tool.write_text(MOCK_VLLM % (sys.executable, str(LOG)))
    tool.chmod(0o755)
    serve_id = "test-%s" % uuid.uuid4()

    def run(module, check=False, **given):
        arguments = {"program": str(tool), "serve_id": serve_id, "work_dir": str(tmp_path / "work"), "_ansible_check_mode": check}
        out = run_module(module, capsys, **arguments, **given)
        for kind in ("fact", "startup") if "fact" in out else ():
            Draft202012Validator(json.loads((SCHEMAS / (kind + ".schema.json")).read_text())).validate(out["fact"])
        return out

    run.folder, run.serve_id = tmp_path, serve_id
    run.says = (tmp_path / "says").write_text
    run.log = lambda name: Path(tmp_path / "work" / name).read_text()
    run.running = lambda: processes.marked(serve_id)
    yield run
    processes.stop(serve_id, grace_s=1)


def serve(started, check=False, **given):
    arguments = {"model": str(started.folder), "served_name": "m", "node_addresses": ["127.0.0.1"], "port": free_port(), "timeout_s": 20}
    return started(vllm_server, check, **{"layout": LAYOUT, **arguments, **given})


def checks(out):
    return {item["check"]: item for item in out["fact"]["reasons"]}


def test_a_server_is_ready_when_a_completion_came_and_its_log_is_read(started):
    out = serve(started, env={"HF_TOKEN": "hf_secretsecret"})
    fact = out["fact"]
    assert out["ready"] and out["changed"] and fact["status"] == "healthy", fact["reasons"]
    assert fact["reasons"][0]["check"] == "serve.ready" and fact["measured"]["kv_cache_gib"] == 1.0 and fact["measured"]["ready_s"] > 0
    assert fact["context"]["prefix_caching"] is False and fact["context"]["tp"] == 1 and fact["context"]["pid"] in started.running()
    assert fact["command"].startswith("GLOO_SOCKET_IFNAME=lo ") and "hf_secret" not in json.dumps(fact)
    assert "--no-enable-prefix-caching" in fact["command"]


def test_a_server_that_ends_says_why_in_the_words_of_its_log(started):
    started.says("ValueError: no room for the cache")
    out = serve(started)
    assert not out["ready"] and out["changed"] and out["fact"]["status"] == "failed"
    assert checks(out)["serve.ready"]["seen"] == "ValueError: no room for the cache"
    assert checks(out)["serve.ready"]["remedy"] == "read %s on the head" % (started.folder / "work/server.log")


@pytest.mark.parametrize("given", [
    {"env": {"VLLM_API_KEY": "keyMadeUp4711"}},
    {"extra_args": ["--api-key", "keyMadeUp4711"]},
    {"layout": dict(LAYOUT, extra_args=["--api-key=keyMadeUp4711"])},
    {"layout": dict(LAYOUT, extra_args=["--api-key", "keyMadeUp4711"]), "env": {"VLLM_API_KEY": "another"}},
])  # fmt: skip
def test_a_server_with_a_key_is_asked_with_it_and_nothing_that_is_kept_holds_it(started, given):
    out = serve(started, **given)
    assert out["ready"] and out["fact"]["status"] == "healthy", out["fact"]["reasons"]
    assert "keyMadeUp4711" not in json.dumps(out) and "VLLM_API_KEY=[scrubbed]" in out["fact"]["command"]
    assert "keyMadeUp4711" not in processes.command_of(out["fact"]["context"]["pid"])


def test_a_server_that_asks_for_another_key_is_not_waited_for(started):
    (started.folder / "key").write_text("anotherMadeUp4711")
    for given, words in (({}, "none was given here: HTTP 401"), ({"extra_args": ["--api-key", "wrong", "words"]}, "takes another one")):
        out = serve(started, timeout_s=60, **given)
        ready = checks(out)["serve.ready"]
        assert not out["ready"] and words in ready["seen"] and "VLLM_API_KEY in vllm_serve_env" in ready["remedy"]
        assert "server.log" in ready["remedy"]
        processes.stop(started.serve_id, grace_s=1)


def test_a_key_that_no_client_can_show_is_said_before_the_start(started):
    out = serve(started, env={"VLLM_API_KEY": "keyMadeUp4711\n"})
    assert not out["ready"] and not out["changed"] and "no HTTP header carries" in checks(out)["serve.api_key"]["seen"]
    assert "keyMadeUp4711" not in json.dumps(out)


def test_the_causes_kind_says_what_to_do_and_the_next_best_are_named(started):
    started.says("OSError: [Errno 98] Address already in use\nTimeoutError: waited")
    ready = checks(serve(started))["serve.ready"]
    assert ready["seen"] == "OSError: [Errno 98] Address already in use; also: TimeoutError: waited"
    assert "ss -ltnp" in ready["remedy"] and ready["remedy"].endswith("; read %s on the head" % (started.folder / "work/server.log"))


def test_what_was_seen_of_a_node_prevents_the_start(started):
    for given, check, status in (
        ({"problems": ["node2: no image"]}, "serve.prepare", "failed"),
        ({"reasons": [reason("serve.gpus", "failed", "127.0.0.1: 0 GPU(s) answer")]}, "serve.gpus", "failed"),
        ({"node_addresses": []}, "serve.nodes", "incomplete"),
        ({"node_addresses": ["192.0.2.99"]}, "serve.address", "failed"),
    ):
        out = serve(started, **given)
        assert not out["ready"] and not out["changed"] and out["fact"]["status"] == checks(out)[check]["status"] == status
    assert started.running() == [] and not (started.folder / "work").exists()


def test_what_only_warns_or_says_nothing_prevents_nothing(started):
    reasons = [reason("serve.memory", "degraded", "tight"), reason("serve.gpus", "skipped", "no GPU")]
    out = serve(started, reasons=reasons)
    assert out["ready"] and out["fact"]["status"] == "degraded"


def test_check_mode_starts_nothing_and_says_what_it_would(started):
    out = serve(started, check=True)
    assert out["fact"]["status"] == "skipped" and "would start: " in out["fact"]["reasons"][0]["seen"] and not out["ready"]
    assert started.running() == [] and not (started.folder / "work").exists()


def test_a_layout_with_other_keys_is_refused(started):
    out = serve(started, layout={"name": "x", "gpus": 8})
    assert out["failed"] and "unknown keys ['gpus']" in out["msg"] and "'executor'" in out["msg"]


def work(started, check=False, **given):
    layout = {"name": "pp2", "tp": 1, "pp": 2, "nodes": 2, "executor": "mp"}
    arguments = {"layout": layout, "rank": 1, "model": "/m", "served_name": "m", "head_address": "127.0.0.1", "node_ip": "127.0.0.1"}
    return started(vllm_worker, check, **{**arguments, "port": free_port(), **given})


def test_a_headless_node_runs_after_its_first_moments(started):
    out = work(started)
    assert out["changed"] and out["pid"] in started.running() and out["log"].endswith("work/worker-1.log")
    assert "--headless" in out["command"] and "VLLM_HOST_IP=127.0.0.1" in out["command"]


def test_a_headless_node_that_ends_at_once_fails_with_the_cause(started):
    started.says("RuntimeError: no such device")
    out = work(started)
    assert out["failed"] and "vLLM ended at once: RuntimeError: no such device (log: " in out["msg"] and "worker-1.log" in out["msg"]


def test_a_headless_node_is_not_started_where_it_must_not_be(started):
    assert "--headless" in work(started, check=True)["command"] and started.running() == []
    assert "vllm_server starts the head" in work(started, rank=0)["msg"]
    assert "192.0.2.99" in work(started, node_ip="192.0.2.99")["msg"]


def ray(started, check=False, **given):
    arguments = {"role": "head", "head_address": "127.0.0.1", "node_ip": "127.0.0.1", "slots": 1, "memory_bytes": 1, "timeout_s": 1}
    return started(ray_node, check, **{**arguments, "object_store_bytes": 1, "port": free_port(), **given})


def test_a_ray_node_that_ends_says_its_last_words(started):
    started.says("one\\ntwo")
    out = ray(started)
    assert out["failed"] and "Ray ended while starting: " in out["msg"] and "two" in out["msg"] and not out["started"]


def test_a_ray_node_that_does_not_come_up_is_said_after_its_time(started):
    out = ray(started, role="worker")
    assert out["failed"] and "Ray worker on 127.0.0.1 was not up after 1 s" in out["msg"]


def test_a_ray_node_in_check_mode_is_only_said(started):
    out = ray(started, check=True)
    assert out["changed"] and not out["started"] and "start --block" in out["command"] and started.running() == []


# What the recorded server served: a random Qwen2, 4 layers of 2 KV heads.
TINY = {
    "architectures": ["Qwen2ForCausalLM"], "num_hidden_layers": 4, "hidden_size": 128, "num_attention_heads": 4, "num_key_value_heads": 2,
    "intermediate_size": 256, "vocab_size": 1024, "tie_word_embeddings": False, "torch_dtype": "bfloat16",
}  # fmt: skip


@pytest.mark.parametrize("arguments, env, status, said", [
    ([], {}, "healthy", "bytes a token"),
    (["--dtype", "float32"], {}, "degraded", "2,048 bytes a token"),
    (["--kv_cache_dtype=fp8"], {}, "degraded", "512 bytes a token"),
    (["--quantization", "fp8"], {}, "skipped", "--quantization fp8"),
    (["--speculative_config.method=ngram"], {}, "skipped", "drafter"),
    (["-pp", "2"], {"VLLM_PP_LAYER_PARTITION": "1,3"}, "degraded", "256 to 768 bytes a token"),
])  # fmt: skip
def test_a_layouts_own_arguments_count_in_the_arithmetic_of_its_start(started, arguments, env, status, said):
    (started.folder / "config.json").write_text(json.dumps(TINY))
    out = serve(started, layout=dict(LAYOUT, extra_args=arguments), env=env)
    found = checks(out)["serve.kv_arithmetic"]
    assert found["status"] == status and said in found["seen"] + str(found["threshold"]), found
    assert ("weight_bytes" in out["fact"]["measured"]) == (status != "skipped")
    assert ("kv_bytes_per_token" in out["fact"]["measured"]) == (status != "skipped")


def test_a_layout_of_wrong_types_is_a_sentence(started):
    out = serve(started, layout=dict(LAYOUT, tp="two"))
    assert out["failed"] and "tp is 'two'" in out["msg"]


RAY_LOCAL = {"name": "tp2", "tp": 2, "pp": 1, "nodes": 1, "executor": "ray"}


@pytest.mark.parametrize("own, reported, goes_on", [
    ("192.0.2.2", "192.0.2.2", True),  # as in the capture h200x2/ray-2.60.0.head-on-loopback.log
    (None, "127.0.0.1", True),  # a GPU machine without a network
    (None, "10.1.2.3", True),  # one whose name is in /etc/hosts: Ray took that
    ("192.0.2.2", "192.0.2.9", False),  # somebody else's cluster
])  # fmt: skip
def test_ray_on_the_loopback_has_the_node_under_the_address_that_it_took(tmp_path, monkeypatch, own, reported, goes_on):
    monkeypatch.setattr(startup.net, "machine_address", lambda: own)
    monkeypatch.setattr(startup, "RAY_PATIENCE_S", 0.1)
    monkeypatch.setattr(startup.time, "sleep", lambda seconds: None)
    arguments = dict.fromkeys(("container", "dtype", "served_name", "model", "serve_id"), "")
    arguments.update(layout=RAY_LOCAL, node_addresses=["127.0.0.1"], program="/v/vllm", port=8000, ray_port=6379, master_port=1)
    arguments.update(max_model_len=1, extra_args=[], env={}, context={}, work_dir=str(tmp_path))
    start = startup.Start(arguments)
    monkeypatch.setattr(start, "probe", lambda: {"nodes": [{"address": reported}]})
    assert start.ray_address == "%s:6379" % (own or "127.0.0.1") and start.url == "http://127.0.0.1:8000"
    assert start.ray_is_complete() is goes_on
    if not goes_on:
        assert "Ray has 192.0.2.9, without 192.0.2.2" in start.measurement.reasons[-1]["seen"]


def test_ray_is_given_the_machines_address_and_says_it(started, monkeypatch):
    monkeypatch.setattr(ray_node.net, "own_address", {"127.0.0.1": "192.0.2.2"}.get)
    monkeypatch.setattr(ray_node, "Program", lambda argv, env, address, *more: type("Ray", (), {"command": " ".join(argv)}))
    out = ray(started, check=True)
    assert out["address"] == "192.0.2.2" and "--node-ip-address 192.0.2.2" in out["command"]


NVIDIA_SMI = """#!/bin/sh
echo "index, uuid, pci.bus_id"
echo "0, GPU-0a000000-1111-2222-3333-444444444444, 00000001:00:00.0"
echo "1, GPU-0b000000-1111-2222-3333-444444444444, 00000002:00:00.0"
"""


def test_the_chosen_gpus_reach_server_worker_and_ray_and_no_container(started, tmp_path, monkeypatch):
    (tmp_path / "nvidia-smi").write_text(NVIDIA_SMI)
    (tmp_path / "nvidia-smi").chmod(0o755)
    monkeypatch.setattr(nvidia, "find_tool", lambda path=None: str(tmp_path / "nvidia-smi"))
    try:
        for run in (work, ray):
            said = run(started, check=True, gpus=["GPU-0b000000-1111-2222-3333-444444444444"])["command"]
            assert "CUDA_VISIBLE_DEVICES=1" in said and "CUDA_DEVICE_ORDER=PCI_BUS_ID" in said
            assert "CUDA_" not in run(started, check=True, gpus=[1], container="c")["command"]
            assert "CUDA_" not in run(started, check=True)["command"]
            assert "names 3, which this node has not" in run(started, check=True, gpus=[3])["msg"]
        gone = serve(started, gpus=[3])
        assert not gone["ready"] and "names 3, which this node has not" in checks(gone)["serve.prepare"]["seen"]
        out = serve(started, gpus=[1], ranks=[{"rank": 0, "node": "n1", "index": 1, "uuid": "GPU-b"}])
        assert "CUDA_VISIBLE_DEVICES=1" in out["fact"]["command"] and out["fact"]["context"]["ranks"][0]["node"] == "n1"
    finally:
        nvidia.ONLY.clear()


@pytest.mark.parametrize("head", ["127.0.0.1", "127.0.1.1", "localhost"])
def test_within_one_node_processes_of_vllm_meet_on_the_loopback_whatever_it_is_called(started, head):
    out = serve(started, node_addresses=[head])
    assert out["ready"] and "VLLM_HOST_IP=127.0.0.1" in out["fact"]["command"] and "NCCL_SOCKET_IFNAME=lo" in out["fact"]["command"]
