"""The command builder."""

from __future__ import annotations

import shlex

import pytest
from ansible.module_utils.plumbline.serving.command import (
    AddressUnknown,
    checked_layout,
    key_by_environment,
    node_environment,
    option,
    printable,
    ranks_on,
    ray_argv,
    serve_argv,
)

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


def test_native_layout_over_nodes_is_one_server_and_headless_ones():
    layout = {"name": "c", "tp": 8, "pp": 2, "nodes": 2, "executor": "mp"}
    head, other = (serve_argv("vllm", layout, "/m", "q", "10.0.0.4", 8000, 2048, "float16", (), rank, 29501) for rank in (0, 1))
    for rank, argv in enumerate((head, other)):
        assert option(argv, "--nnodes") == "2" and option(argv, "--node-rank") == str(rank)
        assert option(argv, "--master-addr") == "10.0.0.4" and option(argv, "--master-port") == "29501"
    assert "--headless" in other and "--headless" not in head
    alone = serve_argv("vllm", dict(layout, nodes=1), "/m", "q", "10.0.0.4", 8000, 2048, "float16")
    assert "--nnodes" not in alone


def test_option_takes_the_last_of_both_spellings():
    argv = ["--max-model-len", "10", "--max-model-len=20", "--dtype", "auto", "--max-model-len"]
    assert option(argv, "--max-model-len") == "20"
    assert option(argv, "--no-such") is None


def test_environment_of_a_node_has_its_address_and_interface():
    env = node_environment({"GLOO_SOCKET_IFNAME": "mine", "X": "1"}, "127.0.0.1")
    assert env == {
        "X": "1", "VLLM_HOST_IP": "127.0.0.1", "GLOO_SOCKET_IFNAME": "mine", "NCCL_SOCKET_IFNAME": "lo", "TP_SOCKET_IFNAME": "lo",
    }  # fmt: skip
    with pytest.raises(AddressUnknown, match="192.0.2.99"):
        node_environment({}, "192.0.2.99")


def test_printed_command_has_no_secret():
    text = printable(["vllm", "serve", "--api-key", "abc", "--max-num-batched-tokens", "8192"], {"HF_TOKEN": "xyz"})
    assert "abc" not in text and "xyz" not in text and "8192" in text


@pytest.mark.parametrize("change, said", [
    ({"tp": "two"}, "tp is 'two'"), ({"pp": True}, "pp is True"), ({"nodes": None}, "nodes is None"), ({"tp": 0}, "tp is 0"),
    ({"extra_args": "--x"}, "extra_args is '--x'"), ({"env": ["A"]}, "env is"),
])  # fmt: skip
def test_a_layout_that_cannot_be_meant_is_a_sentence(change, said):
    sound = {"name": 7, "tp": "2", "pp": 1, "nodes": 1, "executor": "mp"}
    assert checked_layout(sound)["name"] == "7" and checked_layout(sound)["tp"] == 2
    with pytest.raises(ValueError, match=said):
        checked_layout(dict(sound, **change))


@pytest.mark.parametrize("executor", ["mp", "ray"])
@pytest.mark.parametrize("tp, pp", [(4, 1), (2, 2), (2, 1), (1, 2)])
def test_over_the_gpus_of_one_node_there_is_one_server_whatever_the_executor(executor, tp, pp):
    layout = {"name": "x", "tp": tp, "pp": pp, "nodes": 1, "executor": executor}
    argv = serve_argv("vllm", layout, "/m", "q", "127.0.0.1", 8000, 2048, "float16")
    assert option(argv, "--distributed-executor-backend") == executor and ranks_on(layout) == tp * pp
    assert [option(argv, name) for name in ("--tensor-parallel-size", "--pipeline-parallel-size")] == [str(tp), str(pp)]
    assert not {"--nnodes", "--node-rank", "--master-addr", "--headless"} & set(argv)


@pytest.mark.parametrize("tp, pp", [(2, 2), (4, 1)])
def test_over_two_nodes_with_two_gpus_each_both_share_the_ranks(tp, pp):
    layout = {"name": "x", "tp": tp, "pp": pp, "nodes": 2, "executor": "mp"}
    argvs = [serve_argv("vllm", layout, "/m", "q", "10.0.0.4", 8000, 2048, "float16", rank=rank) for rank in (0, 1)]
    assert [option(argv, "--node-rank") for argv in argvs] == ["0", "1"] and ranks_on(layout) == 2
    under_ray = serve_argv("vllm", dict(layout, executor="ray"), "/m", "q", "10.0.0.4", 8000, 2048, "float16")
    assert option(under_ray, "--distributed-executor-backend") == "ray" and "--nnodes" not in under_ray


@pytest.mark.parametrize("given", [["--api-key", "K"], ["--api-key=K"], ["--api_key", "K"]])
def test_a_key_is_not_on_the_command_line_where_every_user_sees_it(given):
    argv, env = key_by_environment(["vllm", "serve", *given, "--port", "8000"], {"A": "1"})
    assert argv == ["vllm", "serve", "--port", "8000"] and env == {"A": "1", "VLLM_API_KEY": "K"}


def test_several_keys_and_none_stay_as_they_are():
    for words in (["vllm", "serve", "--api-key", "K", "L"], ["vllm", "serve", "--api-key-file", "x"], ["sh", "-c", "true"]):
        assert key_by_environment(words, None) == (words, {})
