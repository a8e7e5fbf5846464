"""What an image is called, and what an engine is asked for."""

from __future__ import annotations

import pytest
from ansible.module_utils.plumbline.serving.image.reference import Reference

DIGEST = "sha256:" + "1b" * 32


@pytest.mark.parametrize(
    "text, registry, wanted, pinned",
    [
        ("vllm/vllm-openai@" + DIGEST, "docker.io", "vllm/vllm-openai@" + DIGEST, True),
        ("vllm/vllm-openai:v0.20.0@" + DIGEST, "docker.io", "vllm/vllm-openai@" + DIGEST, True),
        ("docker.io/vllm/vllm-openai@" + DIGEST, "docker.io", "docker.io/vllm/vllm-openai@" + DIGEST, True),
        ("registry:5000/plumbline/vllm-cpu@" + DIGEST, "registry:5000", "registry:5000/plumbline/vllm-cpu@" + DIGEST, True),
        ("localhost/a@" + DIGEST, "localhost", "localhost/a@" + DIGEST, True),
        ("acr.azurecr.io/vllm:1", "acr.azurecr.io", "acr.azurecr.io/vllm:1", False),
        ("registry:5000/vllm", "registry:5000", "registry:5000/vllm:latest", False),
        ("plumbline/vllm-cpu:lab", "docker.io", "plumbline/vllm-cpu:lab", False),
        ("debian", "docker.io", "debian:latest", False),
        (DIGEST, "docker.io", DIGEST, True),
    ],
)
def test_a_name_is_read_as_an_engine_reads_it(text, registry, wanted, pinned):
    found = Reference(text)
    assert (found.registry, found.wanted, found.pinned) == (registry, wanted, pinned)


@pytest.mark.parametrize(
    "text", ["", "a@sha256:12", "a@md5:" + "0" * 32, "Upper/case", "a b", "registry:5000/", "sha256:12", "a@" + DIGEST.upper()]
)
def test_what_no_engine_takes_is_refused_with_words(text):
    with pytest.raises(ValueError, match="is no (name of an image|digest), expected"):
        Reference(text)
