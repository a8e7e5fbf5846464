"""The command builder."""

from __future__ import annotations

import shlex

from ansible.module_utils.plumbline.vllm_command import printable, ray_argv, serve_argv

LAYOUT = {"name": "c", "tp": 8, "pp": 2, "nodes": 2, "executor": "ray", "extra_args": ["--max-num-seqs", "64"]}


def test_serve_command_of_a_layout():
    argv = serve_argv("/v/bin/vllm", LAYOUT, "/models/q", "q", "10.0.0.4", 8000, 2048, "float16", ["--max-num-seqs", "8"])
    assert argv[:3] == ["/v/bin/vllm", "serve", "/models/q"]
    options = dict(zip(argv[3:-5:2], argv[4:-5:2]))
    assert options["--tensor-parallel-size"] == "8" and options["--pipeline-parallel-size"] == "2"
    assert options["--distributed-executor-backend"] == "ray" and options["--port"] == "8000"
    assert argv[-5:] == ["--no-enable-prefix-caching", "--max-num-seqs", "8", "--max-num-seqs", "64"], "the layout wins"


def test_ray_commands():
    head = ray_argv("ray", "head", "10.0.0.4", "10.0.0.4", 6379, 8, 2**32, 2**28)
    worker = ray_argv("ray", "worker", "10.0.0.4", "10.0.0.5", 6379, 8, 2**32, 2**28)
    assert "--head" in head and "--address" not in head
    assert worker[-2:] == ["--address", "10.0.0.4:6379"] and "--head" not in worker
    for argv in (head, worker):
        assert "--block" in argv and argv[argv.index("--num-gpus") + 1] == "8"


def test_printable_command_can_be_pasted():
    text = printable(["vllm", "serve", "a b"], {"X": "1 2"})
    assert shlex.split(text) == ["X=1 2", "vllm", "serve", "a b"]
