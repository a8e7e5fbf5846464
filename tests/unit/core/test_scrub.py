"""Secrets go, numbers stay."""

from __future__ import annotations

import shlex

import pytest
from ansible.module_utils.plumbline.core.scrub import scrub_environment, scrub_options, scrub_text
from ansible.module_utils.plumbline.serving.command import printable


@pytest.mark.parametrize("name", ["HF_TOKEN", "S3_SECRET_KEY", "AWS_ACCESS_KEY_ID", "VLLM_API_KEY", "DB2_PASSWORD"])
@pytest.mark.parametrize("value", ["plain", "two words", "it's a 'quoted' one"])
def test_no_part_of_a_secret_is_printed(name, value):
    shown = printable(["vllm", "serve", "--api-key", value, "--port", "8000"], {name: value, "OMP_NUM_THREADS": "1"})
    assert shown == "%s=[scrubbed] OMP_NUM_THREADS=1 vllm serve --api-key [scrubbed] --port 8000" % name or shown == (
        "OMP_NUM_THREADS=1 %s=[scrubbed] vllm serve --api-key [scrubbed] --port 8000" % name
    )
    assert shlex.split(shown)


@pytest.mark.parametrize("text", ["{'api_key': ['hidden'], 'port': 8000}", '{"HF_TOKEN": "hidden"}', "--hf-token=hidden"])
def test_dictionaries_in_logs_are_scrubbed_too(text):
    assert "hidden" not in scrub_text(text)


@pytest.mark.parametrize("text", ["--max-num-batched-tokens=8192", "eos_token_id=5", "KV cache of tokens: 100", "tokenizer_mode=auto"])
def test_tokens_that_are_counted_are_no_secrets(text):
    assert scrub_text(text) == text


@pytest.mark.parametrize("name", ["PWD", "PATH", "OLDPWD", "NCCL_IB_HCA", "TOKENIZERS_PARALLELISM", "VLLM_KEY_VALUE"])
def test_variables_that_are_no_secrets_are_shown(name):
    assert scrub_environment({name: "value"}) == {name: "value"}


def test_environment_that_a_fact_keeps():
    env = {"NCCL_NET": "IB", "HF_TOKEN": "two words", "S3_SECRET_KEY": "x", "NOTE": "hf_abcdefgh12", "VLLM_MAX_TOKENS": 5}
    assert scrub_environment(env) == {
        "HF_TOKEN": "[scrubbed]", "NCCL_NET": "IB", "NOTE": "[scrubbed]", "S3_SECRET_KEY": "[scrubbed]", "VLLM_MAX_TOKENS": "5",
    }  # fmt: skip
    assert list(scrub_environment(env)) == sorted(env)


@pytest.mark.parametrize(
    ("text", "secret"),
    [
        ("https://me.blob.core.windows.net/c?sv=2024&sig=abcDEF%2F123&se=1", "abcDEF%2F123"),
        ("git clone https://me:hunter22@example.com/x", "hunter22"),
        ("Authorization: Bearer abc.def-123", "abc.def-123"),
        ("DefaultEndpointsProtocol=https;AccountKey=a2V5a2V5==;", "a2V5a2V5"),
        ("the token hf_AbCdEfGhIjKlMnOpQrStUvWxYz01234567 is not valid", "hf_AbCdEfGh"),
        ("key AKIAABCDEFGHIJKLMNOP used", "AKIAABCDEFGHIJKLMNOP"),
        ("vllm serve m --api_key hidden1 --port 1", "hidden1"),
        ("ray start --redis-password hidden2", "hidden2"),
        ("--ssl-keyfile-password=hidden3", "hidden3"),
    ],
)
def test_secrets_that_addresses_headers_and_options_carry(text, secret):
    assert secret not in scrub_text(text) and "[scrubbed]" in scrub_text(text)


@pytest.mark.parametrize(
    "text",
    [
        "http://10.0.0.4:8000/v1",
        "vllm bench serve --base-url http://10.0.0.4:8000 --model m",
        "a sk-1 b",
        "--tokenizer-mode auto",
        "num_key_value_heads=2",
        "PASSED: 3 of 4",
        "cannot read hf_quant_config.json",
        "unexpected keyword argument hf_overrides, hf_transfer",
    ],
)
def test_what_only_looks_alike_stays(text):
    assert scrub_text(text) == text


def test_options_keep_their_shape_and_lose_their_secrets():
    options = {
        "env": {"HF_TOKEN": "hf_abcdefgh1234", "NCCL_NET": "IB", "TINY_KEY": "x1", "N": 1, "HF_TOKEN_PATH": "/root/t"},
        "extra_args": ["--api-key", "one-key-long", "another-long", "--port", "8000", "--hf-token=equals-long"],
        "layout": {"name": "tp1", "env": {"S3_SECRET": "deep-secret"}, "tp": 1}, "timeout_s": 60, "container": "", "flag": True,
    }  # fmt: skip
    clean, secrets = scrub_options(options)
    hidden = "[scrubbed]"
    assert clean["env"] == dict(options["env"], HF_TOKEN=hidden, TINY_KEY=hidden, HF_TOKEN_PATH=hidden)
    assert clean["extra_args"] == ["--api-key", hidden, hidden, "--port", "8000", "--hf-token=" + hidden]
    assert clean["layout"] == {"name": "tp1", "env": {"S3_SECRET": hidden}, "tp": 1}
    assert {key: clean[key] for key in ("timeout_s", "container", "flag")} == {"timeout_s": 60, "container": "", "flag": True}
    assert secrets == {"hf_abcdefgh1234", "one-key-long", "another-long", "equals-long", "deep-secret"}, "no 1, no x1, no path"
