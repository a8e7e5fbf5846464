"""Secrets go, numbers stay."""

from __future__ import annotations

import shlex

import pytest
from ansible.module_utils.plumbline.core.scrub import scrub_environment, scrub_text
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


def test_environment_that_a_fact_keeps():
    env = {"NCCL_NET": "IB", "HF_TOKEN": "two words", "S3_SECRET_KEY": "x", "NOTE": "hf_abcdefgh12", "VLLM_MAX_TOKENS": 5}
    assert scrub_environment(env) == {
        "HF_TOKEN": "[scrubbed]", "NCCL_NET": "IB", "NOTE": "[scrubbed]", "S3_SECRET_KEY": "[scrubbed]", "VLLM_MAX_TOKENS": "5",
    }  # fmt: skip
    assert list(scrub_environment(env)) == sorted(env)
