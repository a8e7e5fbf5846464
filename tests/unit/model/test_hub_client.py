"""What the real client says when it fails, and what it is called."""

from __future__ import annotations

import pytest
from ansible.module_utils.plumbline.model import hub_client

HINT = "Hint: set HF_DEBUG=1 as environment variable for full traceback.\n"
AT = "http://hub/plumb/Tiny-1B/resolve/aaaa/m.safetensors"
# Where a traceback stands in no line of code may look like an answer of the hub.
TRACEBACK = 'Traceback (most recent call last):\n  File "/x/httpx2/_client.py", line 503, in send\n    401 Unauthorized = 429\n'


# Real output of huggingface_hub 2.4.0, shortened.
@pytest.mark.parametrize(
    ("said", "check", "passing"),
    [
        ("Error: Access denied. Model 'plumb/Tiny-1B' requires approval.\n" + HINT, "hub.gated", False),
        ("Error: Local entry not found. 403 Forbidden: no.\nCannot access content at: %s.\n" % AT + HINT, "hub.gated", False),
        (
            "Error: Client error '401 Unauthorized' for url '%s'\nFor more information check: https://d/401\n" % AT + HINT,
            "hub.token",
            False,
        ),
        ("Error: File not found in model 'plumb/Tiny-1B'.\nURL: %s\n" % AT + HINT, "hub.repository", False),
        (
            "HTTP Error 429 thrown while requesting HEAD x\nRetrying in 8s [Retry 5/5].\n"
            "Error: Local entry not found. Server error '503 Service Unavailable' for url '%s'\n" % AT + HINT,
            "hub.unavailable",
            True,
        ),
        (
            "HTTP Error 503 thrown while requesting HEAD x\nRetrying in 8s [Retry 5/5].\n"
            "Error: Local entry not found. 429 Too Many Requests for url: %s.\n" % AT + HINT,
            "hub.rate_limit",
            True,
        ),
        (TRACEBACK + "httpx2.ConnectError: [Errno 111] Connection refused\n", "hub.unreachable", True),
        (TRACEBACK + "httpx2.RemoteProtocolError: peer closed connection without sending complete message body\n", "hub.unreachable", True),
        (TRACEBACK + "OSError: [Errno 28] No space left on device\n", "model.disk", False),
        (TRACEBACK + "ImportError: no module\n", "hub.client", False),
        ("", "hub.client", False),
    ],
)
def test_what_the_client_says_is_named(said, check, passing):
    problem = hub_client.explain(1, said, "")
    assert (problem.check, problem.passing) == (check, passing) and problem.remedy and "status 1" in problem.seen


def test_no_token_gets_into_what_is_told():
    problem = hub_client.explain(1, "Error: odd hfMadeUpSecret4711 and hf_abcdefghijkl\n", "hfMadeUpSecret4711")
    assert "4711" not in problem.seen and "abcdefgh" not in problem.seen


def test_xet_is_only_on_for_files_that_need_it(monkeypatch):
    monkeypatch.setenv("https_proxy", "http://proxy:3128")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    env = hub_client.environment("https://hub", "", "/home", 5_000_000_000)
    assert env["HF_HUB_DISABLE_XET"] == "1" and env["https_proxy"] == "http://proxy:3128"
    assert "HF_TOKEN" not in env and "HF_HUB_OFFLINE" not in env
    assert "HF_HUB_DISABLE_XET" not in hub_client.environment("https://hub", "", "/home", 60_000_000_000)
